"""How far sets of scenes lie apart, against planted differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lorasub.scenes.description import Pattern
from lorasub.scenes.presets import ATTRIBUTES, SceneSampler
from lorasub.scenes.ranges import TextureRanges
from lorasub.scenes.statistics import FAR_AWAY, distance_between, scene_statistics, share_between


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_distance_is_in_standard_deviations_of_the_reference() -> None:
    reference = 5.0 * normal(4000, 2)
    shifted = 5.0 * normal(4000, 2, seed=1) + torch.tensor([10.0, 0.0])
    assert distance_between(shifted, reference) == pytest.approx((2.0**2 / 2) ** 0.5, rel=0.05)
    assert distance_between(reference, reference) == 0.0
    constant = torch.ones(10, 1, dtype=torch.float64)
    assert distance_between(constant, constant) == 0.0
    assert distance_between(constant + 1, constant) == FAR_AWAY


def test_the_share_between_groups_is_that_of_the_variance_components() -> None:
    groups = [normal(50, 1, seed=i) + 2.0 * normal(1, 1, seed=1000 + i) for i in range(400)]
    assert share_between(groups) == pytest.approx(4.0 / (4.0 + 1.0), abs=0.03)
    assert share_between([normal(200, 6, seed=i) for i in range(5)]) < 0.02
    constants = [torch.full((8, 1), float(i), dtype=torch.float64) for i in range(3)]
    assert share_between(constants) == pytest.approx(1.0)
    assert share_between([constants[0], constants[0]]) == 0.0


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_partitions_of_the_old_design_were_single_scenes(attribute: Any) -> None:
    shares = {}
    for design in ("within", "narrow"):
        sets = [SceneSampler(attribute=attribute, design=design, partition=p).sample(range(16)) for p in (0, 1, 2)]
        found = [scene_statistics(scenes) for scenes in sets]
        shares[design] = {name: share_between([one[name] for one in found]) for name in ATTRIBUTES}
    others = [name for name in ATTRIBUTES if name != attribute]
    assert min(shares["narrow"][name] for name in others) > 0.6
    assert max(shares["within"][name] for name in others) < 0.15
    assert shares["narrow"][attribute] < 0.15


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_shifts_are_far_from_pre_training_in_their_attribute_alone(attribute: Any) -> None:
    seen = scene_statistics(SceneSampler(attribute="all").sample(range(48)))
    away = []
    for dose in (0.0, 0.5, 1.0):
        sampler = SceneSampler(attribute=attribute, design="shift", dose=dose)
        found = scene_statistics(sampler.sample(range(48)))
        away.append({name: distance_between(found[name], seen[name]) for name in ATTRIBUTES})
    assert away[0][attribute] < 1.0
    assert away[1][attribute] > 1.5
    assert away[2][attribute] > 1.5 * away[1][attribute]
    assert max(away[1][name] for name in ATTRIBUTES if name != attribute) < 0.6


def test_every_statistic_varies_where_everything_does() -> None:
    found = scene_statistics(SceneSampler(attribute="all", num_views=3).sample(range(64)))
    still = {name: (values.std(0) == 0).nonzero().flatten().tolist() for name, values in found.items()}
    unseen = [int(pattern) for pattern in Pattern if pattern.name.lower() not in TextureRanges().patterns]
    assert still == {"geometry": [], "texture": unseen, "camera": [], "lighting": []}
    # what is never shown counts neither as alike nor as different
    texture = found["texture"]
    shown = [column for column in range(texture.shape[1]) if column not in unseen]
    assert distance_between(texture[:32], texture[32:]) == distance_between(texture[:32, shown], texture[32:, shown])
