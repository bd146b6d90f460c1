"""Draws rooms: pieces flush with the walls, others in the middle, and small things on what has a top.

Along each wall the pieces take their turn, so none meets another; those of the second pair of walls keep clear of the
depth of the first. A square beside the middle is left free, where a camera can always stand.
"""

from __future__ import annotations

import numpy as np

from lorasub.scenes.description import Geometry
from lorasub.scenes.indoor.catalogue import CATALOGUE
from lorasub.scenes.indoor.facades import draw_facade
from lorasub.scenes.indoor.hanging import HANGING
from lorasub.scenes.indoor.interior import (
    ALONG,
    CENTRE_SLOTS,
    CHAIRS,
    MAX_SOLIDS,
    SIDES,
    Interior,
    Objects,
    footprint,
)
from lorasub.scenes.indoor.ranges import FREE, PLACES, IndoorRanges
from lorasub.scenes.indoor.solids import solids_of
from lorasub.scenes.indoor.standing import STANDING
from lorasub.scenes.indoor.tabletops import draw_small, supports_of
from lorasub.scenes.streams import Array, BoolArray, Draws, IntArray

#: Numbers that a room takes from its stream at most.
GEOMETRY_DRAWS = 1500
_MARGIN = 0.03
_CENTRE = CATALOGUE.index("table", "desk", "sofa", "armchair", "box", "chest")
_CLOSE = CATALOGUE.index("bins", "shelf", "rack", "desk", "table", "cupboards", "chest")
_CHAIR, _TABLE, _PILLAR, _DOOR, _CURTAINS = CATALOGUE.index("chair", "table", "pillar", "door", "curtains")


def draw_interior(draws: Draws, ranges: IndoorRanges) -> tuple[Geometry, Interior]:
    """Rooms and what is in them, for the renderer and for those who place cameras and lights in them."""
    half = draws.uniform(ranges.room, 2)
    height = draws.uniform(ranges.height)
    setting = draws.uniform((0.0, 1.0))
    facade = setting < ranges.facade
    close = ~facade & (setting < ranges.facade + ranges.close)
    across = draws.chance(0.4) & close  # over a table in the middle, with the room behind it
    standing, hanging, depths = _draw_walls(draws, ranges, half, height, close)
    centre, spot = _draw_centre(draws, ranges, half, depths, across)
    outdoors, free, above, face = draw_facade(draws)
    large = Objects.join(standing, hanging, centre).where(facade, outdoors).limited(MAX_SOLIDS)
    half = np.where(facade[:, None], free, half)
    height = np.where(facade, above, height)
    spot = np.where(facade[:, None], [0.0, 1.0], spot)
    across &= large.present[:, CENTRE_SLOTS.start]
    supports = supports_of(large, np.where(across, CENTRE_SLOTS.start, 0), close)
    small = draw_small(draws, ranges, supports)
    objects = Objects.join(large, small).limited(MAX_SOLIDS)
    geometry, low, high = solids_of(objects, half, height, facade)
    return geometry, Interior(half, height, close, facade, face, large, objects.kind, supports, low, high, spot, depths)


def _draw_walls(
    draws: Draws, ranges: IndoorRanges, half: Array, height: Array, close: BoolArray
) -> tuple[Objects, Objects, Array]:
    """Pieces along the walls, pieces on the walls above them, and how far they reach into the room."""
    batch = len(half)
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
    present = (np.arange(PLACES) < number[..., None]) & ~bare
    extent = CATALOGUE.between(kind, size)
    flat = (kind == _DOOR) | (kind == _PILLAR)
    yaw, gap = np.where(flat, 0.0, yaw), np.where(flat, 0.001, gap)
    extent[..., 2] = np.where(kind == _PILLAR, 0.5 * height[:, None, None] - 0.001, extent[..., 2])
    extent[..., 2] = np.minimum(extent[..., 2], 0.5 * height[:, None, None] - 0.05 * (kind != _PILLAR))
    # opposite pieces leave a metre between them
    deepest = 0.5 * (half[:, (1, 0, 1, 0)] - 0.5)[..., None] - 0.04
    extent[..., 1] = np.minimum(extent[..., 1], deepest - 0.08 * extent[..., 0])
    wide, deep = footprint(extent[..., 0], extent[..., 1], yaw)
    hung = CATALOGUE.between(kind_above, size_above)

    # along the wall: the wider of both, in turn, while there is room; the slack goes between them at random
    slot = np.where(present, wide, 0.0)
    hung[..., 0] = np.where(present, np.minimum(hung[..., 0], np.maximum(slot, 0.12)), hung[..., 0])
    above &= np.arange(PLACES) < number[..., None]
    slot = np.maximum(slot, np.where(above, hung[..., 0], 0.0)) + _MARGIN
    reach = np.where(present, 2.0 * deep + gap, 0.0)
    reach = np.maximum(reach, np.where(above, 2.0 * hung[..., 1] + 0.01, 0.0)).max(-1) + 0.01  # [B, 4]
    length = 2.0 * half[:, (0, 1, 0, 1)]
    length[:, 1::2] -= reach[:, (0,)] + reach[:, (2,)]
    fits = np.cumsum(2.0 * slot, axis=-1) <= length[..., None]
    present, above, slot = present & fits, above & fits, np.where(fits, slot, 0.0)
    free = length - 2.0 * slot.sum(-1)
    share = np.cumsum(slack, axis=-1) / slack.sum(-1, keepdims=True)
    begin = np.cumsum(2.0 * slot, axis=-1) - slot
    along = begin + share[..., :-1] * free[..., None] - 0.5 * length[..., None]
    along[:, 1::2] += 0.5 * np.array([1.0, -1.0])[:, None] * (reach[:, (0,)] - reach[:, (2,)])[:, None]

    tall = np.where(present, 2.0 * extent[..., 2], 0.0)
    long = kind_above == _CURTAINS
    floor_of = np.where(present, tall + 0.08, np.where(long, 0.02, 0.7))
    floor_of = np.where(present | long, floor_of, floor_of + 0.2)
    top = height[:, None, None] - 0.06
    above &= top - floor_of > 0.28
    hung[..., 2] = np.minimum(hung[..., 2], 0.5 * np.maximum(top - floor_of, 0.1))
    room = np.maximum(top - floor_of - 2.0 * hung[..., 2], 0.0)
    level = floor_of + hung[..., 2] + room * (0.15 + 0.7 * place_above[..., 0])
    side = np.maximum(slot - _MARGIN - hung[..., 0], 0.0) * (2.0 * place_above[..., 1] - 1.0)

    turned = 0.5 * np.pi * np.arange(SIDES)[:, None]
    depth = half[:, (1, 0, 1, 0)][..., None]

    def objects(which: IntArray, there: BoolArray, u: Array, v: Array, z: Array, size: Array, turn: Array) -> Objects:
        """From places ``u`` along a wall and ``v`` out of it to the world."""
        cos, sin = np.cos(turned).round(), np.sin(turned).round()
        x, y = cos * u - sin * (v - depth), sin * u + cos * (v - depth)
        center = np.stack([x, y, z], axis=-1).reshape(batch, ALONG, 3)
        flat = (batch, ALONG)
        return Objects(which.reshape(flat), there.reshape(flat), center, size.reshape(*flat, 3), turn.reshape(flat))

    standing = objects(kind, present, along, gap + deep, extent[..., 2], extent, turned + yaw)
    onto = objects(kind_above, above, along + side, hung[..., 1] + 0.002, level, hung, turned + 0.0 * yaw)
    return standing, onto, reach


def _draw_centre(
    draws: Draws, ranges: IndoorRanges, half: Array, depths: Array, across: BoolArray
) -> tuple[Objects, Array]:
    """A piece in the free middle, chairs around it if it is a table, and the square that is left free beside it."""
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

    low = np.stack([-half[:, 0] + depths[:, 3], -half[:, 1] + depths[:, 0]], -1) + 0.03
    high = np.stack([half[:, 0] - depths[:, 1], half[:, 1] - depths[:, 2]], -1) - 0.03
    longer = np.argmax(high - low, axis=-1)
    rows = np.arange(batch)
    # the free square at one end of the longer side, the piece in the rest
    spot = low + FREE + aside[:, None] * np.maximum(high - low - 2 * FREE, 0.0)
    spot[rows, longer] = np.where(end, low[rows, longer] + FREE, high[rows, longer] - FREE)
    low[rows, longer] += np.where(end, 2 * FREE, 0.0)
    high[rows, longer] -= np.where(end, 0.0, 2 * FREE)

    extent = CATALOGUE.between(kind, size)
    seat = CATALOGUE.between(np.full(batch, _CHAIR), chair)
    seat[:, 0] = np.minimum(seat[:, 0], 0.5 * extent[:, 0] - 0.1)
    around = laid[:, None] & sits & (seat[:, 0] > 0.14)[:, None]
    # chairs face the table from both long sides
    side, which = np.array([1.0, 1.0, -1.0, -1.0]), np.array([-0.5, 0.5, -0.5, 0.5])
    out = extent[:, 1, None] + seat[:, 1, None] * (1.0 - 2.0 * tuck)
    chair_x, chair_y = which * extent[:, 0, None], side * out
    # a chair's back is at its own -y: the side away from the table
    reach_x = np.where(around.any(-1), np.maximum(extent[:, 0], 0.5 * extent[:, 0] + seat[:, 0] + 0.06), extent[:, 0])
    reach_y = np.maximum(extent[:, 1], np.where(around, out + seat[:, 1, None] + 0.06, 0.0).max(-1))
    wide, deep = footprint(reach_x, reach_y, yaw)
    need = np.stack([wide, deep], axis=-1)
    room = 0.5 * (high - low) - need
    alone_wide, alone_deep = footprint(extent[:, 0], extent[:, 1], yaw)
    alone = np.stack([alone_wide, alone_deep], axis=-1)
    with_chairs: BoolArray = np.asarray((room > 0.0).all(-1))
    around &= with_chairs[:, None]
    room = np.where(with_chairs[:, None], room, 0.5 * (high - low) - alone)
    there &= (room > 0.0).all(-1)
    middle = 0.5 * (low + high) + (2.0 * place - 1.0) * np.maximum(room, 0.0)
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x = middle[:, :1] + cos * chair_x - sin * chair_y
    y = middle[:, 1:] + sin * chair_x + cos * chair_y
    chairs = Objects(
        np.full((batch, CHAIRS), _CHAIR),
        around & there[:, None],
        np.stack([x, y, np.broadcast_to(seat[:, 2:], x.shape)], axis=-1),
        np.broadcast_to(seat[:, None], (batch, CHAIRS, 3)),
        yaw[:, None] + np.where(side > 0, np.pi, 0.0) + askew,
    )
    center = np.concatenate([middle, extent[:, 2:]], axis=-1)[:, None]
    main = Objects(kind[:, None], there[:, None], center, extent[:, None], yaw[:, None])
    return Objects.join(main, chairs), spot
