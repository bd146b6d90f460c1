"""The catalogue of pieces, and the contents of rooms, as arrays: large pieces, level places, room for a camera."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lorasub.scenes.description import FIRST_OBJECT, Primitive
from lorasub.scenes.indoor.furniture import HANGING, SMALL, STANDING
from lorasub.scenes.indoor.masonry import MASONRY
from lorasub.scenes.indoor.pieces import MOST_SUPPORTS, M, Piece
from lorasub.scenes.indoor.ranges import MOST_SMALL, PLACES
from lorasub.scenes.streams import Array, BoolArray, IntArray


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Pieces as arrays over T kinds, with at most P solids and Q supports each; ``_a`` in half extents, ``_b`` metres.

    Attributes:
        names: of the kinds.
        extent: ``[T, 2, 3]`` least and most half extents.
        kind: ``[T, P]``, a :class:`Primitive`.
        center_a, center_b: ``[T, P, 3]``.
        size_a, size_b: ``[T, P, 3]`` along the piece's axes.
        shape: ``[T, P, 4]``.
        up: ``[T, P, 3, 3]`` piece-from-primitive rotation.
        accent: ``[T, P]`` bool.
        support_a, support_b: ``[T, Q, 6]`` middle in x and y, height, half extent in x and y, and room above.
        supports: ``[T, Q]`` bool, which there are.
        roles: ``[T, 2]``, a :class:`Role`.
    """

    names: tuple[str, ...]
    extent: Array
    kind: IntArray
    center_a: Array
    center_b: Array
    size_a: Array
    size_b: Array
    shape: Array
    up: Array
    accent: BoolArray
    support_a: Array
    support_b: Array
    supports: BoolArray
    roles: IntArray

    def index(self, *names: str) -> IntArray:
        """Rows of the kinds with these names."""
        return np.array([self.names.index(name) for name in names])

    def pick(self, group: dict[str, Piece], uniform: Array) -> IntArray:
        """Kinds of a group by their weights, for numbers in [0, 1)."""
        share = np.cumsum([piece.weight for piece in group.values()])
        place = np.searchsorted(share / share[-1], uniform, side="right")
        return self.index(*group)[np.minimum(place, len(group) - 1)]

    def between(self, kind: IntArray, share: Array) -> Array:
        """Half extents ``[..., 3]`` of kinds ``[...]`` at a share of their ranges."""
        least, most = self.extent[kind, 0], self.extent[kind, 1]
        size: Array = least + (most - least) * share
        return size


#: The primitive's axes in the piece's frame when its z axis lies along x, y or z.
_UPRIGHT = np.array(
    [
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]],
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    ]
)
_FLIP = np.diag([1.0, -1.0, -1.0])


def _catalogue(pieces: dict[str, Piece]) -> Catalogue:
    """Pieces as arrays."""
    many, most = len(pieces), max(len(piece.solids) for piece in pieces.values())
    kind = np.full((many, most), int(Primitive.NONE))
    center, size = np.zeros((many, most, 3), complex), np.full((many, most, 3), 0.01 * M)
    shape, up = np.zeros((many, most, 4)), np.tile(np.eye(3), (many, most, 1, 1))
    accent = np.zeros((many, most), bool)
    support, supports = np.zeros((many, MOST_SUPPORTS, 6), complex), np.zeros((many, MOST_SUPPORTS), bool)
    for row, piece in enumerate(pieces.values()):
        for column, solid in enumerate(piece.solids):
            bounds = np.array([solid.x, solid.y, solid.z], complex)
            center[row, column], size[row, column] = bounds.mean(1), 0.5 * (bounds[:, 1] - bounds[:, 0])
            kind[row, column], accent[row, column] = int(solid.kind), solid.accent
            shape[row, column, : len(solid.shape)] = solid.shape
            up[row, column] = _UPRIGHT[solid.up] @ (_FLIP if solid.upside_down else np.eye(3))
        for column, place in enumerate(piece.supports):
            x, y = np.array(place.x, complex), np.array(place.y, complex)
            support[row, column] = [x.mean(), y.mean(), place.z, 0.5 * (x[1] - x[0]), 0.5 * (y[1] - y[0]), place.room]
            supports[row, column] = True
    extent = np.array([piece.size for piece in pieces.values()]).transpose(0, 2, 1)
    return Catalogue(
        names=tuple(pieces),
        extent=extent,
        kind=kind,
        center_a=center.real,
        center_b=center.imag,
        size_a=size.real,
        size_b=size.imag,
        shape=shape,
        up=up,
        accent=accent,
        support_a=support.real,
        support_b=support.imag,
        supports=supports,
        roles=np.array([piece.roles for piece in pieces.values()]),
    )


#: All pieces.
CATALOGUE = _catalogue(STANDING | HANGING | SMALL | MASONRY)


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
        """Returns these objects, replaced by the others in scenes ``[B]``."""
        return Objects(
            *(
                np.where(scenes.reshape(-1, *[1] * (own.ndim - 1)), its, own)
                for own, its in zip(self, other, strict=True)
            )
        )

    @staticmethod
    def join(*parts: Objects) -> Objects:
        """Returns the objects of all parts, one part after the other."""
        return Objects(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True)))

    def limited(self, most: int) -> Objects:
        """Returns the first objects only, as many as have at most ``most`` solids in a scene."""
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


def turned(x: Array, y: Array, angle: Array) -> tuple[Array, Array]:
    """Coordinates after a turn by ``angle`` about the vertical axis."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x - sin * y, sin * x + cos * y


def footprint(wide: Array, deep: Array, yaw: Array) -> tuple[Array, Array]:
    """Half extents along x and y of a rectangle that is turned by ``yaw``."""
    cos, sin = np.abs(np.cos(yaw)), np.abs(np.sin(yaw))
    return cos * wide + sin * deep, sin * wide + cos * deep
