"""Common and specific parts: planted ones are told apart, pairs do not count as common, chance gives nothing."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from planted import frame, planted
from scipy.linalg import subspace_angles

from lorasub.errors import ArtefactError, ConfigError
from lorasub.subspaces import (
    LayerSubspace,
    LowRankUpdate,
    SubspaceBasis,
    attribute_overlaps,
    common_directions,
    common_subspace,
    held_out_explained,
    split_common_specific,
    subspace_overlap,
)

OUT, IN = 120, 100


def degrees(one: torch.Tensor, two: torch.Tensor) -> float:
    """Largest principal angle."""
    return float(np.degrees(subspace_angles(one.double().numpy(), two.double().numpy()).max()))


def parts(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal columns to build planted subspaces from: 2 common, then 2 for each of three attributes."""
    return frame(OUT, 8, seed), frame(IN, 8, seed + 1)


def adapters_with_common_part(
    seed: int = 0, count: int = 5, own: bool = True
) -> dict[str, list[dict[str, LowRankUpdate]]]:
    U, V = parts(seed)
    groups = {}
    for i, name in enumerate(("geometry", "texture", "light")):
        columns = [0, 1, 2 + 2 * i, 3 + 2 * i] if own else [0, 1]
        strengths = [1.0, 0.9, 0.8, 0.7][: len(columns)]
        groups[name] = [
            {"w": planted(U[:, columns], strengths, V[:, columns], noise=0.3, rank=3, seed=100 * i + 7 * k)}
            for k in range(count)
        ]
    return groups


def test_planted_common_and_specific_parts_are_separated() -> None:
    U, V = parts(0)
    split = split_common_specific(adapters_with_common_part(), dim=4, specific_dim=2)
    common = split.common.basis.layers["w"]
    assert (common.d_out, common.d_in) == (2, 2)
    assert degrees(common.U, U[:, :2]) < 10
    assert degrees(common.V, V[:, :2]) < 10
    for i, (name, basis) in enumerate(split.specific.items()):
        assert basis.attributes == (name,)
        assert basis.method == "specific"
        layer = basis.layers["w"]
        assert degrees(layer.U, U[:, 2 + 2 * i : 4 + 2 * i]) < 20
        assert degrees(layer.V, V[:, 2 + 2 * i : 4 + 2 * i]) < 20
        # nothing of the common part is left, on either side
        assert (layer.U.double().T @ common.U.double()).abs().max() < 1e-5
        assert (layer.V.double().T @ common.V.double()).abs().max() < 1e-5


def test_raw_bases_overlap_and_specific_ones_do_not() -> None:
    split = split_common_specific(adapters_with_common_part(), dim=4, specific_dim=2)
    raw = subspace_overlap(split.raw["geometry"], split.raw["light"]).mean("phi", "output")
    specific = subspace_overlap(split.specific["geometry"], split.specific["light"]).mean("phi", "output")
    assert raw is not None
    assert specific is not None
    assert raw.value == pytest.approx(0.5, abs=0.1)  # two of four dimensions
    assert abs(specific.z) < 4


@pytest.mark.parametrize("own", [True, False])
def test_without_what_all_share_attributes_agree_with_themselves_only(own: bool) -> None:
    groups = adapters_with_common_part(count=8, own=own)
    raw, specific = (
        attribute_overlaps(groups, dim=2, part=part, splits=8)  # type: ignore[arg-type]
        for part in ("raw", "specific")
    )
    for side in ("output", "input"):
        assert raw.matrix("phi", side).min() > 0.8  # type: ignore[arg-type]
        phi, chance = specific.matrix("phi", side), specific.null("phi", side)  # type: ignore[arg-type]
        between, within = phi[~torch.eye(3, dtype=torch.bool)].mean(), phi.diagonal().mean()
        if own:  # planted at right angles
            assert within > 0.6
            assert between < 0.5 * chance[0, 1]
        else:  # nothing but chance is left
            assert 0.5 < between / chance[0, 1] < 1.5
            assert 0.3 < within / chance[0, 1] < 1.7


def test_held_out_adapters_without_what_all_share() -> None:
    groups = adapters_with_common_part(count=8)
    rows = {
        part: {(r.basis, r.adapters): r.explained for r in held_out_explained(groups, dim=2, part=part)}  # type: ignore[arg-type]
        for part in ("raw", "specific")
    }
    for basis, adapters in rows["raw"]:
        # the two common directions hold most of the planted part of every adapter, whatever its attribute
        assert rows["raw"][basis, adapters] > 0.4
        share = rows["specific"][basis, adapters]
        assert share > 0.4 if basis == adapters else share < 0.02


def test_a_specific_part_needs_halves_that_can_be_mined() -> None:
    with pytest.raises(ConfigError, match="at least four"):
        attribute_overlaps(adapters_with_common_part(count=3), part="specific")


def test_nothing_in_common_gives_nothing() -> None:
    found = [common_directions([frame(60, 5, 10 * i + j) for j in range(4)])[1].dim for i in range(40)]
    # the level is 5%: of 40 such tests two would be expected to fail, more than six has a chance of 0.3%
    assert sum(dim > 0 for dim in found) <= 6


def test_what_only_some_share_is_not_common() -> None:
    shared = frame(100, 1, 0)
    spans = [torch.linalg.qr(torch.cat([shared, frame(100, 3, 5 + i)], 1)).Q for i in range(3)] + [frame(100, 4, 99)]
    columns, test = common_directions(spans)
    assert test.energies[0] > test.chance  # three of four is far beyond chance on average ...
    assert test.dim == 0  # ... but not in all
    assert columns.shape == (100, 0)


def test_two_pairs_do_not_add_up_to_a_common_direction() -> None:
    """a lies in spans 1 and 2, b in 3 and 4: half of a + b lies in every span, which must not count."""
    eye = torch.eye(100, dtype=torch.float64)
    spans = [eye[:, [0, 2]], eye[:, [0, 3]], eye[:, [1, 4]], eye[:, [1, 5]]]
    _, test = common_directions(spans)
    assert test.energies[:2].tolist() == pytest.approx([0.5, 0.5])
    assert test.chance < 0.5
    assert test.dim == 0


def test_exactly_common_directions() -> None:
    eye = torch.eye(50, dtype=torch.float64)
    mixed = frame(2, 2, 0)
    spans = [
        torch.cat([eye[:, :2] @ mixed, eye[:, 10:12]], 1),
        torch.cat([eye[:, 20:21], eye[:, :2]], 1) * torch.tensor([1.0, 5.0, 0.1]),
    ]
    columns, test = common_directions(spans)
    assert test.dim == 2
    assert degrees(columns, eye[:, :2]) < 1e-4
    assert test.harmonic.tolist() == pytest.approx([1.0, 1.0], abs=1e-6)


def test_a_span_without_dimensions_leaves_nothing_common() -> None:
    columns, test = common_directions([frame(20, 3, 0), torch.zeros(20, 0, dtype=torch.float64)])
    assert columns.shape == (20, 0)
    assert test.dim == 0


def test_angle_between_two_spans_decides() -> None:
    """For two spans the mean energy of their nearest pair's middle is (1 + cos) / 2."""
    one = frame(400, 1, 0)
    other = torch.linalg.qr(frame(400, 1, 1) - one @ (one.T @ frame(400, 1, 1))).Q
    for angle, expected in ((0.3, 1), (0.9, 1), (1.53, 0)):  # chance reaches cosines of 2 / sqrt(400) = 0.1
        span = math.cos(angle) * one + math.sin(angle) * other
        _, test = common_directions([one, span])
        assert float(test.energies[0]) == pytest.approx((1 + math.cos(angle)) / 2)
        assert test.dim == expected


def test_report_is_json() -> None:
    common = split_common_specific(adapters_with_common_part(), dim=4, specific_dim=2).common
    json.dumps(common.to_dict())
    assert [(row["side"], row["dim"]) for row in common.rows()] == [("output", 2), ("input", 2)]


def test_bad_input() -> None:
    one = SubspaceBasis(layers={"a": LayerSubspace(U=frame(9, 2, 0), V=frame(8, 2, 1))}, base_model_hash="x")
    two = SubspaceBasis(layers={"b": LayerSubspace(U=frame(9, 2, 0), V=frame(8, 2, 1))})
    three = SubspaceBasis(layers={"a": LayerSubspace(U=frame(7, 2, 0), V=frame(8, 2, 1))})
    other = SubspaceBasis(layers=one.layers, base_model_hash="y")
    with pytest.raises(ConfigError, match="at least two attributes, not 1"):
        common_subspace({"one": one})
    with pytest.raises(ConfigError, match="'two' and 'one' do not cover the same layers"):
        common_subspace({"one": one, "two": two})
    with pytest.raises(ConfigError, match="layer 'a' has different shapes"):
        common_subspace({"one": one, "three": three})
    with pytest.raises(ArtefactError, match="basis 'other' is of base weights y"):
        common_subspace({"one": one, "other": other})
