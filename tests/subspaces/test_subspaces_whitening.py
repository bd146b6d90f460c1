"""Mining of whitened updates, against plain mining of products that are formed by hand."""

from __future__ import annotations

import pytest
import torch
from planted import frame, random_update
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.subspaces import LowRankUpdate, SideMoments, mine_updates, mine_whitened


def spd(n: int, seed: int) -> Tensor:
    values = torch.logspace(0, -2, n, dtype=torch.float64)
    Q = frame(n, n, seed)
    return (Q * values) @ Q.T


def adapters(k: int = 4) -> list[dict[str, LowRankUpdate]]:
    return [{"a": random_update(9, 7, 2, seed)} for seed in range(k)]


def projector(columns: Tensor) -> Tensor:
    Q = torch.linalg.qr(columns.double()).Q
    return Q @ Q.T


def test_with_a_round_curvature_it_is_plain_mining() -> None:
    curvature = SideMoments(
        output={"a": 3.0 * torch.eye(9, dtype=torch.float64)}, input={"a": 0.5 * torch.eye(7, dtype=torch.float64)}
    )
    found, plain = mine_whitened(adapters(), curvature, dim=3), mine_updates(adapters(), dim=3)
    torch.testing.assert_close(projector(found.layers["a"].U), projector(plain.layers["a"].U), atol=1e-5, rtol=0)
    torch.testing.assert_close(projector(found.layers["a"].V), projector(plain.layers["a"].V), atol=1e-5, rtol=0)


def test_the_plain_mean_is_the_best_approximation_in_the_curvatures_norm() -> None:
    """alpha = 2: the truncated SVD of C_g^1/2 mean C_x^1/2, brought back, by dense arithmetic."""
    C_g, C_x = spd(9, 1), spd(7, 2)
    found = mine_whitened(
        adapters(), SideMoments(output={"a": C_g}, input={"a": C_x}), damping=0.0, dim=2, alpha=2.0
    ).layers["a"]
    mean = torch.stack([u["a"].scale * u["a"].B @ u["a"].A for u in adapters()]).mean(0)

    def root(C: Tensor, power: float) -> Tensor:
        values, vectors = torch.linalg.eigh(C)
        return (vectors * values**power) @ vectors.T

    U, _, Vh = torch.linalg.svd(root(C_g, 0.5) @ mean @ root(C_x, 0.5))
    torch.testing.assert_close(projector(found.U), projector(root(C_g, -0.5) @ U[:, :2]), atol=1e-4, rtol=0)
    torch.testing.assert_close(projector(found.V), projector(root(C_x, -0.5) @ Vh[:2].T), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.U.T @ found.U, torch.eye(2), atol=1e-5, rtol=0)


def test_a_direction_that_no_input_takes_does_not_count() -> None:
    """All adapters share a strong update of an input that is never there, and a weak one of an input that is."""
    silent, heard = torch.eye(7, dtype=torch.float64)[:2]
    out = frame(9, 2, 3)
    shared = [
        {"a": LowRankUpdate(B=out, A=torch.stack([5.0 * silent, heard]) + 0.01 * torch.randn(2, 7).double())}
        for _ in range(3)
    ]
    C_x = torch.diag(torch.tensor([1e-6, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    curvature = SideMoments(output={"a": torch.eye(9, dtype=torch.float64)}, input={"a": C_x})
    plain = mine_updates(shared, dim=1).layers["a"]
    white = mine_whitened(shared, curvature, damping=1e-9, dim=1).layers["a"]
    assert abs(float(plain.V[0, 0])) > 0.99
    assert abs(float(white.U[:, 0].double() @ out[:, 1])) > 0.99
    assert abs(float(plain.U[:, 0].double() @ out[:, 0])) > 0.99


def test_a_curvature_of_other_layers_is_refused() -> None:
    some = SideMoments(output={"b": torch.eye(9)}, input={"b": torch.eye(7)})
    with pytest.raises(ConfigError, match="no curvature of layer 'a'"):
        mine_whitened(adapters(), some, dim=1)
    with pytest.raises(ConfigError, match=r"of \(8, 7\) features"):
        mine_whitened(adapters(), SideMoments(output={"a": torch.eye(8)}, input={"a": torch.eye(7)}), dim=1)
