"""Combining attributes, and the control bases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import frame
from scipy.linalg import subspace_angles

from lorasub.errors import ArtefactError, ConfigError
from lorasub.subspaces import (
    LayerSubspace,
    SubspaceBasis,
    attribute_survival,
    combine_subspaces,
    principal_basis,
    random_basis,
    survival_rows,
)
from lorasub.subspaces.combine import pivoted_columns


def basis_of(U: torch.Tensor, V: torch.Tensor, **fields: object) -> SubspaceBasis:
    S = torch.linspace(3, 1, U.shape[1], dtype=torch.float64) if U.shape[1] == V.shape[1] else None
    return SubspaceBasis(layers={"w": LayerSubspace(U=U, V=V, S=S)}, **fields)  # type: ignore[arg-type]


def test_spans_add_up_and_columns_are_orthonormal() -> None:
    parts = {name: basis_of(frame(30, 3, i), frame(25, 3, 10 + i)) for i, name in enumerate("abc")}
    combined = combine_subspaces(parts)
    layer = combined.layers["w"]
    assert (layer.d_out, layer.d_in) == (9, 9)
    assert combined.attributes == ("a", "b", "c")
    assert torch.allclose(layer.U.T @ layer.U, torch.eye(9, dtype=torch.float64), atol=1e-12)
    stacked = torch.cat([part.layers["w"].U for part in parts.values()], dim=1).numpy()
    assert subspace_angles(layer.U.numpy(), stacked).max() < 1e-7
    assert [layer.U_attributes.count(name) for name in "abc"] == [3, 3, 3]
    assert combined.options["from"] == {name: part.hash() for name, part in parts.items()}


def test_shared_directions_are_kept_once() -> None:
    """a and b share two of three output directions and none of the input directions."""
    U = frame(30, 4, 0)
    parts = {"a": basis_of(U[:, :3], frame(25, 3, 1)), "b": basis_of(U[:, 1:] @ frame(3, 3, 5), frame(25, 3, 2))}
    layer = combine_subspaces(parts).layers["w"]
    assert (layer.d_out, layer.d_in) == (4, 6)
    assert len(layer.U_attributes) == 4
    assert set(layer.U_attributes) == {"a", "b"}
    for row in survival_rows(attribute_survival(combine_subspaces(parts), parts)):
        assert row["output"] == pytest.approx(1, abs=1e-10)
        assert row["input"] == pytest.approx(1, abs=1e-10)
        assert row["kept_in"] == 3


@pytest.mark.parametrize(("tolerance", "kept"), [(0.05, 2), (0.15, 1)])
def test_tolerance_is_the_sine_of_the_angle(tolerance: float, kept: int) -> None:
    eye = torch.eye(10, dtype=torch.float64)
    tilted = np.cos(0.1) * eye[:, :1] + np.sin(0.1) * eye[:, 1:2]
    parts = {"a": basis_of(eye[:, :1], eye[:, :1]), "b": basis_of(tilted, eye[:, 1:2])}
    combined = combine_subspaces(parts, tolerance=tolerance)
    assert combined.dims == {"w": (kept, 2)}
    entry = {e.attribute: e for e in attribute_survival(combined, parts)}
    assert entry["a"].output == pytest.approx(1)
    assert entry["b"].output == pytest.approx(1 if kept == 2 else np.cos(0.1) ** 2)
    assert (entry["a"].kept_out, entry["b"].kept_out) == (1, kept - 1)


def test_columns_come_by_strength_whatever_their_attribute() -> None:
    """First one direction of each attribute, then the second of each, also where they are not quite orthogonal."""
    eye = torch.eye(12, dtype=torch.float64)
    parts = {"a": basis_of(eye[:, :2], eye[:, :2]), "b": basis_of(eye[:, 2:4], eye[:, 2:4])}
    assert combine_subspaces(parts).layers["w"].U_attributes == ("a", "b", "a", "b")
    random = {name: basis_of(frame(40, 3, i), frame(40, 3, 5 + i)) for i, name in enumerate("ab")}
    assert combine_subspaces(random).layers["w"].V_attributes == ("a", "b") * 3


def test_one_attribute_and_a_full_space() -> None:
    part = basis_of(frame(6, 3, 0), frame(5, 3, 1))
    assert combine_subspaces({"a": part}).dims == {"w": (3, 3)}
    full = {"a": basis_of(frame(4, 3, 0), frame(5, 3, 1)), "b": basis_of(frame(4, 3, 2), frame(5, 3, 3))}
    assert combine_subspaces(full).dims == {"w": (4, 5)}


def test_empty_layers() -> None:
    none = basis_of(torch.zeros(6, 0), torch.zeros(5, 0))
    assert combine_subspaces({"a": none, "b": none}).dims == {"w": (0, 0)}
    some = basis_of(frame(6, 2, 0).float(), frame(5, 2, 1).float())
    combined = combine_subspaces({"a": none, "b": some})
    assert combined.dims == {"w": (2, 2)}
    assert combined.layers["w"].U_attributes == ("b", "b")


def test_scaled_keeps_the_columns_of_the_paper() -> None:
    parts = {name: basis_of(frame(30, 2, i), frame(25, 2, 10 + i)) for i, name in enumerate("ab")}
    combined = combine_subspaces(parts, scaled=True)
    layer = combined.layers["w"]
    assert combined.scaled
    for i, name in enumerate("ab"):
        part = parts[name].layers["w"]
        assert part.S is not None
        own = slice(2 * i, 2 * i + 2)
        # U S^(1/2) (V S^(1/2))^T is the mined update itself
        assert torch.allclose(layer.U[:, own] @ layer.V[:, own].T, (part.U * part.S) @ part.V.T, atol=1e-12)
    assert layer.U_attributes == ("a", "a", "b", "b")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(3, 15), m=st.integers(1, 10), rank=st.integers(1, 6))
def test_pivoting_finds_the_rank(seed: int, n: int, m: int, rank: int) -> None:
    generator = np.random.default_rng(seed)
    columns = generator.standard_normal((n, rank)) @ generator.standard_normal((rank, m))
    columns /= np.linalg.norm(columns, axis=0)
    Q, order = pivoted_columns(torch.from_numpy(columns), tolerance=1e-9)
    assert Q.shape[1] == np.linalg.matrix_rank(columns, tol=1e-8) == len(set(order))
    found = Q.numpy()
    assert np.abs(found.T @ found - np.eye(found.shape[1])).max() < 1e-12
    assert np.abs(columns - found @ (found.T @ columns)).max() < 1e-8


def test_pivoting_stays_orthogonal_among_nearly_parallel_columns() -> None:
    a, b, c, d = np.random.default_rng(0).standard_normal((4, 30))
    columns = np.stack([a, a + 1e-7 * b, c, c + 1e-7 * d], axis=1)
    columns /= np.linalg.norm(columns, axis=0)
    Q, order = pivoted_columns(torch.from_numpy(columns), tolerance=1e-10)
    assert order == [0, 2, 1, 3]
    assert np.abs((Q.T @ Q).numpy() - np.eye(4)).max() < 1e-12


def test_bad_input() -> None:
    one = basis_of(frame(9, 2, 0), frame(8, 2, 1), base_model_hash="x")
    with pytest.raises(ConfigError, match="nothing to combine"):
        combine_subspaces({})
    with pytest.raises(ConfigError, match=r"tolerance=1\.0"):
        combine_subspaces({"a": one}, tolerance=1.0)
    with pytest.raises(ConfigError, match=r"layer 'w' has different shapes: \(7, 8\) in 'b' and \(9, 8\) in 'a'"):
        combine_subspaces({"a": one, "b": basis_of(frame(7, 2, 0), frame(8, 2, 1))})
    with pytest.raises(ConfigError, match="'b' and 'a' do not cover the same layers, such as 'v'"):
        combine_subspaces({"a": one, "b": SubspaceBasis(layers={"v": one.layers["w"]})})
    with pytest.raises(ArtefactError, match="basis 'b' is of base weights y, basis 'a' of x"):
        combine_subspaces({"a": one, "b": SubspaceBasis(layers=one.layers, base_model_hash="y")})
    with pytest.raises(ConfigError, match="layer 'w' of 'a' has no singular values"):
        combine_subspaces({"a": combine_subspaces({"a": one})}, scaled=True)
    with pytest.raises(ConfigError, match="12 columns side by side are more than its 9 outputs or 8 inputs"):
        combine_subspaces(dict.fromkeys("abcdef", one), scaled=True)


# --- controls --------------------------------------------------------------------------------------------------------


def test_random_basis_depends_on_seed_and_path_only() -> None:
    one = random_basis({"a": (9, 8), "b": (7, 6)}, 3, seed=1)
    two = random_basis({"b": (7, 6)}, 3, seed=1)
    assert torch.equal(one.layers["b"].U, two.layers["b"].U)
    assert not torch.equal(one.layers["b"].U, random_basis({"b": (7, 6)}, 3, seed=2).layers["b"].U)
    assert one.dims == {"a": (3, 3), "b": (3, 3)}
    assert torch.allclose(one.layers["a"].V.T @ one.layers["a"].V, torch.eye(3), atol=1e-6)
    with pytest.raises(ConfigError, match=r"layer 'b' of shape \(7, 6\) cannot have a basis of 7"):
        random_basis({"b": (7, 6)}, 7)


def test_principal_basis_is_the_svd_of_the_weight() -> None:
    weight = torch.randn(12, 3, 2, 2)
    layer = principal_basis({"conv": weight}, 4).layers["conv"]
    U, S, Vh = np.linalg.svd(weight.reshape(12, 12).double().numpy())
    assert layer.S is not None
    assert layer.S.numpy() == pytest.approx(S[:4])
    assert subspace_angles(layer.U.double().numpy(), U[:, :4]).max() < 1e-5
    assert subspace_angles(layer.V.double().numpy(), Vh[:4].T).max() < 1e-5
    weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ArtefactError, match="the weight of layer 'conv' holds NaN"):
        principal_basis({"conv": weight}, 4)
