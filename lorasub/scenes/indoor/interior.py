"""What a room holds: large pieces, the level places on them, small things; and where there is room for a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lorasub.scenes.description import FIRST_OBJECT, Primitive
from lorasub.scenes.indoor.catalogue import CATALOGUE
from lorasub.scenes.indoor.ranges import MOST_SMALL, PLACES
from lorasub.scenes.streams import Array, BoolArray, IntArray

SIDES, CHAIRS, CELLS = 4, 4, 4
ALONG = SIDES * PLACES
#: Objects: along the walls, on the walls, table or the like, chairs around it; small things follow.
STANDING_SLOTS, HANGING_SLOTS, CENTRE_SLOTS = (
    slice(0, ALONG),
    slice(ALONG, 2 * ALONG),
    slice(2 * ALONG, 2 * ALONG + 1 + CHAIRS),
)
LARGE = CENTRE_SLOTS.stop
OBJECTS = LARGE + MOST_SMALL
#: Surfaces: two of each object, body and accent, after those of the room.
SURFACES = FIRST_OBJECT + 2 * OBJECTS
MAX_SOLIDS = 160


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

    def where(self, scenes: BoolArray, other: Objects) -> Objects:
        """These, but the others in scenes ``[B]``."""
        one, two = scenes[:, None], scenes[:, None, None]
        return Objects(
            np.where(one, other.kind, self.kind),
            np.where(one, other.present, self.present),
            np.where(two, other.center, self.center),
            np.where(two, other.half, self.half),
            np.where(one, other.yaw, self.yaw),
        )

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
        x, y = footprint(self.half[..., 0], self.half[..., 1], self.yaw)
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
        facade: ``[B]``, whether it is a wall under the sky.
        face: ``[B, 2, 3]`` two corners of that wall's face.
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
    facade: BoolArray
    face: Array
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
            self.facade[scenes],
            self.face[scenes],
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


def footprint(wide: Array, deep: Array, yaw: Array) -> tuple[Array, Array]:
    """Half extents along x and y of a rectangle that is turned by ``yaw``."""
    cos, sin = np.abs(np.cos(yaw)), np.abs(np.sin(yaw))
    return cos * wide + sin * deep, sin * wide + cos * deep
