"""Noise and vignetting: the stated amounts, in colour alone, the same for everybody."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from lorasub.data.synthetic import SyntheticScenes
from lorasub.errors import ConfigError
from lorasub.scenes.sensor import SensorNuisance
from lorasub.structures import SceneBatch

OFF = (0.0, 0.0)


def grey(linear: float, scenes: int = 1, views: int = 2, size: int = 64) -> SceneBatch:
    """Even pictures of one linear brightness, seen under 90 degrees."""
    encoded = 1.055 * linear ** (1 / 2.4) - 0.055
    matrix = torch.tensor([[size / 2, 0, size / 2], [0, size / 2, size / 2], [0, 0, 1.0]])
    empty = torch.zeros(scenes, views, size, size)
    return SceneBatch(
        images=torch.full((scenes, views, 3, size, size), round(encoded * 255) / 255),
        intrinsics=matrix.expand(scenes, views, 3, 3).clone(),
        cam_from_world=torch.eye(3, 4).expand(scenes, views, 3, 4).clone(),
        pose_valid=torch.ones(scenes, views, dtype=torch.bool),
        depth=empty,
        valid=empty > 0,
        world_points=torch.zeros(scenes, views, size, size, 3),
        scale=torch.ones(scenes),
        metric=torch.zeros(scenes, dtype=torch.bool),
        scene_ids=tuple(f"scene{index}" for index in range(scenes)),
        frame_ids=tuple(tuple(map(str, range(views))) for _ in range(scenes)),
    )


def linear(encoded: Tensor) -> Tensor:
    return ((encoded.double() + 0.055) / 1.055) ** 2.4


@pytest.mark.parametrize(("read", "shot"), [(0.05, 0.0), (0.0, 0.01), (0.03, 0.005)])
def test_noise_has_the_stated_variance(read: float, shot: float) -> None:
    clean = grey(0.4)
    noisy = SensorNuisance(read_noise=(read, read), shot_noise=(shot, shot), vignetting=OFF).apply(clean, seed=3)
    signal = float(linear(clean.images).mean())
    error = linear(noisy.images) - signal
    # 24,576 samples: the standard deviation of the estimate is half a percent
    assert float(error.std()) == pytest.approx(math.sqrt(read**2 + shot * signal), rel=0.03)
    assert abs(float(error.mean())) < 1e-3
    assert (
        float(torch.corrcoef(error.flatten(2).reshape(6, -1)).triu(1).abs().max()) < 0.06
    )  # views and channels differ


def test_vignetting_is_cos4_of_the_angle() -> None:
    clean = grey(0.6)
    dimmed = SensorNuisance(read_noise=OFF, shot_noise=OFF, vignetting=(1.0, 1.0)).apply(clean, seed=0)
    for row, column in ((32, 32), (32, 0), (0, 0), (10, 50)):
        angle = math.atan(math.hypot(row + 0.5 - 32, column + 0.5 - 32) / 32)
        found = float(linear(dimmed.images[0, 1, 0, row, column]) / linear(clean.images[0, 1, 0, row, column]))
        assert found == pytest.approx(math.cos(angle) ** 4, abs=0.006)


def test_scenes_have_their_own_camera_whatever_the_batch() -> None:
    nuisance = SensorNuisance()
    clean = grey(0.3, scenes=3)
    batch = nuisance.apply(clean, seed=1)
    alone = grey(0.3).replace(scene_ids=("scene2",))
    assert torch.equal(nuisance.apply(alone, seed=1).images[0], batch.images[2])
    assert not torch.equal(batch.images[0], batch.images[2])
    assert not torch.equal(nuisance.apply(clean, seed=2).images, batch.images)
    assert torch.equal((batch.images * 255).round() / 255, batch.images)


def test_it_changes_colour_only_and_is_off_by_default() -> None:
    settings = {"attribute": "geometry", "image_size": 28, "num_views": 2}
    plain = SyntheticScenes(**settings)
    assert plain.sensor is None
    noisy = SyntheticScenes(**settings, sensor=SensorNuisance(read_noise=(0.02, 0.02)))
    described = plain.train_sampler.sample([0, 5])
    one, two = (data.on_after_batch_transfer(described, 0) for data in (plain, noisy))
    for field in dataclasses.fields(SceneBatch):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if isinstance(a, Tensor):
            assert torch.equal(a, b) == (field.name != "images"), field.name


def test_wrong_ranges_are_told_in_words() -> None:
    with pytest.raises(ConfigError, match="vignetting is"):
        SensorNuisance(vignetting=(0.5, 0.2))
