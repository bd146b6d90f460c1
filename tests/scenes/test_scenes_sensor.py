"""What a camera adds: the stated amounts, in colour alone, the same for everybody."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lorasub.data.synthetic import SyntheticScenes
from lorasub.errors import ConfigError
from lorasub.scenes.sensor import SensorNuisance, hashed_normal, jpeg, motion_blur
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


def test_noise_is_a_hash_of_key_and_place() -> None:
    """The finaliser of SplitMix64 in Python's whole numbers; moments of a normal distribution; parts apart."""
    keys = torch.tensor([5, 2**62 + 17, 6])
    found = hashed_normal(keys, (3, 40, 50))
    mask = 2**64 - 1
    for row, column in ((0, 0), (1, 777), (2, 5999)):
        value = (int(keys[row]) + (column + 1) * 0x9E3779B97F4A7C15) & mask
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        value ^= value >> 31
        total = sum((value >> shift) & 0xFFFF for shift in (0, 16, 32, 48))
        expected = (total - 131070) / math.sqrt((65536**2 - 1) / 3)
        assert float(found.flatten(1)[row, column]) == pytest.approx(expected, rel=1e-6, abs=1e-7)
    flat = found.flatten(1).double()
    assert float(flat.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(flat.var()) == pytest.approx(1.0, abs=0.03)
    assert float(torch.corrcoef(flat).triu(1).abs().max()) < 0.05
    assert float((found[:, :, :, 1:] * found[:, :, :, :-1]).mean().abs()) < 0.03


def test_gain_and_white_balance_are_factors_on_linear_light() -> None:
    clean = grey(0.2, scenes=40)
    plain = {"read_noise": OFF, "shot_noise": OFF, "vignetting": OFF}
    brighter = SensorNuisance(**plain, gain=(2.0, 2.0)).apply(clean, seed=0)
    assert float(linear(brighter.images).mean()) == pytest.approx(2 * float(linear(clean.images).mean()), rel=0.01)
    clipped = SensorNuisance(**plain, gain=(6.0, 6.0)).apply(clean, seed=0)
    assert float(clipped.images.min()) == 1.0
    tinted = SensorNuisance(**plain, white_balance=(0.2, 0.2)).apply(clean, seed=0)
    ratio = (linear(tinted.images) / linear(clean.images)).mean((1, 3, 4)).log()  # [B, 3]
    assert float(ratio[:, 1].abs().max()) < 1e-6
    assert 0.15 < float(ratio.abs().max()) < 0.21
    assert float(ratio[:, 0].std()) == pytest.approx(0.4 / math.sqrt(12), rel=0.3)


def test_gamma_is_a_power_of_the_encoded_image() -> None:
    clean = grey(0.3)
    seen = SensorNuisance(read_noise=OFF, shot_noise=OFF, vignetting=OFF, gamma=(1.3, 1.3)).apply(clean, seed=0)
    assert float(seen.images.mean()) == pytest.approx(float(clean.images.mean()) ** 1.3, abs=0.003)


def test_motion_blur_spreads_a_point_along_a_line() -> None:
    point = torch.zeros(2, 1, 21, 21)
    point[:, :, 10, 10] = 1.0
    length, angle = torch.tensor([6.0, 6.0]), torch.tensor([0.0, math.pi / 4])
    spread = motion_blur(point, length, angle, 8.0)
    place = torch.arange(21.0) - 10
    for image, turn in zip(spread[:, 0], angle, strict=True):
        assert float(image.sum()) == pytest.approx(1.0, abs=1e-5)
        x, y = image.sum(0), image.sum(1)
        assert float((x * place).sum()) == pytest.approx(0.0, abs=1e-5)
        # variance of a line, L^2 / 12, along it; bilinear sharing adds a sixth of a pixel's square at most
        for axis, share in ((x, math.cos(turn)), (y, math.sin(turn))):
            expected = (6.0 * share) ** 2 / 12
            assert expected - 0.02 < float((axis * place**2).sum()) < expected + 0.25
    assert torch.allclose(motion_blur(point, torch.zeros(2), angle, 8.0), point, atol=1e-6)


@pytest.mark.parametrize("quality", [35, 70, 92])
@pytest.mark.parametrize("colored", [False, True])
def test_jpeg_is_that_of_libjpeg(quality: int, colored: bool) -> None:
    """Smooth colours and noise through Pillow's encoder and decoder, which smooth chroma at borders in another way."""
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(1, 3, 7, 9, generator=generator), (56, 72), mode="bicubic")
    images = images + 0.03 * torch.randn(images.shape, generator=generator)
    images = images if colored else images[:, :1].expand(1, 3, -1, -1)
    images = (images.clamp(0, 1) * 255).round() / 255
    file = io.BytesIO()
    pixels = (255 * images[0]).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2)
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
    found, worse = (jpeg(images, torch.tensor([float(q)]))[0] for q in (quality, quality - 8))
    error = float((found - expected).abs().mean())
    assert error < (0.008 if colored else 0.002)
    assert error < 0.35 * float((worse - expected).abs().mean())


def test_perfect_cameras_where_the_share_says_so() -> None:
    clean = grey(0.3, scenes=60)
    half = dataclasses.replace(SensorNuisance.photographic(), share=0.5).apply(clean, seed=0)
    same = (half.images == clean.images).flatten(1).all(1).float().mean()
    assert 0.3 < float(same) < 0.7
