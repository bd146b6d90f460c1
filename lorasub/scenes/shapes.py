"""The objects that occur in scenes: single primitives, and compositions of several into one thing.

Every recipe fits into the cylinder x^2 + y^2 <= 1, |z| <= 1 and stands on z = -1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lorasub.scenes.description import Primitive


@dataclass(frozen=True, slots=True)
class Piece:
    """One primitive of a recipe, in the object's frame."""

    kind: Primitive
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shape: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


_BOX = (0.7, 0.7, 1.0)  # its corners on the unit circle
_LEG = (0.1, 0.1, 0.44)

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

#: Primitives of the largest recipe.
MAX_PIECES = max(len(pieces) for pieces in RECIPES.values())


def recipe_table(names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Recipes as arrays ``[len(names), MAX_PIECES, ...]``: kind, center, size, shape; unused pieces are NONE."""
    table = {
        "kind": np.full((len(names), MAX_PIECES), int(Primitive.NONE)),
        "center": np.zeros((len(names), MAX_PIECES, 3)),
        "size": np.full((len(names), MAX_PIECES, 3), 0.01),
        "shape": np.zeros((len(names), MAX_PIECES, 4)),
    }
    for row, name in enumerate(names):
        for column, piece in enumerate(RECIPES[name]):
            for field, array in table.items():
                array[row, column] = getattr(piece, field)
    return table
