"""Surfaces that shine, and textures with the statistics of photographs."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scene_oracle import Lamp, Solid, describe
from warp_probes import weights

from lorasub.scenes.description import LightKind, Pattern, Primitive
from lorasub.scenes.rendering.renderer import Renderer


def spectral_slope(image: npt.NDArray[np.float64]) -> float:
    """Exponent of the power spectrum over frequency, between 4 and 60 periods a picture, averaged over directions."""
    window = np.outer(*[np.hanning(side) for side in image.shape])
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(side) * side for side in image.shape], indexing="ij"))
    bands = np.geomspace(4, 60, 9)
    middle = np.sqrt(bands[1:] * bands[:-1])
    mean = [power[(frequency >= low) & (frequency < high)].mean() for low, high in itertools.pairwise(bands)]
    return float(np.polyfit(np.log(middle), np.log(mean), 1)[0])


def picture(pattern: Pattern, seed: int, side: int = 192, features: float = 10.0) -> npt.NDArray[np.float64]:
    """What a surface of a pattern shows: a square of some features, straight on."""
    rng = np.random.default_rng(seed)
    step = features / side
    x, y = np.meshgrid(np.arange(side) * step, np.arange(side) * step)
    corner = rng.uniform(-50, 50, 3)
    points = np.stack([x.ravel() + corner[0], y.ravel() + corner[1], np.full(x.size, corner[2])])
    return weights(pattern, points, 0.5, np.full(x.size, step), face=2)[0].reshape(side, side)


@pytest.mark.parametrize("pattern", [Pattern.FRACTAL, Pattern.LEAVES])
def test_photographic_patterns_have_power_that_falls_with_the_square_of_frequency(pattern: Pattern) -> None:
    """As natural images have it (Field 1987: an exponent around -2); stripes and dots have not."""
    slopes = [spectral_slope(picture(pattern, seed)) for seed in range(6)]
    assert -3.2 < np.mean(slopes) < -1.4
    contrast = [picture(pattern, seed).std() for seed in range(6)]
    assert 0.08 < np.mean(contrast) < 0.45


def test_glowing_surfaces_shine_alike_under_any_lamp_and_cast_no_shadow() -> None:
    """A pane between a lamp and the wall that the camera looks at, past the pane."""
    pane = Solid(Primitive.BOX, center=(0.0, 0.0, 3.0), size=(0.6, 0.6, 0.05))
    for pattern in (Pattern.GLOW, Pattern.PLAIN):
        shown = []
        for power in (1.0, 8.0):
            lamp = Lamp((0.5, 0.0, 1.0), color=(power, power, power), kind=LightKind.POINT)
            scene = describe([pane], [lamp], room=(6.0, 6.0, 6.0))
            scene.materials.pattern[:, 3] = int(pattern)
            scene.materials.colors[:, 3] = 0.4
            seen = Renderer((41, 41), antialias=False).render(scene)
            own, wall = seen.object_id == 3, seen.object_id == 2
            shown.append((seen.albedo * seen.shading)[:, :, 0][own])
            dark = (seen.shading[:, :, 0][wall] == 0).float().mean()
            assert (float(dark) > 0.05) == (pattern == Pattern.PLAIN)
        assert len(shown[0]) > 50
        assert torch.equal(*shown) == (pattern == Pattern.GLOW)
        if pattern == Pattern.GLOW:
            assert torch.allclose(shown[0], torch.tensor(0.4))
