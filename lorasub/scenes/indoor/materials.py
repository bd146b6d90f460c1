"""Draws materials for rooms: pale plain walls, wood, cloth, paint, and the spines and cartons that stand about."""

from __future__ import annotations

import numpy as np
import torch

from lorasub.scenes.description import FIRST_OBJECT, Materials, Pattern
from lorasub.scenes.indoor.layout import LARGE, SURFACES
from lorasub.scenes.materials import hsv_to_linear_rgb
from lorasub.scenes.streams import Array, Draws, IntArray

MATERIAL_DRAWS = 24 * SURFACES
_ROOM_PATTERNS = (Pattern.PLAIN, Pattern.NOISE, Pattern.STRIPES, Pattern.CHECKER, Pattern.MARBLE)
_LARGE_PATTERNS = (Pattern.PLAIN, Pattern.PLAIN, Pattern.NOISE, Pattern.WOOD, Pattern.WOOD, Pattern.STRIPES)
_SMALL_PATTERNS = (
    Pattern.PLAIN,
    Pattern.NOISE,
    Pattern.CELLS,
    Pattern.STRIPES,
    Pattern.DOTS,
    Pattern.CHECKER,
    Pattern.MARBLE,
    Pattern.GRADIENT,
)


def draw_indoor_materials(draws: Draws) -> Materials:
    """A material for every surface of a room."""
    many = SURFACES
    room, small = np.arange(many) < FIRST_OBJECT, np.arange(many) >= FIRST_OBJECT + 2 * LARGE
    which = draws.uniform((0.0, 1.0), many)
    pattern = np.where(room, _from(_ROOM_PATTERNS, which), _from(_LARGE_PATTERNS, which))
    pattern = np.where(small, _from(_SMALL_PATTERNS, which), pattern)
    scale = draws.log_uniform((0.03, 0.5), many)
    scale = np.where(small, 0.25 * scale, scale)
    warp = draws.uniform((0.0, 1.0), many)
    phase = draws.uniform((0.0, 8.0), many, 3)
    hue = draws.uniform((0.0, 1.0), many, 1) + draws.uniform((-0.06, 0.06), many, 3)
    vivid = draws.uniform((0.0, 1.0), many, 1)
    # most things are greyish or brown; a few are vivid
    saturation = 0.55 * vivid**2.5 + draws.uniform((0.0, 0.12), many, 3)
    saturation = np.where(small[:, None], saturation + 0.35 * vivid, saturation)
    brown = draws.chance(0.5, many)[..., None] & ~small[:, None]
    hue = np.where(brown, 0.07 + 0.06 * (hue - 0.5), hue)
    saturation = np.where(brown, 0.15 + 0.5 * vivid + 0.1 * saturation, saturation)
    value = draws.uniform((0.12, 0.95), many, 1) + draws.uniform((-0.15, 0.15), many, 3)
    pale = draws.chance(0.34)
    walls = slice(FIRST_OBJECT - 2, FIRST_OBJECT)
    pattern[:, walls] = np.where(pale[:, None], int(Pattern.PLAIN), pattern[:, walls])
    brown[:, walls] = False
    value[:, walls] = 0.6 + 0.4 * value[:, walls] * np.where(pale[:, None, None], 0.9, 1.0)
    saturation[:, walls] = np.where(pale[:, None, None], 0.08, 0.3) * vivid[:, walls]
    value[:, 2] = 0.8 + 0.2 * value[:, 2]
    roughness = draws.uniform((0.25, 0.9), many)
    specular = draws.uniform((0.0, 1.0), many) ** 3 * 0.35
    specular[:, walls] *= 0.1

    def tensor(values: Array) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32)

    batch = len(pattern)
    return Materials(
        pattern=torch.as_tensor(pattern, dtype=torch.int32),
        colors=tensor(hsv_to_linear_rgb(hue, np.clip(saturation, 0, 1), np.clip(value, 0.02, 1))),
        scale=tensor(scale),
        warp=tensor(warp),
        phase=tensor(phase),
        image=torch.zeros(batch, many, dtype=torch.int32),
        roughness=tensor(roughness),
        specular=tensor(specular),
        refraction=torch.zeros(batch, many),
    )


def _from(patterns: tuple[Pattern, ...], share: Array) -> IntArray:
    codes: IntArray = np.array([int(one) for one in patterns])
    chosen: IntArray = codes[np.minimum((share * len(patterns)).astype(int), len(patterns) - 1)]
    return chosen
