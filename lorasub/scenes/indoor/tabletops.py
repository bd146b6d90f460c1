"""Draws the small things that stand on tables, boards and cupboards."""

from __future__ import annotations

import numpy as np

from lorasub.scenes.indoor.catalogue import CATALOGUE
from lorasub.scenes.indoor.furniture import SMALL
from lorasub.scenes.indoor.interior import CELLS, HANGING_SLOTS, STANDING_SLOTS, Objects, Supports, footprint
from lorasub.scenes.indoor.ranges import MOST_SMALL, IndoorRanges
from lorasub.scenes.streams import Array, BoolArray, Draws, IntArray

#: What hangs and is deeper than this is something that things stand under.
_THIN = 0.17


def supports_of(large: Objects, height: Array, wanted_object: IntArray, close: BoolArray) -> Supports:
    """The tops and boards of all pieces.

    Args:
        large: the pieces.
        height: ``[B]`` of the rooms.
        wanted_object: ``[B]`` which piece a close scene looks at.
        close: ``[B]``, whether a scene does.
    """
    a, b = CATALOGUE.support_a[large.kind], CATALOGUE.support_b[large.kind]
    there = CATALOGUE.supports[large.kind]
    half = large.half[:, :, None]  # [B, O, 1, 3]
    place = a * half[..., (0, 1, 2, 0, 1, 2)] + b  # [B, O, Q, 6]
    cos, sin = np.cos(large.yaw)[..., None], np.sin(large.yaw)[..., None]
    level = large.center[..., 2:] + place[..., 2]
    room, behind = _under_hanging(large, level, np.minimum(place[..., 5], height[:, None, None] - level - 0.02))
    place[..., 1] += 0.5 * behind
    place[..., 4] -= 0.5 * behind
    x, y = place[..., 0], place[..., 1]
    center = large.center[:, :, None] + np.stack([cos * x - sin * y, sin * x + cos * y, place[..., 2]], axis=-1)
    present = there & large.present[..., None] & (room > 0.05) & (place[..., 3:5] > 0.03).all(-1)
    batch = len(close)
    wanted = np.zeros_like(present)
    wanted[np.arange(batch), wanted_object] = close[:, None]
    return Supports(
        present.reshape(batch, -1),
        center.reshape(batch, -1, 3),
        place[..., 3:5].reshape(batch, -1, 2),
        np.minimum(room, 0.6).reshape(batch, -1),
        np.broadcast_to(large.yaw[..., None], present.shape).reshape(batch, -1),
        wanted.reshape(batch, -1),
    )


def _under_hanging(large: Objects, level: Array, room: Array) -> tuple[Array, Array]:
    """Free height ``[B, O, Q]`` above levels, and how much of their depth lies behind what hangs on the wall.

    Under cupboards and boards things are low; before pictures and windows they stand away from the wall.
    """
    under, hung = large.present[:, STANDING_SLOTS], large.present[:, HANGING_SLOTS]
    low = (large.center[..., 2] - large.half[..., 2])[:, HANGING_SLOTS, None]
    deep = 2.0 * large.half[:, HANGING_SLOTS, 1, None]
    here, free = level[:, STANDING_SLOTS], room[:, STANDING_SLOTS]
    meets = (under & hung)[..., None] & (here + free > low)
    behind = np.zeros_like(room)
    behind[:, STANDING_SLOTS] = np.where(meets & (deep <= _THIN), deep + 0.04, 0.0)
    room = room.copy()
    room[:, STANDING_SLOTS] = np.where(meets & (deep > _THIN), np.minimum(free, low - here - 0.01), free)
    return room, behind


def draw_small(draws: Draws, ranges: IndoorRanges, supports: Supports) -> Objects:
    """Small things in cells of the supports, at most one in each, within the cell and under what is above."""
    batch, many = supports.present.shape
    number = draws.integer(ranges.small)
    key = draws.uniform((0.0, 1.0), many, CELLS)
    kind = CATALOGUE.pick(SMALL, draws.uniform((0.0, 1.0), MOST_SMALL))
    size = draws.uniform((0.0, 1.0), MOST_SMALL, 3)
    grow = draws.log_uniform((0.8, 1.5), MOST_SMALL)
    place = draws.uniform((-1.0, 1.0), MOST_SMALL, 2)
    turn = draws.uniform((-1.0, 1.0), MOST_SMALL)

    cells = np.clip(np.floor(2.0 * supports.half[..., 0] / 0.22), 1, CELLS)  # [B, Q]
    there = supports.present[..., None] & (np.arange(CELLS) < cells[..., None])
    key = np.where(there, key - supports.wanted[..., None], 2.0).reshape(batch, -1)
    first = np.argsort(key, axis=-1, kind="stable")[:, :MOST_SMALL]
    present = (np.take_along_axis(key, first, 1) < 1.5) & (np.arange(MOST_SMALL) < number[:, None])
    which, cell = first // CELLS, first % CELLS
    rows = np.arange(batch)[:, None]
    base, wide, yaw = supports.center[rows, which], supports.half[rows, which], supports.yaw[rows, which]
    cell_half = wide[..., 0] / cells[rows, which]
    middle = -wide[..., 0] + (2 * cell + 1) * cell_half
    # what is turned fits with its half diagonal; so the sizes are the least of wish and room
    half = CATALOGUE.between(kind, size) * grow[..., None]
    angle = 0.35 * turn
    flat_x, flat_y = footprint(half[..., 0], half[..., 1], angle)
    shrink = np.minimum(1.0, np.minimum((cell_half - 0.008) / flat_x, (wide[..., 1] - 0.008) / flat_y))
    shrink = np.minimum(shrink, (0.5 * supports.room[rows, which] - 0.01) / half[..., 2])
    present &= shrink > 0.35
    half = half * np.maximum(shrink, 0.05)[..., None]
    flat_x, flat_y = footprint(half[..., 0], half[..., 1], angle)
    x = middle + place[..., 0] * np.maximum(cell_half - 0.005 - flat_x, 0.0)
    y = place[..., 1] * np.maximum(wide[..., 1] - 0.005 - flat_y, 0.0)
    cos, sin = np.cos(yaw), np.sin(yaw)
    center = base + np.stack([cos * x - sin * y, sin * x + cos * y, half[..., 2]], axis=-1)
    return Objects(kind, present, center, half, yaw + angle)
