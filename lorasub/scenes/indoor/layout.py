"""Draws rooms: pieces flush with the walls, others in the middle, and small things on what has a top.

Along each wall the pieces take their turn, so none meets another; those of the second pair of walls keep clear of the
depth of the first. A square beside the middle is left free, where a camera can always stand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lorasub.scenes.description import FIRST_OBJECT, Geometry, Primitive
from lorasub.scenes.indoor.furniture import CATALOGUE, HANGING, SMALL, STANDING
from lorasub.scenes.indoor.ranges import IndoorRanges
from lorasub.scenes.streams import Array, BoolArray, Draws, IntArray

SIDES, PLACES, CHAIRS, MOST_SMALL, CELLS = 4, 3, 4, 20, 4
_ALONG = SIDES * PLACES
#: Objects: along the walls, on the walls, table or the like, chairs around it; small things follow.
STANDING_SLOTS, HANGING_SLOTS, CENTRE_SLOTS = (
    slice(0, _ALONG),
    slice(_ALONG, 2 * _ALONG),
    slice(2 * _ALONG, 2 * _ALONG + 1 + CHAIRS),
)
LARGE = CENTRE_SLOTS.stop
OBJECTS = LARGE + MOST_SMALL
#: Surfaces: two of each object, body and accent, after those of the room.
SURFACES = FIRST_OBJECT + 2 * OBJECTS
MAX_SOLIDS = 128
GEOMETRY_DRAWS = 1400
#: Half the side of the square that is left free.
FREE = 0.33
_MARGIN = 0.03
_CENTRE = CATALOGUE.index("table", "desk", "sofa", "armchair", "box", "chest")
_CLOSE = CATALOGUE.index("bins", "shelf", "rack", "desk", "table", "cupboards", "chest")
_CHAIR, _TABLE, _PILLAR, _DOOR, _CURTAINS = CATALOGUE.index("chair", "table", "pillar", "door", "curtains")


@dataclass(frozen=True, slots=True)
class Objects:
    """O pieces in each of B scenes.

    Attributes:
        kind: ``[B, O]`` rows of the catalogue.
        present: ``[B, O]``.
        center: ``[B, O, 3]``.
        half: ``[B, O, 3]`` half extents in the piece's own frame.
        yaw: ``[B, O]`` radians.
    """

    kind: IntArray
    present: BoolArray
    center: Array
    half: Array
    yaw: Array

    @staticmethod
    def join(*parts: Objects) -> Objects:
        """All of them."""
        return Objects(
            np.concatenate([part.kind for part in parts], axis=1),
            np.concatenate([part.present for part in parts], axis=1),
            np.concatenate([part.center for part in parts], axis=1),
            np.concatenate([part.half for part in parts], axis=1),
            np.concatenate([part.yaw for part in parts], axis=1),
        )

    def limited(self, most: int) -> Objects:
        """Without the last ones, if there are more solids in a scene than ``most``."""
        solids = np.where(self.present, (CATALOGUE.kind != int(Primitive.NONE)).sum(-1)[self.kind], 0)
        present = self.present & (np.cumsum(solids, axis=1) <= most)
        return Objects(self.kind, present, self.center, self.half, self.yaw)

    def of(self, scenes: IntArray) -> Objects:
        """Those of some scenes."""
        return Objects(
            self.kind[scenes], self.present[scenes], self.center[scenes], self.half[scenes], self.yaw[scenes]
        )

    def extent(self) -> Array:
        """``[B, O, 3]`` half extents along the world's axes."""
        x, y = _footprint(self.half[..., 0], self.half[..., 1], self.yaw)
        return np.stack([x, y, self.half[..., 2]], axis=-1)


@dataclass(frozen=True, slots=True)
class Supports:
    """Q level places where small things stand, in each of B scenes.

    Attributes:
        present: ``[B, Q]``.
        center: ``[B, Q, 3]``.
        half: ``[B, Q, 2]`` half extents in the frame of the piece.
        room: ``[B, Q]`` free height above.
        yaw: ``[B, Q]``.
        wanted: ``[B, Q]``, those that a close scene looks at.
    """

    present: BoolArray
    center: Array
    half: Array
    room: Array
    yaw: Array
    wanted: BoolArray


@dataclass(frozen=True, slots=True)
class Interior:
    """B rooms: what cameras and lights have to know of them.

    Attributes:
        half: ``[B, 2]``, ``height``: ``[B]`` of the room.
        close: ``[B]``, whether the scene is seen from close by.
        objects: the large pieces, O = :data:`LARGE`.
        kinds: ``[B, OBJECTS]`` rows of the catalogue, of small things as well.
        supports: where small things stand.
        low, high: ``[B, K, 3]`` box around each solid; empty (low > high) where there is none.
        spot: ``[B, 2]`` middle of the square that is left free.
        depths: ``[B, 4]`` how far things reach into the room from each wall.
    """

    half: Array
    height: Array
    close: BoolArray
    objects: Objects
    kinds: IntArray
    supports: Supports
    low: Array
    high: Array
    spot: Array
    depths: Array

    def of(self, scenes: IntArray) -> Interior:
        """Some of the rooms."""
        supports = self.supports
        return Interior(
            self.half[scenes],
            self.height[scenes],
            self.close[scenes],
            self.objects.of(scenes),
            self.kinds[scenes],
            Supports(
                supports.present[scenes],
                supports.center[scenes],
                supports.half[scenes],
                supports.room[scenes],
                supports.yaw[scenes],
                supports.wanted[scenes],
            ),
            self.low[scenes],
            self.high[scenes],
            self.spot[scenes],
            self.depths[scenes],
        )


def draw_interior(draws: Draws, ranges: IndoorRanges) -> tuple[Geometry, Interior]:
    """Rooms and what is in them, for the renderer and for those who place cameras and lights in them."""
    half = draws.uniform(ranges.room, 2)
    height = draws.uniform(ranges.height)
    close = draws.chance(ranges.close)
    standing, hanging, depths = _draw_walls(draws, ranges, half, height, close)
    centre, spot = _draw_centre(draws, ranges, half, depths)
    large = Objects.join(standing, hanging, centre).limited(MAX_SOLIDS)
    supports = _supports(large, close)
    small = _draw_small(draws, ranges, supports)
    objects = Objects.join(large, small).limited(MAX_SOLIDS)
    geometry, low, high = _solids(objects, half, height)
    return geometry, Interior(half, height, close, large, objects.kind, supports, low, high, spot, depths)


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
    wide, deep = _footprint(extent[..., 0], extent[..., 1], yaw)
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
        center = np.stack([x, y, z], axis=-1).reshape(batch, _ALONG, 3)
        flat = (batch, _ALONG)
        return Objects(which.reshape(flat), there.reshape(flat), center, size.reshape(*flat, 3), turn.reshape(flat))

    standing = objects(kind, present, along, gap + deep, extent[..., 2], extent, turned + yaw)
    onto = objects(kind_above, above, along + side, hung[..., 1] + 0.002, level, hung, turned + 0.0 * yaw)
    return standing, onto, reach


def _draw_centre(draws: Draws, ranges: IndoorRanges, half: Array, depths: Array) -> tuple[Objects, Array]:
    """A piece in the free middle, chairs around it if it is a table, and the square that is left free beside it."""
    batch = len(half)
    there = draws.chance(ranges.centre)
    kind = _CENTRE[draws.choice(len(_CENTRE))]
    laid = draws.chance(0.45)
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
    wide, deep = _footprint(reach_x, reach_y, yaw)
    need = np.stack([wide, deep], axis=-1)
    room = 0.5 * (high - low) - need
    alone_wide, alone_deep = _footprint(extent[:, 0], extent[:, 1], yaw)
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


def _supports(large: Objects, close: BoolArray) -> Supports:
    """The tops and boards of all pieces."""
    a, b = CATALOGUE.support_a[large.kind], CATALOGUE.support_b[large.kind]
    there = CATALOGUE.supports[large.kind]
    half = large.half[:, :, None]  # [B, O, 1, 3]
    place = a * half[..., (0, 1, 2, 0, 1, 2)] + b  # [B, O, Q, 6]
    cos, sin = np.cos(large.yaw)[..., None], np.sin(large.yaw)[..., None]
    x, y = place[..., 0], place[..., 1]
    center = large.center[:, :, None] + np.stack([cos * x - sin * y, sin * x + cos * y, place[..., 2]], axis=-1)
    present = there & large.present[..., None] & (place[..., 5] > 0.05) & (place[..., 3:5] > 0.03).all(-1)
    wanted = np.zeros_like(present)
    wanted[:, 0] = close[:, None]
    batch = len(close)
    return Supports(
        present.reshape(batch, -1),
        center.reshape(batch, -1, 3),
        place[..., 3:5].reshape(batch, -1, 2),
        np.minimum(place[..., 5], 0.6).reshape(batch, -1),
        np.broadcast_to(large.yaw[..., None], present.shape).reshape(batch, -1),
        wanted.reshape(batch, -1),
    )


def _draw_small(draws: Draws, ranges: IndoorRanges, supports: Supports) -> Objects:
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
    flat_x, flat_y = _footprint(half[..., 0], half[..., 1], angle)
    shrink = np.minimum(1.0, np.minimum((cell_half - 0.008) / flat_x, (wide[..., 1] - 0.008) / flat_y))
    shrink = np.minimum(shrink, (0.5 * supports.room[rows, which] - 0.01) / half[..., 2])
    present &= shrink > 0.35
    half = half * np.maximum(shrink, 0.05)[..., None]
    flat_x, flat_y = _footprint(half[..., 0], half[..., 1], angle)
    x = middle + place[..., 0] * np.maximum(cell_half - 0.005 - flat_x, 0.0)
    y = place[..., 1] * np.maximum(wide[..., 1] - 0.005 - flat_y, 0.0)
    cos, sin = np.cos(yaw), np.sin(yaw)
    center = base + np.stack([cos * x - sin * y, sin * x + cos * y, half[..., 2]], axis=-1)
    return Objects(kind, present, center, half, yaw + angle)


def _solids(objects: Objects, half: Array, height: Array) -> tuple[Geometry, Array, Array]:
    """The solids of all objects, and the boxes around them."""
    batch = len(objects.kind)
    rows = np.arange(batch)[:, None]
    each = np.where(objects.present[..., None], CATALOGUE.kind[objects.kind], int(Primitive.NONE))
    pieces = each.shape[-1]
    kind = each.reshape(batch, -1)
    front = np.argsort(kind == int(Primitive.NONE), axis=-1, kind="stable")[:, :MAX_SOLIDS]  # used places first
    kind = kind[rows, front]
    owner, piece = front // pieces, front % pieces
    what, yaw, wide = objects.kind[rows, owner], objects.yaw[rows, owner], objects.half[rows, owner]
    inside = CATALOGUE.center_a[what, piece] * wide + CATALOGUE.center_b[what, piece]
    size = CATALOGUE.size_a[what, piece] * wide + CATALOGUE.size_b[what, piece]
    up = CATALOGUE.up[what, piece]
    size = np.maximum((np.abs(up).swapaxes(-1, -2) @ size[..., None])[..., 0], 5e-4)  # along the primitive's axes
    cos, sin, zero = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)
    turn = np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1.0], -1).reshape(*yaw.shape, 3, 3)
    center = objects.center[rows, owner] + (turn @ inside[..., None])[..., 0]
    rotation = turn @ up
    extent = (np.abs(rotation) @ size[..., None])[..., 0]
    used = (kind != int(Primitive.NONE))[..., None]
    low, high = np.where(used, center - extent, 1e3), np.where(used, center + extent, -1e3)

    def tensor(values: Array) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32)

    geometry = Geometry(
        kind=torch.as_tensor(kind, dtype=torch.int32),
        center=tensor(center),
        rotation=tensor(rotation),
        size=tensor(size),
        shape=tensor(CATALOGUE.shape[what, piece]),
        surface=torch.as_tensor(FIRST_OBJECT + 2 * owner + CATALOGUE.accent[what, piece], dtype=torch.int32),
        room=tensor(np.concatenate([half, height[:, None]], axis=-1)),
        open=torch.zeros(batch, dtype=torch.bool),
    )
    return geometry, low, high


def _footprint(wide: Array, deep: Array, yaw: Array) -> tuple[Array, Array]:
    """Half extents along x and y of a rectangle that is turned by ``yaw``."""
    cos, sin = np.abs(np.cos(yaw)), np.abs(np.sin(yaw))
    return cos * wide + sin * deep, sin * wide + cos * deep
