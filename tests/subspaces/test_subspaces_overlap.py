"""Overlap measures against scipy and generalised eigenproblems; their nulls against closed forms and simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import frame, planted, random_update

from lorasub.errors import ArtefactError, ConfigError
from lorasub.subspaces import (
    LayerSubspace,
    Measurement,
    SideOverlap,
    SubspaceBasis,
    attribute_overlaps,
    energy_null,
    layer_kind,
    overlap_matrix,
    overlap_measures,
    phi_null,
    principal_angles,
    random_angles,
    random_basis,
    subspace_overlap,
    two_sided_energy,
)

PATHS = (
    "aggregator.frame_blocks.0.attn.qkv",
    "aggregator.frame_blocks.1.mlp.fc1",
    "aggregator.global_blocks.0.attn.qkv",
)


def near(first: torch.Tensor, angle: float, seed: int) -> torch.Tensor:
    """A span at a given angle to ``first`` in every direction."""
    other = frame(len(first), first.shape[1], seed)
    other = torch.linalg.qr(other - first @ (first.T @ other)).Q
    return math.cos(angle) * first + math.sin(angle) * other


def basis_of(seed: int, d: int = 4, n: int = 60, **fields: object) -> SubspaceBasis:
    layers = {
        path: LayerSubspace(
            U=frame(n, d, seed + 10 * i).float(),
            V=frame(n - 10, d, seed + 10 * i + 5).float(),
            S=torch.linspace(2, 1, d, dtype=torch.float64),
        )
        for i, path in enumerate(PATHS)
    }
    return SubspaceBasis(layers=layers, **fields)  # type: ignore[arg-type]


# --- measures --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(12, 40), d1=st.integers(1, 6), d2=st.integers(1, 6))
def test_angles_equal_scipy(seed: int, n: int, d1: int, d2: int) -> None:
    one, two = frame(n, d1, seed), frame(n, d2, seed + 1)
    expected = np.sort(scipy.linalg.subspace_angles(one.numpy(), two.numpy()))
    assert principal_angles(one, two).numpy() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-9, 1e-6, 1e-3, 0.5, 1.5])
def test_small_angles_are_exact(angle: float) -> None:
    one = frame(30, 3, 0)
    found = principal_angles(one, near(one, angle, 1)).numpy()
    assert found == pytest.approx([angle] * 3, rel=1e-6, abs=1e-14)


def test_forced_intersections_are_zero() -> None:
    """Spans of 4 and 5 dimensions in 6 share three. (scipy gives up to 1.5e-8 here.)"""
    for seed in range(20):
        found = principal_angles(frame(6, 4, seed), frame(6, 5, 100 + seed))
        assert found[:3].max() < 1e-12
        assert found[3] > 1e-3


def test_angles_in_batches() -> None:
    one = torch.stack([frame(20, 3, i) for i in range(4)])
    two = torch.stack([frame(20, 5, 10 + i) for i in range(4)])
    for i in range(4):
        assert torch.allclose(principal_angles(one, two)[i], principal_angles(one[i], two[i]), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), d1=st.integers(1, 5), d2=st.integers(1, 5))
def test_distance_is_the_smallest_generalised_eigenvalue(seed: int, d1: int, d2: int) -> None:
    """min ||S x - S' x'||^2 / (||S x||^2 + ||S' x'||^2) with any bases S, S' of the spans, orthonormal or not."""
    generator = np.random.default_rng(seed)
    one, two = generator.standard_normal((25, d1)), generator.standard_normal((25, d2))
    difference = np.hstack([one, -two])
    weight = scipy.linalg.block_diag(one.T @ one, two.T @ two)
    expected = scipy.linalg.eigh(difference.T @ difference, weight, eigvals_only=True)[0]
    side = SideOverlap.between(torch.from_numpy(one), torch.from_numpy(two), draws=2)
    assert side is not None
    assert side.measures["distance"].value == pytest.approx(expected, abs=1e-10)


def test_distance_with_plain_norms_is_half_the_angle() -> None:
    """The other form, min ||u - v|| / (||u|| + ||v||), is sin(theta / 2); the two belong together."""
    one, two = frame(25, 3, 0), frame(25, 3, 1)
    angles = principal_angles(one, two)
    U, _, Vh = np.linalg.svd((one.T @ two).numpy())
    u, v = one.numpy() @ U[:, 0], two.numpy() @ Vh[0]
    plain = np.linalg.norm(u - v) / (np.linalg.norm(u) + np.linalg.norm(v))
    assert float(overlap_measures(angles)["distance"]) == pytest.approx(2 * plain**2, rel=1e-10)


def test_phi_and_grassmann() -> None:
    one, two = frame(25, 3, 0).numpy(), frame(25, 5, 1).numpy()
    measures = overlap_measures(principal_angles(torch.from_numpy(one), torch.from_numpy(two)))
    assert float(measures["phi"]) == pytest.approx(np.linalg.norm(one.T @ two) ** 2 / 3, rel=1e-12)
    expected = np.linalg.norm(scipy.linalg.subspace_angles(one, two))
    assert float(measures["grassmann"]) == pytest.approx(expected, rel=1e-10)


def test_two_sided_energy_is_what_projection_keeps() -> None:
    one, two = basis_of(0).layers[PATHS[0]], basis_of(1).layers[PATHS[0]]
    U1, V1, U2, V2 = (t.double().numpy() for t in (one.U, one.V, two.U, two.V))
    assert two.S is not None
    L = U2 @ np.diag(two.S) @ V2.T
    expected = np.linalg.norm(U1 @ U1.T @ L @ V1 @ V1.T) ** 2 / np.linalg.norm(L) ** 2
    energy = two_sided_energy(one, two)
    assert energy is not None
    assert energy.value == pytest.approx(expected, rel=1e-5)


def test_identical_bases() -> None:
    basis = basis_of(0)
    report = subspace_overlap(basis, basis)
    for side in ("output", "input"):
        distance, phi = report.mean("distance", side), report.mean("phi", side)  # type: ignore[arg-type]
        assert distance is not None
        assert phi is not None
        assert distance.value == pytest.approx(0, abs=1e-12)
        assert phi.value == pytest.approx(1, abs=1e-12)
        assert phi.z > 10
        assert distance.z < -3
    energy = report.mean("energy", "both")
    assert energy is not None
    assert energy.value == pytest.approx(1, abs=1e-6)


def test_orthogonal_bases() -> None:
    eye = torch.eye(20)
    one = SubspaceBasis(layers={"w": LayerSubspace(U=eye[:, :3], V=eye[:, :3])})
    two = SubspaceBasis(layers={"w": LayerSubspace(U=eye[:, 3:6], V=eye[:, 3:6])})
    report = subspace_overlap(one, two)
    distance = report.mean("distance", "output")
    assert distance is not None
    assert distance.value == pytest.approx(1, abs=1e-12)
    assert report.mean("energy", "both") is None  # no singular values


# --- nulls -----------------------------------------------------------------------------------------------------------


def simulated_cosines(n: int, d1: int, d2: int, draws: int) -> np.ndarray:
    generator = np.random.default_rng(7)
    cosines = []
    for _ in range(draws):
        one, _ = np.linalg.qr(generator.standard_normal((n, d1)))
        two, _ = np.linalg.qr(generator.standard_normal((n, d2)))
        cosines.append(np.clip(np.linalg.svd(one.T @ two, compute_uv=False), 0, 1))
    return np.array(cosines)


@pytest.mark.parametrize(("n", "d1", "d2"), [(20, 3, 5), (6, 4, 5), (40, 2, 2), (9, 1, 4)])
def test_nulls_equal_direct_simulation(n: int, d1: int, d2: int) -> None:
    draws = 3000
    cosines = simulated_cosines(n, d1, d2, draws)
    expected = {
        "distance": 1 - cosines[:, 0],
        "phi": (cosines**2).sum(1) / min(d1, d2),
        "grassmann": np.linalg.norm(np.arccos(cosines), axis=1),
    }
    drawn = overlap_measures(random_angles(n, d1, d2, draws))
    for name, values in expected.items():
        error = values.std() / math.sqrt(draws)
        assert float(drawn[name].mean()) == pytest.approx(values.mean(), abs=8 * error + 1e-9), name
        assert float(drawn[name].std()) == pytest.approx(values.std(), rel=0.08, abs=1e-7), name
    mean, std = phi_null(n, d1, d2)
    error = expected["phi"].std() / math.sqrt(draws)
    assert mean == pytest.approx(expected["phi"].mean(), abs=5 * error)
    assert std == pytest.approx(expected["phi"].std(), rel=0.06)


@pytest.mark.parametrize(("n", "d1", "d2"), [(1024, 16, 16), (100, 100, 3), (50, 4, 20)])
def test_phi_has_the_known_mean(n: int, d1: int, d2: int) -> None:
    assert phi_null(n, d1, d2)[0] == max(d1, d2) / n


@pytest.mark.parametrize(("out", "d_out", "in_", "d_in", "S"), [(12, 3, 9, 2, [3.0, 1.0]), (20, 5, 20, 5, [1.0] * 5)])
def test_energy_null_equals_simulation(out: int, d_out: int, in_: int, d_in: int, S: list[float]) -> None:
    generator = np.random.default_rng(3)
    values = []
    for _ in range(4000):
        # L's singular vectors may be the first axes: only the projections need to be random
        P, _ = np.linalg.qr(generator.standard_normal((out, d_out)))
        Q, _ = np.linalg.qr(generator.standard_normal((in_, d_in)))
        values.append(np.linalg.norm(P[: len(S)].T @ np.diag(S) @ Q[: len(S)]) ** 2 / np.sum(np.square(S)))
    mean, std = energy_null(out, d_out, in_, d_in, torch.tensor(S))
    assert mean == pytest.approx(np.mean(values), abs=5 * np.std(values) / math.sqrt(4000))
    assert std == pytest.approx(np.std(values), rel=0.1)


def test_random_bases_are_within_chance_and_related_ones_are_not() -> None:
    shapes = {f"{stage}_blocks.{i}.attn.qkv": (200, 160) for stage in ("frame", "global") for i in range(6)}
    report = subspace_overlap(random_basis(shapes, 12, seed=0), random_basis(shapes, 12, seed=1))
    rows = report.rows("all")
    assert {(row["side"], row["measure"]) for row in rows} == {
        *((side, measure) for side in ("output", "input") for measure in ("distance", "phi", "grassmann")),
    }
    assert all(abs(row["z"]) < 3 for row in rows)
    related = subspace_overlap(basis_of(0), related_to(basis_of(0))).mean("phi", "output")
    assert related is not None
    assert related.z > 10


def related_to(basis: SubspaceBasis) -> SubspaceBasis:
    layers = {
        path: LayerSubspace(U=near(layer.U.double(), 0.8, 5).float(), V=near(layer.V.double(), 0.8, 6).float())
        for path, layer in basis.layers.items()
    }
    return SubspaceBasis(layers=layers)


def test_z_over_many_random_pairs_is_standard() -> None:
    """A null that is too wide or too narrow would show here."""
    nulls = random_angles(30, 3, 3, 2000)
    mean, std = phi_null(30, 3, 3)
    z = [
        (float(overlap_measures(principal_angles(frame(30, 3, i), frame(30, 3, 5000 + i)))["phi"]) - mean) / std
        for i in range(400)
    ]
    assert np.mean(z) == pytest.approx(0, abs=0.2)
    assert np.std(z) == pytest.approx(1, abs=0.15)
    assert nulls.shape == (2000, 3)


def test_no_room_for_chance_gives_no_z() -> None:
    side = SideOverlap.between(frame(6, 4, 0), frame(6, 4, 1))
    assert side is not None
    assert side.measures["distance"].value == pytest.approx(0, abs=1e-12)
    assert math.isnan(side.measures["distance"].z)
    assert math.isfinite(side.measures["phi"].z)


def test_nulls_are_cached_and_repeatable() -> None:
    assert random_angles(50, 3, 4, 20) is random_angles(50, 3, 4, 20)
    again = random_angles.__wrapped__(50, 3, 4, 20)
    assert torch.equal(again, random_angles(50, 3, 4, 20))


# --- reports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("aggregator.frame_blocks.3.attn.qkv", ("frame_blocks", 3, "qkv")),
        ("aggregator.global_blocks.23.mlp.fc2", ("global_blocks", 23, "fc2")),
        ("depth_head.scratch.refinenet1.out_conv", ("depth_head", None, "out_conv")),
        ("depth_head.projects.2", ("projects", 2, "projects")),
        ("0.linear", ("0", None, "linear")),
    ],
)
def test_layer_kinds(path: str, expected: tuple[str, int | None, str]) -> None:
    kind = layer_kind(path)
    assert (kind.stage, kind.depth, kind.part) == expected


def test_summaries_group_layers() -> None:
    report = subspace_overlap(basis_of(0), basis_of(1))
    phis = {layer.path: layer.output.measures["phi"] for layer in report.layers if layer.output}

    def of(by: str) -> dict[str, Measurement]:
        return {s.group: s.mean for s in report.summary(by) if (s.side, s.measure) == ("output", "phi")}  # type: ignore[arg-type]

    assert of("stage").keys() == {"frame_blocks", "global_blocks"}
    assert of("part").keys() == {"qkv", "fc1"}
    assert of("kind").keys() == {"frame_blocks qkv", "frame_blocks fc1", "global_blocks qkv"}
    assert of("depth").keys() == {"0", "1"}
    assert of("layer") == phis
    assert of("part")["qkv"].value == pytest.approx((phis[PATHS[0]].value + phis[PATHS[2]].value) / 2)
    # the mean of three independent layers has a null narrower by sqrt(3)
    assert of("all")["all"].null_std == pytest.approx(phis[PATHS[0]].null_std / math.sqrt(3))
    with pytest.raises(ConfigError, match="grouped by 'colour'"):
        report.summary("colour")  # type: ignore[arg-type]


def test_reports_are_json() -> None:
    matrix = overlap_matrix({"a": basis_of(0), "b": basis_of(1), "c": basis_of(2)})
    content = json.loads(json.dumps(matrix.to_dict()))
    assert [(r["first"], r["second"]) for r in content["reports"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    phi = matrix.matrix("phi", "output")
    assert torch.isnan(phi.diagonal()).all()
    assert phi[0, 1] == phi[1, 0]
    energy = matrix.matrix("energy", "both")
    assert energy[0, 1] != energy[1, 0]
    assert torch.equal(matrix.null("phi", "output")[0, 1:], torch.tensor([4 / 60] * 2, dtype=torch.float64))
    assert len(matrix.rows("layer")) == 3 * 3 * 8


def test_layers_without_dimensions_are_left_out() -> None:
    layers = dict(basis_of(0).layers)
    layers[PATHS[0]] = LayerSubspace(U=torch.zeros(60, 0), V=layers[PATHS[0]].V)
    report = subspace_overlap(SubspaceBasis(layers=layers), basis_of(1))
    counts = {(s.side, s.measure): s.layers for s in report.summary()}
    assert counts["output", "phi"] == 2
    assert counts["input", "phi"] == 3
    assert counts["both", "energy"] == 2


def test_mismatches_are_named() -> None:
    fewer = SubspaceBasis(layers={path: basis_of(1).layers[path] for path in PATHS[:2]}, attributes=("light",))
    with pytest.raises(ConfigError, match=r"'light' and 'mined' .* such as 'aggregator\.global_blocks\.0.*1 differ"):
        subspace_overlap(basis_of(0), fewer)
    assert len(subspace_overlap(basis_of(0), fewer, strict=False).layers) == 2
    with pytest.raises(ConfigError, match="no layer in common"):
        subspace_overlap(SubspaceBasis(layers={}), fewer, strict=False)
    with pytest.raises(ConfigError, match=r"frame_blocks\.0\.attn\.qkv' has different shapes: .* and \(60, 50\)"):
        subspace_overlap(basis_of(0), basis_of(1, n=61))
    with pytest.raises(ArtefactError, match=r"'mined' is of base weights two, basis 'mined' of one"):
        subspace_overlap(basis_of(0, base_model_hash="one"), basis_of(1, base_model_hash="two"))
    with pytest.raises(ConfigError, match="at least two bases, not 1"):
        overlap_matrix({"a": basis_of(0)})


# --- within and between ----------------------------------------------------------------------------------------------


def attribute(seed: int, count: int) -> list[dict[str, object]]:
    U, V = frame(80, 3, seed), frame(70, 3, seed + 1)
    return [{"w": planted(U, [1, 0.9, 0.8], V, noise=0.5, rank=3, seed=1000 + 50 * seed + i)} for i in range(count)]


@pytest.mark.parametrize("count", [2, 3, 6, 7])
def test_within_is_larger_than_between_for_planted_attributes(count: int) -> None:
    adapters = {"a": attribute(0, count), "b": attribute(10, count)}
    matrix = attribute_overlaps(adapters, dim=3, splits=2)  # type: ignore[arg-type]
    for side in ("output", "input"):
        phi, null = matrix.matrix("phi", side), matrix.null("phi", side)  # type: ignore[arg-type]
        assert phi.diagonal().min() > 0.5
        assert phi[0, 1] < 4 * null[0, 1]
    assert {(row["first"], row["second"]): row["within"] for row in matrix.rows()} == {
        ("a", "a"): True,
        ("b", "b"): True,
        ("a", "b"): False,
    }


@pytest.mark.parametrize("count", [2, 4])
def test_halves_are_disjoint(count: int) -> None:
    """Adapters that share nothing do not agree with themselves either."""
    adapters = {"a": [{"w": random_update(80, 70, 3, i)} for i in range(count)]}
    phi = attribute_overlaps(adapters, dim=3, splits=1).matrix("phi", "output")  # type: ignore[arg-type]
    assert float(phi) < 4 * 3 / 80


def test_an_adapter_that_spans_less_than_was_asked_for_is_compared_in_what_it_spans() -> None:
    adapters = {"a": attribute(0, 3), "b": [*attribute(10, 2), {"w": random_update(80, 70, 2, 5)}]}
    matrix = attribute_overlaps(adapters, dim=3, splits=4)  # type: ignore[arg-type]
    (layer,) = matrix.reports["a", "b"].layers
    assert layer.output is not None
    assert (layer.output.d_first, layer.output.d_second, len(layer.output.angles)) == (3, 2, 2)
    phi, null = matrix.matrix("phi", "output"), matrix.null("phi", "output")
    assert phi[0, 0] > 0.5 > 4 * null[0, 1] > phi[0, 1]


def test_halves_need_two_adapters() -> None:
    with pytest.raises(ConfigError, match="attribute 'b' has 1 adapter"):
        attribute_overlaps({"a": attribute(0, 4), "b": attribute(1, 1)})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="splits=0"):
        attribute_overlaps({"a": attribute(0, 4)}, splits=0)  # type: ignore[arg-type]


def test_the_null_of_an_energy_is_that_of_the_subspace_it_is_in() -> None:
    """Entry (i, j) is the part of j's update in i's subspace: by chance d_out d_in / (out in) of i's dimensions."""
    bases = {}
    for seed, dim in enumerate((2, 8)):
        (layer,) = random_basis({"a": (24, 16)}, dim, seed=seed).layers.values()
        scored = LayerSubspace(U=layer.U, V=layer.V, S=torch.ones(dim, dtype=torch.float64))
        bases[str(dim)] = SubspaceBasis(layers={"a": scored})
    null = overlap_matrix(bases, draws=20).null("energy", "both")
    assert float(null[0, 1]) == pytest.approx(2 * 2 / (24 * 16))
    assert float(null[1, 0]) == pytest.approx(8 * 8 / (24 * 16))
