"""Draws what stands in the middle of a room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lorasub.scenes.indoor.catalogue import CATALOGUE
from lorasub.scenes.indoor.interior import CHAIRS, Objects, footprint
from lorasub.scenes.indoor.ranges import FREE, IndoorRanges
from lorasub.scenes.streams import Array, BoolArray, Draws

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

    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    chair_x, chair_y = _PLACE * extent[:, 0, None], _SIDE * out
    x = middle[:, :1] + cos * chair_x - sin * chair_y
    y = middle[:, 1:] + sin * chair_x + cos * chair_y
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
