"""Draws materials."""

from __future__ import annotations

import numpy as np
import torch

from lorasub.errors import ConfigError
from lorasub.scenes.description import FIRST_OBJECT, Materials, Pattern
from lorasub.scenes.geometry import MAX_OBJECTS
from lorasub.scenes.ranges import TextureRanges
from lorasub.scenes.streams import Array, Draws

NUM_SURFACES = FIRST_OBJECT + MAX_OBJECTS
#: Numbers that :func:`draw_materials` takes from its stream.
MATERIAL_DRAWS = 24 * NUM_SURFACES


def draw_materials(draws: Draws, ranges: TextureRanges) -> Materials:
    """A material for every surface: floor, walls, ceiling and each object.

    Raises:
        ConfigError: an unknown pattern.
    """
    unknown = sorted(set(ranges.patterns) - {pattern.name.lower() for pattern in Pattern})
    if unknown or not ranges.patterns:
        raise ConfigError(f"unknown patterns {unknown}; choose from {[pattern.name.lower() for pattern in Pattern]}")
    many = NUM_SURFACES
    codes = np.array([int(Pattern[name.upper()]) for name in ranges.patterns])
    pattern = codes[draws.choice(len(codes), many)]
    scale = draws.log_uniform(ranges.scale, many)
    warp = draws.uniform(ranges.warp, many)
    phase = draws.uniform((0.0, 8.0), many, 3)
    # related hues look designed, unrelated ones look like noise: the second and third colour stay near the first, or
    # near its complement
    hue = draws.uniform(ranges.hue, many, 1) + np.concatenate(
        [np.zeros_like(scale)[..., None], draws.uniform((-0.12, 0.12), many, 2)], axis=-1
    )
    hue[..., 1] += 0.5 * draws.chance(0.3, many)
    saturation = draws.uniform(ranges.saturation, many, 3)
    value = draws.uniform(ranges.value, many, 3)
    roughness = draws.uniform(ranges.roughness, many)
    specular = draws.uniform(ranges.specular, many)
    scale[:, :FIRST_OBJECT] *= 1.8  # floors and walls are seen from farther away
    specular[:, FIRST_OBJECT - 2 : FIRST_OBJECT] *= 0.2

    def tensor(values: Array) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32)

    return Materials(
        pattern=torch.as_tensor(pattern, dtype=torch.int32),
        colors=tensor(hsv_to_linear_rgb(hue, saturation, value)),
        scale=tensor(scale),
        warp=tensor(warp),
        phase=tensor(phase),
        roughness=tensor(roughness),
        specular=tensor(specular),
        refraction=torch.zeros(pattern.shape),
    )


def hsv_to_linear_rgb(hue: Array, saturation: Array, value: Array) -> Array:
    """``[..., 3]`` linear RGB of sRGB colours given as hue (in turns, any), saturation and value."""
    # the usual six-sector formula in closed form, https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
    sector = (np.array([5.0, 3.0, 1.0]) + 6.0 * (hue % 1.0)[..., None]) % 6.0
    ramp = np.clip(np.minimum(sector, 4.0 - sector), 0.0, 1.0)
    encoded = value[..., None] * (1.0 - saturation[..., None] * ramp)
    linear: Array = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return linear
