"""All pieces as arrays, so that scenes are put together without loops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lorasub.scenes.description import Primitive
from lorasub.scenes.indoor.furniture import HANGING, SMALL, STANDING
from lorasub.scenes.indoor.masonry import MASONRY
from lorasub.scenes.indoor.pieces import MOST_SUPPORTS, M, Piece
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
