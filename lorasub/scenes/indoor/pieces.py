"""Descriptions of furniture and small things: solids whose sizes follow the piece's own.

A coordinate is written as a complex number: its real part counts half extents of the piece, its imaginary part metres.
``1 - 0.03 * M`` is three centimetres inside of the right, front or upper side. So a board stays two centimetres thick
whatever the size of the shelf. Frame of a piece: x to the right as seen from the wall, y out of the wall toward the
room, z up; the piece fills [-1, 1]^3 in half extents.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass, field

from lorasub.scenes.description import Primitive


class Role(enum.IntEnum):
    """Substance of a surface, which decides how its material is drawn."""

    WOOD = 0
    CLOTH = 1
    PAINT = 2
    PRINT = 3
    LEAF = 4
    CERAMIC = 5
    SCREEN = 6
    PANE = 7
    WALL = 8
    STONE = 9
    GLASS = 10


#: One metre along a coordinate.
M = 1j
#: Supports of a piece at most.
MOST_SUPPORTS = 4
Range = tuple[float, float]
Bounds = tuple[complex, complex]
WHOLE: Bounds = (-1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solid:
    """One solid of a piece: it fills a block of the piece's frame.

    Attributes:
        kind: which primitive.
        x, y, z: the block's lower and upper bound along each axis.
        shape: numbers of the primitive's own; those that are missing are 0.
        up: the axis of the piece along which the primitive's z axis lies.
        upside_down: whether it points downward.
        accent: whether it is of the piece's second material.
    """

    kind: Primitive = Primitive.BOX
    x: Bounds = WHOLE
    y: Bounds = WHOLE
    z: Bounds = WHOLE
    shape: tuple[float, ...] = ()
    up: int = 2
    upside_down: bool = False
    accent: bool = False


cylinder = functools.partial(Solid, kind=Primitive.CYLINDER)
sphere = functools.partial(Solid, kind=Primitive.SPHERE)
cone = functools.partial(Solid, kind=Primitive.CONE)
torus = functools.partial(Solid, kind=Primitive.TORUS)
blob = functools.partial(Solid, kind=Primitive.BLOB)
cushion = functools.partial(Solid, kind=Primitive.SUPERQUADRIC, shape=(0.4, 0.35))


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """A level surface that small things can stand on.

    Attributes:
        x, y: its bounds.
        z: its height.
        room: how much is free above it.
    """

    x: Bounds = WHOLE
    y: Bounds = WHOLE
    z: complex = 1
    room: complex = 0.45 * M


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One kind of furniture.

    Attributes:
        solids: what it is made of.
        size: half extents along the wall, away from it, and upward: least and most of each, metres.
        supports: where small things stand.
        weight: how often it occurs among its like.
        roles: of the first and of the second material.
    """

    solids: tuple[Solid, ...]
    size: tuple[Range, Range, Range]
    supports: tuple[Support, ...] = field(default=())
    weight: float = 1.0
    roles: tuple[Role, Role] = (Role.WOOD, Role.WOOD)


def legs(top: complex, inset: complex = 0.03 * M, thick: complex = 0.05 * M, accent: bool = True) -> tuple[Solid, ...]:
    """Four legs that end at a height."""
    near, far = -1 + inset, -1 + inset + thick
    sides: tuple[Bounds, Bounds] = ((near, far), (-far, -near))
    return tuple(Solid(x=x, y=y, z=(-1, top), accent=accent) for x in sides for y in sides)


def shelf(boards: int, backed: bool, dividers: int = 0) -> tuple[tuple[Solid, ...], tuple[Support, ...]]:
    """A case with boards, open to the front; dividers make bins of it."""
    solids = [Solid(x=(-1, -1 + 0.02 * M)), Solid(x=(1 - 0.02 * M, 1))]
    if backed:
        solids.append(Solid(y=(-1, -1 + 0.01 * M), accent=True))
    gap = 2.0 / (boards - 1)
    before: Bounds = (-1 + 0.02 * M, 1)  # things stand before the back
    supports = []
    for number in range(boards):
        height = -1 + gap * number
        low = height - 0.02 * M if number == boards - 1 else height
        solids.append(Solid(x=(-1 + 0.02 * M, 1 - 0.02 * M), z=(low, low + 0.02 * M)))
        above = 0.3 * M if number == boards - 1 else gap - 0.04 * M
        if number:
            supports.append(Support(x=(-1 + 0.03 * M, 1 - 0.03 * M), y=before, z=low + 0.02 * M, room=above))
    for number in range(dividers):
        place = -1 + 2.0 * (number + 1) / (dividers + 1)
        solids.append(Solid(x=(place - 0.01 * M, place + 0.01 * M), z=(-1 + 0.02 * M, 1 - 0.02 * M)))
    if dividers:
        cells = [(-1 + 2.0 * n / (dividers + 1), -1 + 2.0 * (n + 1) / (dividers + 1)) for n in range(dividers + 1)]
        supports = [
            Support(x=(low + 0.03 * M, high - 0.03 * M), y=before, z=one.z, room=one.room)
            for one in supports[:2]
            for low, high in cells
        ]
    return tuple(solids), tuple(supports[:MOST_SUPPORTS])


def fronts(number: int, low: complex, high: complex, rows: int = 1) -> tuple[Solid, ...]:
    """Doors or drawers that stand a little out of the front, each with its own gap around."""
    fronts = []
    for column in range(number):
        for row in range(rows):
            x = (-1 + 2 * column / number + 0.006 * M, -1 + 2 * (column + 1) / number - 0.006 * M)
            step = (high - low) / rows
            z = (low + row * step + 0.006 * M, low + (row + 1) * step - 0.006 * M)
            fronts.append(Solid(x=x, y=(1 - 0.02 * M, 1), z=z, accent=True))
    return tuple(fronts)


def frame(wide: complex, deep: complex = 1, accent: bool = False) -> tuple[Solid, ...]:
    """Four bars around an opening in a wall."""
    return (
        Solid(x=(-1, -1 + wide), y=(-1, deep), accent=accent),
        Solid(x=(1 - wide, 1), y=(-1, deep), accent=accent),
        Solid(x=(-1 + wide, 1 - wide), y=(-1, deep), z=(1 - wide, 1), accent=accent),
        Solid(x=(-1 + wide, 1 - wide), y=(-1, deep), z=(-1, -1 + wide), accent=accent),
    )


def curtain(low: complex, high: complex, folds: int) -> tuple[Solid, ...]:
    """Folds between two places, side by side."""
    step = (high - low) / folds
    return tuple(cylinder(x=(low + n * step, low + (n + 1) * step), y=(-0.2, 1), accent=True) for n in range(folds))
