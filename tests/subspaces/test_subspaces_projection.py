"""What of an update lies inside a subspace, and what is left without it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from planted import dense, frame, random_update

from lorasub.errors import ConfigError
from lorasub.subspaces import LayerSubspace, LowRankUpdate, ProjectedOut, SubspaceBasis, explained_fraction, project_out


def projectors(layer: LayerSubspace) -> tuple[np.ndarray, np.ndarray]:
    return (layer.U @ layer.U.T).numpy(), (layer.V @ layer.V.T).numpy()


def test_explained_fraction_equals_dense_projection() -> None:
    layers = {name: LayerSubspace(U=frame(20, 4, i), V=frame(15, 3, 5 + i)) for i, name in enumerate("ab")}
    updates = {name: random_update(20, 15, 5, i, scale=1 + i) for i, name in enumerate("ab")}
    found = explained_fraction(SubspaceBasis(layers=layers), updates)
    kept, whole = 0.0, 0.0
    for entry in found.layers:
        P, Q = projectors(layers[entry.path])
        D = dense(updates[entry.path])
        energy = np.linalg.norm(D) ** 2
        assert entry.norm == pytest.approx(np.sqrt(energy))
        assert entry.output == pytest.approx(np.linalg.norm(P @ D) ** 2 / energy)
        assert entry.input == pytest.approx(np.linalg.norm(D @ Q) ** 2 / energy)
        assert entry.both == pytest.approx(np.linalg.norm(P @ D @ Q) ** 2 / energy)
        assert entry.chance == pytest.approx(4 / 20 * 3 / 15)
        kept, whole = kept + np.linalg.norm(P @ D @ Q) ** 2, whole + energy
    assert found.total.both == pytest.approx(kept / whole)
    json.dumps(found.to_dict())
    assert found.rows()[0]["path"] == "all"


def test_chance_is_the_mean_over_random_bases() -> None:
    update = random_update(20, 15, 5, 0)
    values = []
    for seed in range(300):
        layer = LayerSubspace(U=frame(20, 4, 2 * seed), V=frame(15, 3, 2 * seed + 1))
        values.append(explained_fraction(SubspaceBasis(layers={"w": layer}), {"w": update}).total)
    assert np.mean([v.both for v in values]) == pytest.approx(values[0].chance, rel=0.1)


def test_scaled_columns_span_the_same() -> None:
    layer = LayerSubspace(U=frame(20, 4, 0), V=frame(15, 4, 1))
    root = torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    scaled = LayerSubspace(U=layer.U * root, V=layer.V * root)
    update = {"w": random_update(20, 15, 5, 0)}
    one, two = (explained_fraction(SubspaceBasis(layers={"w": which}), update).total.both for which in (layer, scaled))
    assert one == pytest.approx(two)


def test_project_out_removes_both_sides_and_nothing_else() -> None:
    layer = LayerSubspace(U=frame(20, 4, 0), V=frame(15, 3, 1))
    update = random_update(20, 15, 5, 2, scale=0.5)
    P, Q = projectors(layer)
    rest = project_out(update, layer)
    assert rest.r == 5
    assert np.allclose(dense(rest), (np.eye(20) - P) @ dense(update) @ (np.eye(15) - Q))
    empty = LayerSubspace(U=torch.zeros(20, 0), V=torch.zeros(15, 0))
    assert np.allclose(dense(project_out(update, empty)), dense(update))


def test_projected_adapter_is_lazy_and_leaves_other_layers() -> None:
    layer = LayerSubspace(U=frame(20, 4, 0), V=frame(15, 3, 1))
    updates = {"a": random_update(20, 15, 5, 2), "b": random_update(9, 8, 2, 3)}
    rest = ProjectedOut(updates, SubspaceBasis(layers={"a": layer}))
    assert list(rest) == ["a", "b"]
    assert len(rest) == 2
    assert rest["b"] is updates["b"]
    assert np.allclose(dense(rest["a"]), dense(project_out(updates["a"], layer)))


def test_mismatches_are_named() -> None:
    basis = SubspaceBasis(layers={"a": LayerSubspace(U=frame(20, 4, 0), V=frame(15, 3, 1))})
    with pytest.raises(ConfigError, match="no layer 'a'"):
        explained_fraction(basis, {})
    with pytest.raises(ConfigError, match=r"layer 'a' has shape \(9, 8\) in the adapter and \(20, 15\)"):
        explained_fraction(basis, {"a": random_update(9, 8, 2, 0)})
    silent = {"a": LowRankUpdate(torch.zeros(20, 2), torch.zeros(2, 15))}
    with pytest.raises(ConfigError, match="has changed no layer"):
        _ = explained_fraction(basis, silent).total
