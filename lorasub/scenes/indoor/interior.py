"""Contents of a room as arrays: large pieces, the level places on them, and the room for a camera."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

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


class _Scenes:
    """Base of dataclasses whose arrays, or parts of the same kind, have the scene as their first axis."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, field.name) for field in dataclasses.fields(self))  # type: ignore[arg-type]

    def of(self, scenes: IntArray) -> Self:
        """Returns some of the scenes."""
        return type(self)(*(each.of(scenes) if isinstance(each, _Scenes) else each[scenes] for each in self))


@dataclass(frozen=True, slots=True)
class Objects(_Scenes):
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
        return Objects(
            *(
                np.where(scenes.reshape(-1, *[1] * (own.ndim - 1)), its, own)
                for own, its in zip(self, other, strict=True)
            )
        )

    @staticmethod
    def join(*parts: Objects) -> Objects:
        """All of them."""
        return Objects(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True)))

    def limited(self, most: int) -> Objects:
        """Without the last ones, if there are more solids in a scene than ``most``."""
        solids = np.where(self.present, (CATALOGUE.kind != int(Primitive.NONE)).sum(-1)[self.kind], 0)
        return dataclasses.replace(self, present=self.present & (np.cumsum(solids, axis=1) <= most))

    def extent(self) -> Array:
        """``[B, O, 3]`` half extents along the world's axes."""
        x, y = footprint(self.half[..., 0], self.half[..., 1], self.yaw)
        return np.stack([x, y, self.half[..., 2]], axis=-1)


@dataclass(frozen=True, slots=True)
class Supports(_Scenes):
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
class Interior(_Scenes):
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


def footprint(wide: Array, deep: Array, yaw: Array) -> tuple[Array, Array]:
    """Half extents along x and y of a rectangle that is turned by ``yaw``."""
    cos, sin = np.abs(np.cos(yaw)), np.abs(np.sin(yaw))
    return cos * wide + sin * deep, sin * wide + cos * deep
