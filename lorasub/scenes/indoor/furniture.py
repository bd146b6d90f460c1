"""Furniture and small things, put together from solids whose sizes follow the piece's own.

A coordinate is written as a complex number: its real part counts half extents of the piece, its imaginary part metres.
``1 - 0.03 * M`` is three centimetres inside of the right, front or upper side. So a board stays two centimetres thick
whatever the size of the shelf. Frame of a piece: x to the right as seen from the room, y out of the wall toward the
room, z up; the piece fills [-1, 1]^3 in half extents.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np

from lorasub.scenes.description import Primitive
from lorasub.scenes.streams import Array, BoolArray, IntArray


class Role(enum.IntEnum):
    """What a surface is made of, which decides how its material is drawn."""

    WOOD = 0
    CLOTH = 1
    PAINT = 2
    PRINT = 3
    LEAF = 4
    CERAMIC = 5
    SCREEN = 6
    PANE = 7
    WALL = 8


#: One metre along a coordinate.
M = 1j
Bounds = tuple[complex, complex]
_WHOLE: Bounds = (-1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solid:
    """One solid of a piece: it fills a block of the piece's frame.

    Attributes:
        kind: which primitive.
        x, y, z: the block's lower and upper bound along each axis.
        shape: numbers of the primitive's own.
        up: the axis of the piece along which the primitive's z axis lies.
        upside_down: whether it points downward.
        accent: whether it is of the piece's second material.
    """

    kind: Primitive = Primitive.BOX
    x: Bounds = _WHOLE
    y: Bounds = _WHOLE
    z: Bounds = _WHOLE
    shape: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    up: int = 2
    upside_down: bool = False
    accent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """A level surface that small things can stand on.

    Attributes:
        x, y: its bounds.
        z: its height.
        room: how much is free above it.
    """

    x: Bounds = _WHOLE
    y: Bounds = _WHOLE
    z: complex = 1
    room: complex = 0.45 * M


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One kind of furniture.

    Attributes:
        solids: what it is made of.
        width: half extent along the wall, metres, least and most.
        depth: half extent away from the wall.
        height: half extent upward.
        supports: where small things stand.
        weight: how often it occurs among its like.
        roles: of the first and of the second material.
    """

    solids: tuple[Solid, ...]
    width: tuple[float, float]
    depth: tuple[float, float]
    height: tuple[float, float]
    supports: tuple[Support, ...] = field(default=())
    weight: float = 1.0
    roles: tuple[Role, Role] = (Role.WOOD, Role.WOOD)


def _legs(top: complex, inset: complex = 0.03 * M, thick: complex = 0.05 * M, accent: bool = True) -> tuple[Solid, ...]:
    near, far = -1 + inset, -1 + inset + thick
    sides: tuple[Bounds, Bounds] = ((near, far), (-far, -near))
    return tuple(Solid(x=x, y=y, z=(-1, top), accent=accent) for x in sides for y in sides)


def _shelf(boards: int, backed: bool, dividers: int = 0) -> tuple[tuple[Solid, ...], tuple[Support, ...]]:
    """A case with boards, open to the front; dividers make bins of it."""
    solids = [Solid(x=(-1, -1 + 0.02 * M)), Solid(x=(1 - 0.02 * M, 1))]
    if backed:
        solids.append(Solid(y=(-1, -1 + 0.01 * M), accent=True))
    gap = 2.0 / (boards - 1)
    supports = []
    for number in range(boards):
        height = -1 + gap * number
        low = height - 0.02 * M if number == boards - 1 else height
        solids.append(Solid(x=(-1 + 0.02 * M, 1 - 0.02 * M), z=(low, low + 0.02 * M)))
        above = 0.3 * M if number == boards - 1 else gap - 0.04 * M
        if number:
            supports.append(Support(x=(-1 + 0.03 * M, 1 - 0.03 * M), z=low + 0.02 * M, room=above))
    for number in range(dividers):
        place = -1 + 2.0 * (number + 1) / (dividers + 1)
        solids.append(Solid(x=(place - 0.01 * M, place + 0.01 * M), z=(-1 + 0.02 * M, 1 - 0.02 * M)))
    if dividers:
        cells = [(-1 + 2.0 * n / (dividers + 1), -1 + 2.0 * (n + 1) / (dividers + 1)) for n in range(dividers + 1)]
        supports = [
            Support(x=(low + 0.03 * M, high - 0.03 * M), z=one.z, room=one.room)
            for one in supports[:2]
            for low, high in cells
        ]
    return tuple(solids), tuple(supports[:_MOST_SUPPORTS])


def _fronts(number: int, low: complex, high: complex, rows: int = 1) -> tuple[Solid, ...]:
    """Doors or drawers that stand a little out of the front, each with its own gap around."""
    fronts = []
    for column in range(number):
        for row in range(rows):
            x = (-1 + 2 * column / number + 0.006 * M, -1 + 2 * (column + 1) / number - 0.006 * M)
            step = (high - low) / rows
            z = (low + row * step + 0.006 * M, low + (row + 1) * step - 0.006 * M)
            fronts.append(Solid(x=x, y=(1 - 0.02 * M, 1), z=z, accent=True))
    return tuple(fronts)


def _frame(wide: complex, deep: complex = 1, accent: bool = False) -> tuple[Solid, ...]:
    """Four bars around an opening in a wall."""
    return (
        Solid(x=(-1, -1 + wide), y=(-1, deep), accent=accent),
        Solid(x=(1 - wide, 1), y=(-1, deep), accent=accent),
        Solid(x=(-1 + wide, 1 - wide), y=(-1, deep), z=(1 - wide, 1), accent=accent),
        Solid(x=(-1 + wide, 1 - wide), y=(-1, deep), z=(-1, -1 + wide), accent=accent),
    )


def _curtain(low: complex, high: complex, folds: int) -> tuple[Solid, ...]:
    step = (high - low) / folds
    return tuple(
        Solid(kind=Primitive.CYLINDER, x=(low + n * step, low + (n + 1) * step), y=(-0.2, 1), accent=True)
        for n in range(folds)
    )


_MOST_SUPPORTS = 4
_CUSHION = (0.4, 0.35, 0.0, 0.0)
_CYLINDER, _SPHERE, _CONE = Primitive.CYLINDER, Primitive.SPHERE, Primitive.CONE
_SUPERQUADRIC = Primitive.SUPERQUADRIC

_SHELF_4, _SHELF_4_BOARDS = _shelf(4, backed=True)
_SHELF_5, _SHELF_5_BOARDS = _shelf(5, backed=False)
_BINS, _BINS_BOARDS = _shelf(4, backed=True, dividers=1)

#: Pieces that stand against a wall.
STANDING: dict[str, Piece] = {
    "sofa": Piece(
        solids=(
            Solid(x=(-1, 1), z=(-1, -0.35)),
            Solid(y=(-1, -0.55), z=(-0.35, 1)),
            Solid(x=(-1, -1 + 0.16 * M), y=(-0.55, 1), z=(-0.35, 0.3)),
            Solid(x=(1 - 0.16 * M, 1), y=(-0.55, 1), z=(-0.35, 0.3)),
            Solid(kind=_SUPERQUADRIC, x=(-1 + 0.17 * M, -0.005), y=(-0.55, 1), z=(-0.4, 0.02), shape=_CUSHION),
            Solid(kind=_SUPERQUADRIC, x=(0.005, 1 - 0.17 * M), y=(-0.55, 1), z=(-0.4, 0.02), shape=_CUSHION),
            Solid(
                kind=_SUPERQUADRIC,
                x=(0.45, 0.45 + 0.38 * M),
                y=(-0.55, -0.55 + 0.16 * M),
                z=(0.0, 0.75),
                shape=_CUSHION,
                accent=True,
            ),
        ),
        width=(0.75, 1.1),
        depth=(0.38, 0.48),
        height=(0.36, 0.46),
        weight=1.2,
        roles=(Role.CLOTH, Role.CLOTH),
    ),
    "armchair": Piece(
        solids=(
            Solid(z=(-1, -0.3)),
            Solid(y=(-1, -0.5), z=(-0.3, 1)),
            Solid(x=(-1, -1 + 0.14 * M), y=(-0.5, 1), z=(-0.3, 0.25)),
            Solid(x=(1 - 0.14 * M, 1), y=(-0.5, 1), z=(-0.3, 0.25)),
            Solid(
                kind=_SUPERQUADRIC,
                x=(-1 + 0.15 * M, 1 - 0.15 * M),
                y=(-0.5, 1),
                z=(-0.35, 0.02),
                shape=_CUSHION,
                accent=True,
            ),
        ),
        width=(0.38, 0.5),
        depth=(0.38, 0.46),
        height=(0.4, 0.5),
        weight=0.7,
        roles=(Role.CLOTH, Role.CLOTH),
    ),
    "bed": Piece(
        solids=(
            Solid(y=(-1, -1 + 0.06 * M)),
            Solid(y=(-1 + 0.06 * M, 1), z=(-1, -0.4)),
            Solid(
                kind=_SUPERQUADRIC,
                y=(-1 + 0.07 * M, 1 - 0.02 * M),
                z=(-0.5, 0.1),
                shape=(0.2, 0.2, 0.0, 0.0),
                accent=True,
            ),
            Solid(
                kind=_SUPERQUADRIC,
                x=(-0.9, -0.06),
                y=(-1 + 0.1 * M, -1 + 0.5 * M),
                z=(0.05, 0.05 + 0.14 * M),
                shape=_CUSHION,
            ),
            Solid(
                kind=_SUPERQUADRIC,
                x=(0.06, 0.9),
                y=(-1 + 0.1 * M, -1 + 0.5 * M),
                z=(0.05, 0.05 + 0.14 * M),
                shape=_CUSHION,
            ),
        ),
        width=(0.45, 0.9),
        depth=(0.95, 1.02),
        height=(0.4, 0.5),
        weight=0.8,
        roles=(Role.WOOD, Role.CLOTH),
    ),
    "desk": Piece(
        solids=(
            Solid(z=(1 - 0.03 * M, 1)),
            Solid(x=(-1 + 0.02 * M, -1 + 0.05 * M), y=(-0.95, 0.95), z=(-1, 1 - 0.03 * M)),
            Solid(x=(1 - 0.42 * M, 1 - 0.02 * M), y=(-0.95, 0.9), z=(-1 + 0.04 * M, 1 - 0.03 * M)),
            *(
                Solid(
                    x=(1 - 0.41 * M, 1 - 0.03 * M),
                    y=(0.9, 0.95),
                    z=(-1 + 0.06 * M + 0.6 * n, -1 + 0.04 * M + 0.6 * (n + 1)),
                    accent=True,
                )
                for n in range(3)
            ),
        ),
        width=(0.55, 0.9),
        depth=(0.3, 0.42),
        height=(0.35, 0.39),
        supports=(Support(room=0.5 * M),),
        weight=1.6,
    ),
    "table": Piece(
        solids=(Solid(z=(1 - 0.035 * M, 1)), *_legs(1 - 0.035 * M)),
        width=(0.45, 0.9),
        depth=(0.32, 0.5),
        height=(0.35, 0.39),
        supports=(Support(room=0.5 * M),),
        weight=1.2,
    ),
    "shelf": Piece(
        solids=_SHELF_4, width=(0.3, 0.7), depth=(0.13, 0.2), height=(0.55, 1.05), supports=_SHELF_4_BOARDS, weight=1.4
    ),
    "rack": Piece(
        solids=_SHELF_5, width=(0.3, 0.6), depth=(0.14, 0.22), height=(0.7, 1.05), supports=_SHELF_5_BOARDS, weight=0.9
    ),
    "bins": Piece(
        solids=_BINS, width=(0.35, 0.65), depth=(0.18, 0.26), height=(0.55, 0.95), supports=_BINS_BOARDS, weight=0.7
    ),
    "cupboards": Piece(
        solids=(
            Solid(y=(-1, 1 - 0.05 * M), z=(-1, 1 - 0.04 * M)),
            Solid(z=(1 - 0.04 * M, 1)),
            *(
                Solid(x=one.x, y=(1 - 0.05 * M, 1 - 0.03 * M), z=one.z, accent=True)
                for one in _fronts(4, -1 + 0.1 * M, 1 - 0.05 * M)
            ),
            *(
                Solid(
                    kind=_CYLINDER,
                    x=(-0.86 + 0.5 * n, -0.86 + 0.5 * n + 0.14 * M),
                    y=(1 - 0.03 * M, 1 - 0.015 * M),
                    z=(1 - 0.11 * M, 1 - 0.095 * M),
                    up=0,
                )
                for n in range(4)
            ),
        ),
        width=(0.6, 1.3),
        depth=(0.28, 0.33),
        height=(0.42, 0.47),
        supports=(Support(y=(-1, 1 - 0.06 * M), room=0.42 * M),),
        weight=1.6,
        roles=(Role.WOOD, Role.WOOD),
    ),
    "chest": Piece(
        solids=(Solid(y=(-1, 1 - 0.02 * M)), *_fronts(1, -0.9, 1 - 0.03 * M, rows=4)),
        width=(0.35, 0.6),
        depth=(0.2, 0.27),
        height=(0.32, 0.6),
        supports=(Support(),),
        weight=0.9,
    ),
    "wardrobe": Piece(
        solids=(Solid(y=(-1, 1 - 0.02 * M)), *_fronts(2, -0.95, 0.98)),
        width=(0.4, 0.9),
        depth=(0.25, 0.32),
        height=(0.8, 1.1),
        weight=0.8,
        roles=(Role.WOOD, Role.WOOD),
    ),
    "fridge": Piece(
        solids=(
            Solid(y=(-1, 1 - 0.05 * M)),
            Solid(y=(1 - 0.045 * M, 1 - 0.01 * M), z=(-0.96, 0.2), accent=True),
            Solid(y=(1 - 0.045 * M, 1 - 0.01 * M), z=(0.22, 0.99), accent=True),
            Solid(kind=_CYLINDER, x=(-0.85, -0.85 + 0.02 * M), y=(1 - 0.01 * M, 1), z=(-0.3, 0.12)),
        ),
        width=(0.28, 0.38),
        depth=(0.28, 0.34),
        height=(0.5, 0.95),
        supports=(Support(room=0.25 * M),),
        weight=0.4,
        roles=(Role.PAINT, Role.PAINT),
    ),
    "radiator": Piece(
        solids=(
            Solid(y=(-0.6, 0.6), z=(-0.8, 1)),
            *(
                Solid(
                    kind=_CYLINDER,
                    x=(-1 + 0.2857 * n, -1 + 0.2857 * n + 0.2),
                    y=(0.2, 1),
                    z=(-0.75, 0.95),
                )
                for n in range(7)
            ),
        ),
        width=(0.3, 0.65),
        depth=(0.05, 0.07),
        height=(0.27, 0.35),
        weight=0.6,
        roles=(Role.PAINT, Role.PAINT),
    ),
    "plant": Piece(
        solids=(
            Solid(
                kind=_CONE, x=(-0.5, 0.5), y=(-0.5, 0.5), z=(-1, -0.45), shape=(0.65, 0.0, 0.0, 0.0), upside_down=True
            ),
            Solid(kind=_CYLINDER, x=(-0.04, 0.04), y=(-0.04, 0.04), z=(-0.5, 0.2)),
            Solid(kind=Primitive.BLOB, z=(-0.25, 1), shape=(0.25, 6.0, 1.0, 0.0), accent=True),
            Solid(
                kind=Primitive.BLOB,
                x=(-0.95, 0.2),
                y=(-0.5, 0.8),
                z=(-0.5, 0.3),
                shape=(0.28, 7.0, 3.0, 0.0),
                accent=True,
            ),
        ),
        width=(0.2, 0.38),
        depth=(0.2, 0.3),
        height=(0.35, 0.8),
        weight=0.5,
        roles=(Role.CERAMIC, Role.LEAF),
    ),
    "floor_lamp": Piece(
        solids=(
            Solid(kind=_CYLINDER, x=(-0.7, 0.7), y=(-0.7, 0.7), z=(-1, -1 + 0.03 * M)),
            Solid(kind=_CYLINDER, x=(-0.015 * M, 0.015 * M), y=(-0.015 * M, 0.015 * M), z=(-1, 0.6)),
            Solid(kind=_CONE, z=(0.6, 1), shape=(0.6, 0.0, 0.0, 0.0), accent=True),
        ),
        width=(0.15, 0.24),
        depth=(0.15, 0.24),
        height=(0.65, 0.85),
        weight=0.4,
        roles=(Role.PAINT, Role.CLOTH),
    ),
    "chair": Piece(
        solids=(
            Solid(z=(-0.04, -0.04 + 0.04 * M)),
            Solid(y=(-1, -1 + 0.04 * M), z=(0.25, 1), accent=True),
            *_legs(-0.04, 0.01 * M, 0.04 * M, accent=False),
        ),
        width=(0.2, 0.25),
        depth=(0.2, 0.25),
        height=(0.42, 0.5),
        weight=0.6,
        roles=(Role.WOOD, Role.CLOTH),
    ),
    "box": Piece(
        solids=(Solid(z=(-1, 0.9)), Solid(x=(-0.98, 0.98), y=(-0.98, 0.98), z=(0.9, 1), accent=True)),
        width=(0.15, 0.35),
        depth=(0.12, 0.3),
        height=(0.1, 0.35),
        supports=(Support(room=0.3 * M),),
        weight=0.8,
        roles=(Role.PRINT, Role.PRINT),
    ),
    "door": Piece(
        solids=(
            Solid(x=(-1, -1 + 0.07 * M)),
            Solid(x=(1 - 0.07 * M, 1)),
            Solid(x=(-1 + 0.07 * M, 1 - 0.07 * M), z=(1 - 0.07 * M, 1)),
            Solid(x=(-1 + 0.07 * M, 1 - 0.07 * M), y=(-1, 0.2), z=(-1, 1 - 0.07 * M), accent=True),
            Solid(x=(-0.62, 0.62), y=(0.2, 0.5), z=(-0.82, -0.1), accent=True),
            Solid(x=(-0.62, 0.62), y=(0.2, 0.5), z=(0.02, 0.8), accent=True),
            Solid(kind=_SPHERE, x=(0.66, 0.66 + 0.05 * M), y=(0.4, 1), z=(-0.03, -0.03 + 0.05 * M)),
        ),
        width=(0.42, 0.55),
        depth=(0.025, 0.04),
        height=(0.98, 1.05),
        weight=1.3,
        roles=(Role.PAINT, Role.PAINT),
    ),
    "pillar": Piece(
        solids=(Solid(),),
        width=(0.15, 0.7),
        depth=(0.1, 0.45),
        height=(1.14, 1.15),
        weight=0.5,
        roles=(Role.WALL, Role.WALL),
    ),
}

#: Pieces that hang on a wall.
HANGING: dict[str, Piece] = {
    "picture": Piece(
        solids=(
            *_frame(0.025 * M),
            Solid(x=(-1 + 0.02 * M, 1 - 0.02 * M), y=(-1, 0.3), z=(-1 + 0.02 * M, 1 - 0.02 * M), accent=True),
        ),
        width=(0.15, 0.55),
        depth=(0.01, 0.02),
        height=(0.12, 0.42),
        weight=2.0,
        roles=(Role.WOOD, Role.PRINT),
    ),
    "window": Piece(
        solids=(
            *_frame(0.06 * M),
            Solid(x=(-0.025 * M, 0.025 * M), y=(-1, 0.8), z=(-1 + 0.06 * M, 1 - 0.06 * M)),
            Solid(x=(-1 + 0.05 * M, 1 - 0.05 * M), y=(-1, -0.3), z=(-1 + 0.05 * M, 1 - 0.05 * M), accent=True),
        ),
        width=(0.4, 1.0),
        depth=(0.025, 0.04),
        height=(0.4, 0.75),
        weight=1.6,
        roles=(Role.PAINT, Role.PANE),
    ),
    "curtains": Piece(
        solids=(
            *_curtain(-1, -0.5, 4),
            *_curtain(0.55, 1, 3),
            Solid(kind=_CYLINDER, y=(-0.3, 0.3), z=(1 - 0.03 * M, 1), up=0),
        ),
        width=(0.5, 1.1),
        depth=(0.05, 0.08),
        height=(0.6, 1.05),
        weight=0.8,
        roles=(Role.PAINT, Role.CLOTH),
    ),
    "wall_shelf": Piece(
        solids=(
            Solid(z=(-1, -1 + 0.025 * M)),
            Solid(x=(-0.8, -0.8 + 0.02 * M), y=(-1, 0.6), z=(-1 + 0.025 * M, -0.6)),
            Solid(x=(0.8 - 0.02 * M, 0.8), y=(-1, 0.6), z=(-1 + 0.025 * M, -0.6)),
        ),
        width=(0.25, 0.65),
        depth=(0.09, 0.13),
        height=(0.15, 0.2),
        supports=(Support(x=(-0.75, 0.75), z=-1 + 0.025 * M, room=0.3 * M),),
        weight=1.0,
    ),
    "hanging_cupboards": Piece(
        solids=(Solid(y=(-1, 1 - 0.02 * M)), *_fronts(3, -1, 1)),
        width=(0.4, 1.2),
        depth=(0.15, 0.18),
        height=(0.28, 0.4),
        weight=1.0,
        roles=(Role.WOOD, Role.WOOD),
    ),
    "clock": Piece(
        solids=(
            Solid(kind=_CYLINDER, up=1),
            Solid(kind=_CYLINDER, x=(-0.9, 0.9), y=(-1, 1.2), z=(-0.9, 0.9), up=1, accent=True),
        ),
        width=(0.12, 0.2),
        depth=(0.015, 0.03),
        height=(0.12, 0.2),
        weight=0.3,
        roles=(Role.PAINT, Role.PRINT),
    ),
    "screen": Piece(
        solids=(
            Solid(),
            Solid(x=(-1 + 0.02 * M, 1 - 0.02 * M), y=(0.9, 1.1), z=(-1 + 0.02 * M, 1 - 0.02 * M), accent=True),
        ),
        width=(0.35, 0.7),
        depth=(0.02, 0.04),
        height=(0.22, 0.4),
        weight=0.5,
        roles=(Role.PAINT, Role.SCREEN),
    ),
}

#: Small things that stand on others. Their sizes are the most; what a place has no room for is made smaller.
SMALL: dict[str, Piece] = {
    "books_upright": Piece(
        solids=(
            Solid(x=(-1, -0.62), z=(-1, 0.9)),
            Solid(x=(-0.6, -0.1), y=(-1, 0.9), z=(-1, 0.7), accent=True),
            Solid(x=(-0.08, 0.35), z=(-1, 1)),
            Solid(x=(0.37, 1), y=(-1, 0.8), z=(-1, 0.8), accent=True),
        ),
        width=(0.05, 0.14),
        depth=(0.07, 0.11),
        height=(0.09, 0.15),
        weight=2.0,
        roles=(Role.PRINT, Role.PRINT),
    ),
    "books_flat": Piece(
        solids=(
            Solid(z=(-1, -0.3)),
            Solid(x=(-0.9, 0.85), y=(-0.95, 0.9), z=(-0.3, 0.3), accent=True),
            Solid(x=(-0.7, 0.9), y=(-0.9, 0.8), z=(0.3, 1)),
        ),
        width=(0.08, 0.15),
        depth=(0.08, 0.14),
        height=(0.02, 0.07),
        weight=1.6,
        roles=(Role.PRINT, Role.PRINT),
    ),
    "paper": Piece(
        solids=(Solid(),),
        width=(0.08, 0.15),
        depth=(0.1, 0.15),
        height=(0.001, 0.006),
        weight=1.2,
        roles=(Role.PRINT, Role.PRINT),
    ),
    "mug": Piece(
        solids=(
            Solid(kind=_CYLINDER, x=(-1, 0.6), y=(-0.8, 0.8)),
            Solid(
                kind=Primitive.TORUS,
                x=(0.1, 1),
                y=(-0.25, 0.25),
                z=(-0.6, 0.6),
                up=1,
                shape=(0.22, 0.0, 0.0, 0.0),
            ),
        ),
        width=(0.045, 0.06),
        depth=(0.045, 0.055),
        height=(0.04, 0.055),
        weight=1.4,
        roles=(Role.CERAMIC, Role.CERAMIC),
    ),
    "bottle": Piece(
        solids=(
            Solid(kind=_CYLINDER, z=(-1, 0.3)),
            Solid(kind=_CONE, z=(0.3, 0.6), shape=(0.35, 0.0, 0.0, 0.0)),
            Solid(kind=_CYLINDER, x=(-0.35, 0.35), y=(-0.35, 0.35), z=(0.6, 1), accent=True),
        ),
        width=(0.03, 0.05),
        depth=(0.03, 0.05),
        height=(0.1, 0.16),
        weight=1.0,
        roles=(Role.CERAMIC, Role.PAINT),
    ),
    "bowl": Piece(
        solids=(Solid(kind=_CONE, shape=(0.5, 0.0, 0.0, 0.0), upside_down=True),),
        width=(0.06, 0.14),
        depth=(0.06, 0.14),
        height=(0.03, 0.06),
        weight=0.6,
        roles=(Role.CERAMIC, Role.CERAMIC),
    ),
    "carton": Piece(
        solids=(Solid(),),
        width=(0.04, 0.16),
        depth=(0.03, 0.12),
        height=(0.04, 0.15),
        weight=2.0,
        roles=(Role.PRINT, Role.PRINT),
    ),
    "tin": Piece(
        solids=(Solid(kind=_CYLINDER),),
        width=(0.03, 0.06),
        depth=(0.03, 0.06),
        height=(0.04, 0.09),
        weight=0.8,
        roles=(Role.PRINT, Role.PRINT),
    ),
    "ball": Piece(
        solids=(Solid(kind=_SPHERE),),
        width=(0.03, 0.08),
        depth=(0.03, 0.08),
        height=(0.03, 0.08),
        weight=0.6,
        roles=(Role.CERAMIC, Role.CERAMIC),
    ),
    "vase": Piece(
        solids=(
            Solid(kind=_SUPERQUADRIC, z=(-1, 0.5), shape=(0.8, 1.0, 0.0, 0.0)),
            Solid(kind=_CONE, x=(-0.6, 0.6), y=(-0.6, 0.6), z=(0.3, 1), shape=(0.6, 0.0, 0.0, 0.0), upside_down=True),
        ),
        width=(0.05, 0.09),
        depth=(0.05, 0.09),
        height=(0.09, 0.17),
        weight=0.5,
        roles=(Role.CERAMIC, Role.CERAMIC),
    ),
    "pot_plant": Piece(
        solids=(
            Solid(kind=_CONE, x=(-0.6, 0.6), y=(-0.6, 0.6), z=(-1, 0), shape=(0.7, 0.0, 0.0, 0.0), upside_down=True),
            Solid(kind=Primitive.BLOB, z=(-0.2, 1), shape=(0.28, 6.0, 2.0, 0.0), accent=True),
        ),
        width=(0.07, 0.13),
        depth=(0.07, 0.13),
        height=(0.1, 0.18),
        weight=0.7,
        roles=(Role.CERAMIC, Role.LEAF),
    ),
    "monitor": Piece(
        solids=(
            Solid(x=(-0.4, 0.4), y=(-1, 1), z=(-1, -1 + 0.015 * M)),
            Solid(x=(-0.1, 0.1), y=(-0.4, 0.0), z=(-1, -0.3)),
            Solid(y=(0.0, 0.3), z=(-0.5, 1)),
            Solid(x=(-0.96, 0.96), y=(0.3, 0.34), z=(-0.45, 0.95), accent=True),
        ),
        width=(0.2, 0.3),
        depth=(0.08, 0.11),
        height=(0.18, 0.24),
        weight=0.7,
        roles=(Role.PAINT, Role.SCREEN),
    ),
    "table_lamp": Piece(
        solids=(
            Solid(kind=_CYLINDER, x=(-0.6, 0.6), y=(-0.6, 0.6), z=(-1, -0.9)),
            Solid(kind=_CYLINDER, x=(-0.08, 0.08), y=(-0.08, 0.08), z=(-0.9, 0.2)),
            Solid(kind=_CONE, z=(0.1, 1), shape=(0.55, 0.0, 0.0, 0.0), accent=True),
        ),
        width=(0.08, 0.15),
        depth=(0.08, 0.15),
        height=(0.15, 0.24),
        weight=0.5,
        roles=(Role.PAINT, Role.CLOTH),
    ),
    "photo": Piece(
        solids=(Solid(y=(-0.3, 0.2)), Solid(x=(-0.8, 0.8), y=(0.2, 0.3), z=(-0.8, 0.8), accent=True)),
        width=(0.06, 0.12),
        depth=(0.03, 0.05),
        height=(0.07, 0.12),
        weight=0.6,
        roles=(Role.WOOD, Role.PRINT),
    ),
    "rock": Piece(
        solids=(Solid(kind=Primitive.BLOB, shape=(0.15, 4.0, 1.0, 0.0)),),
        width=(0.05, 0.12),
        depth=(0.05, 0.1),
        height=(0.04, 0.1),
        weight=0.5,
        roles=(Role.CERAMIC, Role.CERAMIC),
    ),
    "ring": Piece(
        solids=(Solid(kind=Primitive.TORUS, shape=(0.3, 0.0, 0.0, 0.0)),),
        width=(0.05, 0.1),
        depth=(0.05, 0.1),
        height=(0.015, 0.03),
        weight=0.3,
        roles=(Role.CERAMIC, Role.CERAMIC),
    ),
}


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
    support, supports = np.zeros((many, _MOST_SUPPORTS, 6), complex), np.zeros((many, _MOST_SUPPORTS), bool)
    for row, piece in enumerate(pieces.values()):
        for column, solid in enumerate(piece.solids):
            bounds = np.array([solid.x, solid.y, solid.z], complex)
            center[row, column], size[row, column] = bounds.mean(1), 0.5 * (bounds[:, 1] - bounds[:, 0])
            kind[row, column], accent[row, column] = int(solid.kind), solid.accent
            shape[row, column] = solid.shape
            up[row, column] = _UPRIGHT[solid.up] @ (_FLIP if solid.upside_down else np.eye(3))
        for column, place in enumerate(piece.supports):
            x, y = np.array(place.x, complex), np.array(place.y, complex)
            support[row, column] = [x.mean(), y.mean(), place.z, 0.5 * (x[1] - x[0]), 0.5 * (y[1] - y[0]), place.room]
            supports[row, column] = True
    extent = np.array([[piece.width, piece.depth, piece.height] for piece in pieces.values()]).transpose(0, 2, 1)
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
CATALOGUE = _catalogue(STANDING | HANGING | SMALL)
