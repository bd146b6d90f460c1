"""Draws what stands in a room: pieces along its walls and on them, in its middle, and small things on all of these.

Along each wall the pieces take their turn, so that no two touch; those of the second pair of walls keep clear of the
depth of the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lorasub.scenes.indoor.furniture import HANGING, SMALL, STANDING
from lorasub.scenes.indoor.interior import (
    ALONG,
    CATALOGUE,
    CELLS,
    CHAIRS,
    HANGING_SLOTS,
    SIDES,
    STANDING_SLOTS,
    Objects,
    Supports,
    footprint,
    turned,
)
from lorasub.scenes.indoor.ranges import FREE, MOST_SMALL, PLACES, IndoorRanges
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


_CENTRE = CATALOGUE.index("table", "desk", "sofa", "armchair", "box", "chest")
_CHAIR, _TABLE = CATALOGUE.index("chair", "table")
# Chairs face a table from both of its long sides.
_SIDE, _PLACE = np.array([1.0, 1.0, -1.0, -1.0]), np.array([-0.5, 0.5, -0.5, 0.5])


@dataclass(frozen=True, slots=True)
class _Floor:
    """The rectangle in the middle of each room, ``low`` to ``high [B, 2]``, and beside it the free square's middle."""

    low: Array
    high: Array
    spot: Array


def draw_centre(
    draws: Draws, ranges: IndoorRanges, half: Array, depths: Array, across: BoolArray
) -> tuple[Objects, Array]:
    """A piece in the free middle, chairs around it if it is a table, and the square that is left free beside it.

    Args:
        draws: the stream of the geometry.
        ranges: what is drawn from.
        half: ``[B, 2]`` half width and half depth of the rooms.
        depths: ``[B, 4]`` how far things reach into the room from each wall.
        across: ``[B]``, whether there must be a table, if there is room for one.
    """
    batch = len(half)
    there = draws.chance(ranges.centre) | across
    kind = _CENTRE[draws.choice(len(_CENTRE))]
    laid = draws.chance(0.45) | across
    kind = np.where(laid, _TABLE, kind)
    size = draws.uniform((0.0, 1.0), 3)
    quarter = draws.choice(4)
    yaw = draws.uniform((-0.12, 0.12)) + 0.5 * np.pi * quarter
    place = draws.uniform((0.0, 1.0), 2)
    end = draws.chance(0.5)
    tuck = draws.uniform((-0.15, 0.4), CHAIRS)
    sits = draws.chance(0.75, CHAIRS)
    chair = draws.uniform((0.0, 1.0), 3)
    askew = draws.uniform((-0.15, 0.15), CHAIRS)
    aside = draws.uniform((0.0, 1.0))

    floor = _floor(half, depths, end, aside)
    extent, seat = CATALOGUE.between(kind, size), CATALOGUE.between(np.full(batch, _CHAIR), chair)
    seat[:, 0] = np.minimum(seat[:, 0], 0.5 * extent[:, 0] - 0.125)  # between the legs, even askew
    around = laid[:, None] & sits & (seat[:, 0] > 0.14)[:, None]
    out = extent[:, 1, None] + seat[:, 1, None] * (1.0 - 2.0 * tuck)
    reach_x = np.where(around.any(-1), np.maximum(extent[:, 0], 0.5 * extent[:, 0] + seat[:, 0] + 0.06), extent[:, 0])
    reach_y = np.maximum(extent[:, 1], np.where(around, out + seat[:, 1, None] + 0.06, 0.0).max(-1))
    free = 0.5 * (floor.high - floor.low)
    room = free - np.stack(footprint(reach_x, reach_y, yaw), axis=-1)
    # without chairs where they do not fit
    with_chairs: BoolArray = np.asarray((room > 0.0).all(-1))
    around &= with_chairs[:, None]
    alone = free - np.stack(footprint(extent[:, 0], extent[:, 1], yaw), axis=-1)
    room = np.where(with_chairs[:, None], room, alone)
    there &= (room > 0.0).all(-1)
    middle = 0.5 * (floor.low + floor.high) + (2.0 * place - 1.0) * np.maximum(room, 0.0)

    chair_x, chair_y = turned(_PLACE * extent[:, 0, None], _SIDE * out, yaw[:, None])
    x, y = middle[:, :1] + chair_x, middle[:, 1:] + chair_y
    chairs = Objects(
        np.full((batch, CHAIRS), _CHAIR),
        around & there[:, None],
        np.stack([x, y, np.broadcast_to(seat[:, 2:], x.shape)], axis=-1),
        np.broadcast_to(seat[:, None], (batch, CHAIRS, 3)),
        yaw[:, None] + np.where(_SIDE > 0, np.pi, 0.0) + askew,  # their backs, at -y, away from the table
    )
    center = np.concatenate([middle, extent[:, 2:]], axis=-1)[:, None]
    main = Objects(kind[:, None], there[:, None], center, extent[:, None], yaw[:, None])
    return Objects.join(main, chairs), floor.spot


def _floor(half: Array, depths: Array, end: BoolArray, aside: Array) -> _Floor:
    """The floor that the walls leave: the free square at one end of the longer side, and the rest."""
    low = np.stack([-half[:, 0] + depths[:, 3], -half[:, 1] + depths[:, 0]], -1) + 0.03
    high = np.stack([half[:, 0] - depths[:, 1], half[:, 1] - depths[:, 2]], -1) - 0.03
    longer, rows = np.argmax(high - low, axis=-1), np.arange(len(half))
    spot = low + FREE + aside[:, None] * np.maximum(high - low - 2 * FREE, 0.0)
    spot[rows, longer] = np.where(end, low[rows, longer] + FREE, high[rows, longer] - FREE)
    low[rows, longer] += np.where(end, 2 * FREE, 0.0)
    high[rows, longer] -= np.where(end, 0.0, 2 * FREE)
    return _Floor(low, high, spot)


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
    level = large.center[..., 2:] + place[..., 2]
    room, behind = _under_hanging(large, level, np.minimum(place[..., 5], height[:, None, None] - level - 0.02))
    place[..., 1] += 0.5 * behind
    place[..., 4] -= 0.5 * behind
    x, y = turned(place[..., 0], place[..., 1], large.yaw[..., None])
    center = large.center[:, :, None] + np.stack([x, y, place[..., 2]], axis=-1)
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
    center = base + np.stack([*turned(x, y, yaw), half[..., 2]], axis=-1)
    return Objects(kind, present, center, half, yaw + angle)
