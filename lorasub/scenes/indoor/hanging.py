"""Pieces that hang on a wall."""

from __future__ import annotations

from lorasub.scenes.description import Primitive
from lorasub.scenes.indoor.pieces import M, Piece, Role, Solid, Support, curtain, frame, fronts

#: Pieces that hang on a wall.
HANGING: dict[str, Piece] = {
    "picture": Piece(
        solids=(
            *frame(0.025 * M),
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
            *frame(0.06 * M),
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
            *curtain(-1, -0.5, 4),
            *curtain(0.55, 1, 3),
            Solid(kind=Primitive.CYLINDER, y=(-0.3, 0.3), z=(1 - 0.03 * M, 1), up=0),
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
        solids=(Solid(y=(-1, 1 - 0.02 * M)), *fronts(3, -1, 1)),
        width=(0.4, 1.2),
        depth=(0.15, 0.18),
        height=(0.28, 0.4),
        weight=1.0,
        roles=(Role.WOOD, Role.WOOD),
    ),
    "clock": Piece(
        solids=(
            Solid(kind=Primitive.CYLINDER, up=1),
            Solid(kind=Primitive.CYLINDER, x=(-0.9, 0.9), y=(-1, 1.2), z=(-0.9, 0.9), up=1, accent=True),
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
