"""Draws facades: a wall under the sky with a grid of bays that stand out of it, by centimetres to half a metre."""

from __future__ import annotations

import numpy as np

from lorasub.scenes.indoor.interior import CATALOGUE, LARGE, Objects
from lorasub.scenes.indoor.masonry import BAYS
from lorasub.scenes.streams import Array, Draws

_COLUMNS, _ROWS, _BANDS = 4, 3, 3
_CELLS = _COLUMNS * _ROWS
_WALL, _CORNICE, _STEPS = CATALOGUE.index("facade_wall", "cornice", "steps")
#: Ground that is free in front of the wall, and to its sides.
_BEFORE, _BESIDE = 12.0, 3.0


def draw_facade(draws: Draws) -> tuple[Objects, Array, Array, Array]:
    """Facades as large pieces.

    Returns:
        The pieces; half width and half depth ``[B, 2]`` and height ``[B]`` of the free space, at the back of which the
        wall stands; ``[B, 2, 3]`` lower left and upper right corner of the wall's face.
    """
    columns, rows = draws.integer((1, _COLUMNS)), draws.integer((1, _ROWS))
    cell = np.stack([draws.uniform((0.5, 1.5)), draws.uniform((0.7, 1.5))], axis=-1)  # half width and height of a bay
    kinds = CATALOGUE.pick(BAYS, draws.uniform((0.0, 1.0), 1 + _CELLS))
    regular = draws.chance(0.7)[:, None]
    filled = draws.uniform((0.55, 0.9), 2)
    deep = draws.log_uniform((0.04, 0.35))
    missing = draws.chance(0.1, _CELLS)
    base = draws.uniform((0.05, 0.8))
    margin = draws.log_uniform((0.3, 5.0), 2)
    band = draws.log_uniform((0.04, 0.2), _BANDS, 2)
    banded = draws.chance(0.6, _BANDS)
    stairs = draws.uniform((0.0, 1.0), 3)
    has_stairs = draws.chance(0.4)

    batch = len(columns)
    half = np.stack([columns * cell[:, 0] + margin[:, 0] + _BESIDE, np.full(batch, 0.5 * _BEFORE)], axis=-1)
    face = -half[:, 1] + 0.5
    wide = half[:, 0] - _BESIDE
    tall = 0.5 * (base + 2.0 * rows * cell[:, 1] + margin[:, 1])
    column, row = np.arange(_CELLS) % _COLUMNS, np.arange(_CELLS) // _COLUMNS
    there = (column < columns[:, None]) & (row < rows[:, None]) & ~missing
    x = (2.0 * column - columns[:, None] + 1.0) * cell[:, :1]
    z = base[:, None] + (2.0 * row + 1.0) * cell[:, 1:]
    size = np.stack([cell[:, 0] * filled[:, 0], deep, cell[:, 1] * filled[:, 1]], axis=-1)
    bays = (
        np.where(regular, kinds[:, :1], kinds[:, 1:]),
        there,
        np.stack([x, np.broadcast_to((face + deep)[:, None], x.shape), z], axis=-1),
        np.broadcast_to(size[:, None], (batch, _CELLS, 3)),
    )
    zero = np.zeros(batch)
    wall = np.stack([zero, face - 0.24, tall], -1)[:, None], np.stack([wide, zero + 0.24, tall], -1)[:, None]
    # bands run between the rows of bays
    level = np.maximum(base[:, None] + 2.0 * np.arange(_BANDS) * cell[:, 1:], 0.5 * band[..., 1]) + 0.001
    bands_at = np.stack([np.zeros_like(level), face[:, None] + band[..., 0], level], axis=-1)
    bands = np.stack([np.broadcast_to(wide[:, None] + 0.02, level.shape), band[..., 0], 0.5 * band[..., 1]], axis=-1)
    under = np.minimum(base, 0.6) * 0.5 - 0.01
    stair = np.stack([wide * (0.3 + 0.7 * stairs[:, 0]), 0.4 + 0.6 * stairs[:, 1], np.maximum(under, 0.02)], axis=-1)
    stair_at = np.stack([zero, face + stair[:, 1], stair[:, 2]], axis=-1)
    kind = [bays[0], np.full((batch, 1), _WALL), np.full((batch, _BANDS), _CORNICE), np.full((batch, 1), _STEPS)]
    present = [bays[1], np.ones((batch, 1), bool), banded & (np.arange(_BANDS) < rows[:, None])]
    present.append((has_stairs & (under > 0.05))[:, None])
    center = np.concatenate([bays[2], wall[0], bands_at, stair_at[:, None]], axis=1)
    extent = np.concatenate([bays[3], wall[1], bands, stair[:, None]], axis=1)
    rest = LARGE - center.shape[1]

    def filled_up(values: Array) -> Array:
        return np.concatenate([values, np.ones((batch, rest, *values.shape[2:]), values.dtype)], axis=1)

    objects = Objects(
        kind=np.pad(np.concatenate(kind, axis=1), ((0, 0), (0, rest))),
        present=np.pad(np.concatenate(present, axis=1), ((0, 0), (0, rest))),
        center=filled_up(center),
        half=filled_up(extent),
        yaw=np.zeros((batch, LARGE)),
    )
    corners = np.stack([np.stack([-wide, face, zero], -1), np.stack([wide, face, 2.0 * tall], -1)], axis=1)
    return objects, half, 2.0 * tall + 6.0, corners
