"""Bases from second moments, against SVDs, planted directions and exhaustive search."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import pytest
import torch
from planted import frame
from torch import Tensor

from lorasub.errors import ConfigError, NumericalError
from lorasub.subspaces import LayerGradients, RowMoments, SideMoments, joined_moments, moment_basis, specific_moments
from lorasub.subspaces.moment_basis import dimensions_within


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def low_rank(U: Tensor, V: Tensor, seed: int, noise: float = 0.0) -> Tensor:
    """A gradient within two subspaces, and noise."""
    return U @ normal(U.shape[1], V.shape[1], seed=seed) @ V.T + noise * normal(len(U), len(V), seed=seed + 1000)


def moments_of(gradients: list[Tensor], layer: str = "layer") -> SideMoments:
    kept = LayerGradients(moments=True)
    for gradient in gradients:
        kept.add(layer, gradient)
    return kept.side_moments()


def held(columns: Tensor, planted: Tensor) -> float:
    """Mean squared cosine of planted directions with a span."""
    return float((torch.linalg.qr(columns.double()).Q.T @ planted).square().sum() / planted.shape[1])


def test_of_one_gradient_they_are_its_singular_vectors() -> None:
    G = normal(7, 5)
    U, S, Vh = np.linalg.svd(G.numpy())
    (layer,) = moment_basis(moments_of([G]), dim=3).layers.values()
    assert np.abs(np.diag(layer.U.double().numpy().T @ U[:, :3])) == pytest.approx(1.0, abs=1e-4)
    assert np.abs(np.diag(layer.V.double().numpy().T @ Vh[:3].T)) == pytest.approx(1.0, abs=1e-4)
    # the two sides hold the energy of the truncated SVD
    assert float((layer.U.double().T @ G @ layer.V.double()).norm()) == pytest.approx(
        float(np.sqrt((S[:3] ** 2).sum()))
    )


def test_a_planted_subspace_is_found_beneath_noise() -> None:
    U, V = frame(20, 3, 1), frame(14, 3, 2)
    basis = moment_basis(moments_of([low_rank(U, V, seed, noise=0.05) for seed in range(12)]), dim=3)
    (layer,) = basis.layers.values()
    assert held(layer.U, U) > 0.98
    assert held(layer.V, V) > 0.98
    assert basis.dims == {"layer": (3, 3)}


def test_moments_of_weights_are_principal_singular_vectors() -> None:
    W = normal(6, 9)
    U, _, Vh = torch.linalg.svd(W)
    (layer,) = moment_basis(SideMoments.of_weights({"a": W}), dim=2).layers.values()
    assert held(layer.U, U[:, :2]) == pytest.approx(1.0, abs=1e-6)
    assert held(layer.V, Vh[:2].T) == pytest.approx(1.0, abs=1e-6)


def test_leading_directions_of_large_moments_are_those_of_all_eigenvectors() -> None:
    Q = frame(1600, 64, 3)  # decomposed by random projections
    moment = (Q * torch.logspace(0, -3, 64, dtype=torch.float64)) @ Q.T
    small = (Q[:9, :9] * torch.logspace(0, -3, 9, dtype=torch.float64)) @ Q[:9, :9].T
    (layer,) = moment_basis(SideMoments(output={"a": moment.float()}, input={"a": small}), dim=8).layers.values()
    assert torch.linalg.svdvals(Q[:, :8].T @ layer.U.double()).min() > 1 - 1e-4
    torch.testing.assert_close(layer.U.T @ layer.U, torch.eye(8), atol=1e-5, rtol=0)


def test_what_is_specific_leaves_out_what_all_share() -> None:
    shared, own, other = frame(24, 6, 5).split(2, dim=1)
    V = frame(10, 4, 6)

    def scenes(part: Tensor, first: int) -> SideMoments:
        both = torch.cat([2.0 * shared, part], dim=1)
        return moments_of([low_rank(both, V, seed) for seed in range(first, first + 300)])

    groups = {"a": scenes(own, 0), "b": scenes(other, 1000)}
    (raw,) = moment_basis(groups["a"], dim=2).layers.values()
    assert held(raw.U, shared) > 0.9
    specific = specific_moments(groups)
    assert float(specific["a"].output["layer"].trace()) == pytest.approx(0.0, abs=1e-5)
    (layer,) = moment_basis(specific["a"], dim=2).layers.values()
    assert held(layer.U, own) > 0.95
    assert held(layer.U, shared) < 0.05


def test_joined_groups_count_alike() -> None:
    one, two = moments_of([normal(4, 3, seed=1)]), moments_of([normal(4, 3, seed=s) for s in range(2, 12)])
    joined = joined_moments({"one": one, "two": two})
    expected = (one.output["layer"] + two.output["layer"] / 10) / 2
    torch.testing.assert_close(joined.output["layer"], expected)


def test_energy_takes_as_few_columns_as_hold_it() -> None:
    values = torch.tensor([8.0, 4.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    Q, P = frame(9, 5, 7), frame(6, 5, 8)
    moments = SideMoments(output={"a": (Q * values) @ Q.T}, input={"a": (P * values.square()) @ P.T})
    # 8/16, 12/16, 14/16 on one side; 64/86, 80/86 on the other
    for share, dims in ((0.5, (1, 1)), (0.74, (2, 1)), (0.8, (3, 2)), (1.0, (5, 5))):
        assert moment_basis(moments, dim=f"energy:{share}").dims["a"] == dims


@pytest.mark.parametrize("budget", [3, 5, 8, 13, 21, 40])
def test_a_budget_is_spent_about_as_well_as_by_exhaustive_search(budget: int) -> None:
    generator = torch.Generator().manual_seed(budget)
    shares = {}
    for layer in "abc":
        sides = []
        for _ in range(2):
            values = torch.rand(4, generator=generator, dtype=torch.float64).sort(descending=True).values ** 3
            sides.append(torch.cat([torch.zeros(1, dtype=torch.float64), values.cumsum(0) / values.sum()]))
        shares[layer] = (sides[0], sides[1])
    energy = {"a": 1.0, "b": 4.0, "c": 0.3}

    def total(dims: dict[str, tuple[int, int]]) -> float:
        return sum(energy[k] * float(shares[k][0][o] * shares[k][1][i]) for k, (o, i) in dims.items())

    found = dimensions_within(budget, shares, energy)
    assert sum(o * i for o, i in found.values()) <= budget
    sizes = list(itertools.product(range(1, 5), repeat=2))
    best = max(
        total(dict(zip("abc", dims, strict=True)))
        for dims in itertools.product(sizes, repeat=3)
        if sum(o * i for o, i in dims) <= budget
    )
    assert total(found) >= 0.97 * best
    assert total(found) > total(dict.fromkeys("abc", (1, 1))) or budget < 5


def test_a_budget_goes_where_the_energy_is() -> None:
    U, V = frame(12, 5, 9), frame(12, 5, 10)
    kept = LayerGradients(moments=True)
    for seed in range(8):
        kept.add("strong", 10.0 * low_rank(U, V, seed))
        kept.add("weak", 0.1 * low_rank(U, V, seed))
    dims = moment_basis(kept.side_moments(), budget=26).dims
    assert dims == {"strong": (5, 5), "weak": (1, 1)}


def test_columns_may_be_scaled_by_the_spectrum() -> None:
    values = torch.tensor([16.0, 1.0, 0.0], dtype=torch.float64)
    Q = frame(5, 3, 11)
    moment = (Q * values) @ Q.T
    basis = moment_basis(SideMoments(output={"a": moment}, input={"a": moment}), dim=2, columns="spectrum")
    lengths = basis.layers["a"].U.norm(dim=0)
    # as 2 to 1, with mean square 1
    torch.testing.assert_close(lengths, torch.tensor([2.0, 1.0]) * (2 / 5) ** 0.5)
    assert basis.scaled


def test_columns_of_kfac_see_a_round_curvature() -> None:
    gradients = [normal(8, 6, seed=s) for s in range(4)]
    root_out, root_in = normal(8, 8, seed=20), normal(6, 6, seed=21)
    curvature = SideMoments(output={"layer": root_out @ root_out.T}, input={"layer": root_in @ root_in.T})
    moments = moments_of(gradients)
    basis = moment_basis(moments, dim=3, columns="kfac", curvature=curvature)
    plain = moment_basis(moments, dim=3)
    for side, curve in (("U", curvature.output), ("V", curvature.input)):
        columns = getattr(basis.layers["layer"], side).double()
        seen = columns.T @ curve["layer"] @ columns
        torch.testing.assert_close(seen, torch.eye(3, dtype=torch.float64) * seen.trace() / 3, rtol=0.02, atol=0.02)
        assert held(columns, getattr(plain.layers["layer"], side).double()) == pytest.approx(1.0, abs=1e-5)
        assert float(columns.square().sum()) == pytest.approx(3.0, rel=1e-5)


def test_rows_are_those_of_numpy() -> None:
    rows, kept = [normal(5, 3, seed=s) + 2.0 for s in range(3)], RowMoments()
    for each in rows:
        kept.add("a", each)
    stacked = torch.cat(rows).numpy()
    assert np.allclose(kept.mean_square("a"), stacked.T @ stacked / 15, atol=1e-4)
    assert np.allclose(kept.mean_square("a", centered=True), np.cov(stacked.T, bias=True), atol=1e-4)
    with pytest.raises(NumericalError, match="layer a"):
        kept.add("a", torch.full((1, 3), torch.inf))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 3, "budget": 4}, "not both"),
        ({"dim": 9}, "layer 'layer' has 5 features"),
        ({"dim": "gap"}, "takes a number"),
        ({"columns": "kfac"}, "needs a curvature"),
        ({"budget": 0}, "less than one number"),
    ],
)
def test_mistakes_are_told_in_words(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        moment_basis(moments_of([normal(5, 4)]), **options)


def test_more_dimensions_than_the_gradients_have_are_refused() -> None:
    exact = torch.zeros(5, 4)
    exact[0, 0] = 1.0
    with pytest.raises(ConfigError, match="1 eigenvalues above zero where 3"):
        moment_basis(moments_of([exact]), dim=3)
    with pytest.raises(ConfigError, match="at least two"):
        specific_moments({"a": moments_of([exact])})


@pytest.mark.parametrize("small", [1536, 100], ids=["all eigenvectors", "leading ones"])
def test_energy_takes_more_columns_where_it_is_spread_out(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # a function of the module's name stands before it
    monkeypatch.setattr(sys.modules["lorasub.subspaces.moment_basis"], "_SMALL", small)
    moments = SideMoments(output={"a": torch.eye(700)}, input={"a": torch.eye(300)})
    assert moment_basis(moments, dim="energy:0.499").dims["a"] == (350, 150)  # of equal eigenvalues, half of them


@pytest.mark.parametrize("kind", ["rows", "gradients"])
def test_sums_are_in_full_precision_under_autocast(kind: str) -> None:
    """In bfloat16 a sum stands still as soon as it is 256 times as large as what is added."""
    sums: Any = RowMoments() if kind == "rows" else LayerGradients(moments=True, unit=False)
    x = torch.randn(8, 5)
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(600):
            sums.add("a", x)
    found = sums.second["a"] if kind == "rows" else sums.input_moment["a"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, 600 * x.T @ x, rtol=1e-4, atol=1e-2)
