"""Draws what stands along the walls of a room, and what hangs on them.

Along each wall the pieces take their turn, so none meets another; those of the second pair of walls keep clear of the
depth of the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lorasub.scenes.indoor.catalogue import CATALOGUE
from lorasub.scenes.indoor.furniture import HANGING, STANDING
from lorasub.scenes.indoor.interior import ALONG, SIDES, Objects, footprint
from lorasub.scenes.indoor.ranges import PLACES, IndoorRanges
from lorasub.scenes.streams import Array, BoolArray, Draws, IntArray

_MARGIN = 0.03
_CLOSE = CATALOGUE.index("bins", "shelf", "rack", "desk", "table", "cupboards", "chest")
_PILLAR, _DOOR, _CURTAINS = CATALOGUE.index("pillar", "door", "curtains")


@dataclass(slots=True)
class _Rows:
    """Pieces of one sort in B rooms, W walls and P places along each: ``[B, W, P]``.

    Attributes:
        kind: rows of the catalogue.
        present: which there are.
        half: ``[B, W, P, 3]`` half extents.
        yaw: against the wall.
        gap: to the wall.
    """

    kind: IntArray
    present: BoolArray
    half: Array
    yaw: Array
    gap: Array


def draw_walls(
    draws: Draws, ranges: IndoorRanges, half: Array, height: Array, close: BoolArray
) -> tuple[Objects, Objects, Array]:
    """Pieces along the walls, pieces on the walls above them, and how far both reach into the room, ``[B, W]``.

    Args:
        draws: the stream of the geometry.
        ranges: what is drawn from.
        half: ``[B, 2]`` half width and half depth of the rooms.
        height: ``[B]`` of the rooms.
        close: ``[B]``, whether a room must have a piece to look at from close by; it is the first one.
    """
    shape = (SIDES, PLACES)
    number = draws.integer(ranges.filled, SIDES)
    kind = CATALOGUE.pick(STANDING, draws.uniform((0.0, 1.0), *shape))
    wanted = _CLOSE[draws.choice(len(_CLOSE))]
    size = draws.uniform((0.0, 1.0), *shape, 3)
    bare = draws.chance(0.18, *shape)
    kind_above = CATALOGUE.pick(HANGING, draws.uniform((0.0, 1.0), *shape))
    size_above = draws.uniform((0.0, 1.0), *shape, 3)
    above = draws.chance(ranges.hanging, *shape)
    place_above = draws.uniform((0.0, 1.0), *shape, 2)
    yaw = draws.uniform((-ranges.crooked, ranges.crooked), *shape)
    gap = draws.uniform(ranges.gap, *shape)
    slack = draws.uniform((0.02, 1.0), SIDES, PLACES + 1)

    kind[:, 0, 0] = np.where(close, wanted, kind[:, 0, 0])
    bare[:, 0, 0] &= ~close
    used = np.arange(PLACES) < number[..., None]
    level = np.zeros_like(yaw)
    standing = _Rows(kind, used & ~bare, CATALOGUE.between(kind, size), yaw, gap)
    hanging = _Rows(kind_above, used & above, CATALOGUE.between(kind_above, size_above), level, level + 0.002)
    _fit_standing(standing, half, height)
    along, aside, reach = _take_turns(standing, hanging, half, slack, place_above[..., 1])
    rise = _hang(standing, hanging, height, place_above[..., 0])
    return (
        _in_room(standing, half, along, standing.half[..., 2]),
        _in_room(hanging, half, along + aside, rise),
        reach,
    )


def _fit_standing(rows: _Rows, half: Array, height: Array) -> None:
    """Make pieces fit into the height of the room, and leave a metre between opposite ones."""
    pillar = rows.kind == _PILLAR
    flat = pillar | (rows.kind == _DOOR)
    rows.yaw, rows.gap = np.where(flat, 0.0, rows.yaw), np.where(flat, 0.001, rows.gap)
    tall = 0.5 * height[:, None, None]
    rows.half[..., 2] = np.where(pillar, tall - 0.001, np.minimum(rows.half[..., 2], tall - 0.05))
    deepest = 0.5 * (half[:, (1, 0, 1, 0)] - 0.5)[..., None] - 0.04
    rows.half[..., 1] = np.minimum(rows.half[..., 1], deepest - 0.08 * rows.half[..., 0])


def _take_turns(standing: _Rows, hanging: _Rows, half: Array, slack: Array, shift: Array) -> tuple[Array, Array, Array]:
    """Places along the walls ``[B, W, P]``, how far what hangs is beside them, and the reach into the room ``[B, W]``.

    A place is as wide as the wider of its two pieces. What does not fit any more is left out, and the rest of the
    length goes between the pieces in the shares ``slack``.
    """
    wide, deep = footprint(standing.half[..., 0], standing.half[..., 1], standing.yaw)
    slot = np.where(standing.present, wide, 0.0)
    narrower = np.minimum(hanging.half[..., 0], np.maximum(slot, 0.12))
    hanging.half[..., 0] = np.where(standing.present, narrower, hanging.half[..., 0])
    slot = np.maximum(slot, np.where(hanging.present, hanging.half[..., 0], 0.0)) + _MARGIN
    reach = np.where(standing.present, 2.0 * deep + standing.gap, 0.0)
    reach = np.maximum(reach, np.where(hanging.present, 2.0 * hanging.half[..., 1] + 0.01, 0.0)).max(-1) + 0.01
    length = 2.0 * half[:, (0, 1, 0, 1)]
    length[:, 1::2] -= reach[:, (0,)] + reach[:, (2,)]
    fits = np.cumsum(2.0 * slot, axis=-1) <= length[..., None]
    standing.present, hanging.present = standing.present & fits, hanging.present & fits
    slot = np.where(fits, slot, 0.0)
    free = length - 2.0 * slot.sum(-1)
    share = np.cumsum(slack, axis=-1) / slack.sum(-1, keepdims=True)
    begin = np.cumsum(2.0 * slot, axis=-1) - slot
    along = begin + share[..., :-1] * free[..., None] - 0.5 * length[..., None]
    along[:, 1::2] += 0.5 * np.array([1.0, -1.0])[:, None] * (reach[:, (0,)] - reach[:, (2,)])[:, None]
    aside = np.maximum(slot - _MARGIN - hanging.half[..., 0], 0.0) * (2.0 * shift - 1.0)
    return along, aside, reach


def _hang(standing: _Rows, hanging: _Rows, height: Array, place: Array) -> Array:
    """Heights ``[B, W, P]`` of the middles of what hangs: between what stands below and the ceiling."""
    long = hanging.kind == _CURTAINS
    low = np.where(standing.present, 2.0 * standing.half[..., 2] + 0.08, np.where(long, 0.02, 0.9))
    top = height[:, None, None] - 0.06
    hanging.present = hanging.present & (top - low > 0.28)
    hanging.half[..., 2] = np.minimum(hanging.half[..., 2], 0.5 * np.maximum(top - low, 0.1))
    room = np.maximum(top - low - 2.0 * hanging.half[..., 2], 0.0)
    rise: Array = low + hanging.half[..., 2] + room * (0.15 + 0.7 * place)
    return rise


def _in_room(rows: _Rows, half: Array, along: Array, rise: Array) -> Objects:
    """Pieces at places along their walls, in the room's frame; wall w is turned by w quarters of a turn."""
    batch = len(half)
    turned = 0.5 * np.pi * np.arange(SIDES)[:, None]
    cos, sin = np.cos(turned).round(), np.sin(turned).round()
    out = rows.gap + footprint(rows.half[..., 0], rows.half[..., 1], rows.yaw)[1] - half[:, (1, 0, 1, 0)][..., None]
    center = np.stack([cos * along - sin * out, sin * along + cos * out, rise], axis=-1)
    return Objects(
        rows.kind.reshape(batch, ALONG),
        rows.present.reshape(batch, ALONG),
        center.reshape(batch, ALONG, 3),
        rows.half.reshape(batch, ALONG, 3),
        (turned + rows.yaw).reshape(batch, ALONG),
    )
