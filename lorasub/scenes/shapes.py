"""The objects that occur in scenes: single primitives, and compositions of several into one thing.

Every shape fits into the cylinder ``x^2 + y^2 <= 1, |z| <= 1`` and stands on ``z = -1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorasub.errors import ConfigError
from lorasub.scenes.description import Primitive


@dataclass(frozen=True, slots=True)
class Piece:
    """One primitive of a shape, in the object's frame.

    Attributes:
        kind: which primitive.
        center: its position.
        size: its half extents.
        shape: numbers of the primitive's own, see :class:`~lorasub.scenes.description.Primitive`.
    """

    kind: Primitive
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shape: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An object of your own, for :attr:`~lorasub.scenes.ranges.GeometryRanges.shapes`.

    Attributes:
        name: for error messages.
        pieces: what it is made of. Together they fit into ``x^2 + y^2 <= 1, |z| <= 1``.

    Raises:
        ConfigError: it has no piece, or more than :data:`MAX_PIECES`.
    """

    name: str
    pieces: tuple[Piece, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.pieces) <= MAX_PIECES:
            raise ConfigError(f"shape '{self.name}' has {len(self.pieces)} pieces; it may have 1 to {MAX_PIECES}")


_BOX = (0.7, 0.7, 1.0)  # its corners on the unit circle

RECIPES: dict[str, tuple[Piece, ...]] = {
    "sphere": (Piece(Primitive.SPHERE),),
    "box": (Piece(Primitive.BOX, size=_BOX),),
    "cylinder": (Piece(Primitive.CYLINDER),),
    "cone": (Piece(Primitive.CONE),),
    "frustum": (Piece(Primitive.CONE, shape=(0.5, 0.0, 0.0, 0.0)),),
    "torus": (Piece(Primitive.TORUS, size=(1.0, 1.0, 1.0), shape=(0.32, 0.0, 0.0, 0.0)),),
    "pillow": (Piece(Primitive.SUPERQUADRIC, size=(0.85, 0.85, 1.0), shape=(0.5, 0.4, 0.0, 0.0)),),
    "octahedron": (Piece(Primitive.SUPERQUADRIC, shape=(1.9, 1.9, 0.0, 0.0)),),
    "barrel": (Piece(Primitive.SUPERQUADRIC, shape=(0.6, 1.0, 0.0, 0.0)),),
    "rock": (Piece(Primitive.BLOB, shape=(0.2, 4.0, 1.0, 0.0)),),
    "berry": (Piece(Primitive.BLOB, shape=(0.08, 9.0, 2.0, 0.0)),),
    "hills": (Piece(Primitive.TERRAIN, size=_BOX, shape=(0.25, 4.0, 0.5, 0.0)),),
    "capsule": (
        Piece(Primitive.CYLINDER, size=(0.5, 0.5, 0.5)),
        Piece(Primitive.SPHERE, center=(0.0, 0.0, 0.5), size=(0.5, 0.5, 0.5)),
        Piece(Primitive.SPHERE, center=(0.0, 0.0, -0.5), size=(0.5, 0.5, 0.5)),
    ),
    "snowman": (
        Piece(Primitive.SPHERE, center=(0.0, 0.0, -0.45), size=(0.6, 0.6, 0.55)),
        Piece(Primitive.SPHERE, center=(0.0, 0.0, 0.25), size=(0.42, 0.42, 0.38)),
        Piece(Primitive.SPHERE, center=(0.0, 0.0, 0.75), size=(0.28, 0.28, 0.25)),
    ),
    "lamp": (
        Piece(Primitive.CYLINDER, center=(0.0, 0.0, -0.94), size=(0.5, 0.5, 0.06)),
        Piece(Primitive.CYLINDER, center=(0.0, 0.0, -0.2), size=(0.07, 0.07, 0.7)),
        Piece(Primitive.CONE, center=(0.0, 0.0, 0.62), size=(0.75, 0.75, 0.38), shape=(0.45, 0.0, 0.0, 0.0)),
    ),
    "table": (
        Piece(Primitive.CYLINDER, center=(0.0, 0.0, 0.9), size=(1.0, 1.0, 0.1)),
        Piece(Primitive.BOX, center=(0.55, 0.0, -0.1), size=(0.1, 0.5, 0.9)),
        Piece(Primitive.BOX, center=(-0.55, 0.0, -0.1), size=(0.1, 0.5, 0.9)),
    ),
    "chair": (
        Piece(Primitive.BOX, center=(0.0, 0.0, -0.1), size=(0.6, 0.6, 0.08)),
        Piece(Primitive.BOX, center=(-0.52, 0.0, 0.45), size=(0.08, 0.6, 0.55)),
        Piece(Primitive.BOX, center=(0.0, 0.45, -0.56), size=(0.5, 0.08, 0.44)),
        Piece(Primitive.BOX, center=(0.0, -0.45, -0.56), size=(0.5, 0.08, 0.44)),
    ),
    "house": (
        Piece(Primitive.BOX, center=(0.0, 0.0, -0.4), size=(0.65, 0.65, 0.6)),
        Piece(Primitive.CONE, center=(0.0, 0.0, 0.6), size=(1.0, 1.0, 0.4)),
    ),
    "mushroom": (
        Piece(Primitive.CONE, center=(0.0, 0.0, -0.35), size=(0.38, 0.38, 0.65), shape=(0.6, 0.0, 0.0, 0.0)),
        Piece(Primitive.SPHERE, center=(0.0, 0.0, 0.45), size=(0.95, 0.95, 0.55)),
    ),
    "dumbbell": (
        Piece(Primitive.CYLINDER, size=(0.22, 0.22, 0.8)),
        Piece(Primitive.SPHERE, center=(0.0, 0.0, -0.6), size=(0.6, 0.6, 0.4)),
        Piece(Primitive.SPHERE, center=(0.0, 0.0, 0.6), size=(0.6, 0.6, 0.4)),
    ),
}

#: Primitives of the largest shape.
MAX_PIECES = max(len(pieces) for pieces in RECIPES.values())


def pieces_of(shape: str | Shape) -> tuple[Piece, ...]:
    """Returns what a shape is made of.

    Raises:
        ConfigError: there is none of this name.
    """
    if isinstance(shape, Shape):
        return shape.pieces
    if shape not in RECIPES:
        raise ConfigError(f"unknown shape '{shape}'; choose from {', '.join(sorted(RECIPES))}, or give a Shape")
    return RECIPES[shape]


def shape_table(shapes: Sequence[str | Shape]) -> dict[str, np.ndarray]:
    """Shapes as arrays ``[len(shapes), MAX_PIECES, ...]``: kind, center, size, shape; unused pieces are NONE."""
    table = {
        "kind": np.full((len(shapes), MAX_PIECES), int(Primitive.NONE)),
        "center": np.zeros((len(shapes), MAX_PIECES, 3)),
        "size": np.full((len(shapes), MAX_PIECES, 3), 0.01),
        "shape": np.zeros((len(shapes), MAX_PIECES, 4)),
    }
    for row, shape in enumerate(shapes):
        for column, piece in enumerate(pieces_of(shape)):
            for field, array in table.items():
                array[row, column] = getattr(piece, field)
    return table
