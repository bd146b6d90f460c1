"""Pieces that stand against a wall or in the middle of a room."""

from __future__ import annotations

from lorasub.scenes.description import Primitive
from lorasub.scenes.indoor.pieces import CUSHION, M, Piece, Role, Solid, Support, fronts, legs, shelf

_SHELF_4, _SHELF_4_BOARDS = shelf(4, backed=True)
_SHELF_5, _SHELF_5_BOARDS = shelf(5, backed=False)
_BINS, _BINS_BOARDS = shelf(4, backed=True, dividers=1)

#: Pieces that stand against a wall.
STANDING: dict[str, Piece] = {
    "sofa": Piece(
        solids=(
            Solid(x=(-1, 1), z=(-1, -0.35)),
            Solid(y=(-1, -0.55), z=(-0.35, 1)),
            Solid(x=(-1, -1 + 0.16 * M), y=(-0.55, 1), z=(-0.35, 0.3)),
            Solid(x=(1 - 0.16 * M, 1), y=(-0.55, 1), z=(-0.35, 0.3)),
            Solid(kind=Primitive.SUPERQUADRIC, x=(-1 + 0.17 * M, -0.005), y=(-0.55, 1), z=(-0.4, 0.02), shape=CUSHION),
            Solid(kind=Primitive.SUPERQUADRIC, x=(0.005, 1 - 0.17 * M), y=(-0.55, 1), z=(-0.4, 0.02), shape=CUSHION),
            Solid(
                kind=Primitive.SUPERQUADRIC,
                x=(0.45, 0.45 + 0.38 * M),
                y=(-0.55, -0.55 + 0.16 * M),
                z=(0.0, 0.75),
                shape=CUSHION,
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
                kind=Primitive.SUPERQUADRIC,
                x=(-1 + 0.15 * M, 1 - 0.15 * M),
                y=(-0.5, 1),
                z=(-0.35, 0.02),
                shape=CUSHION,
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
                kind=Primitive.SUPERQUADRIC,
                y=(-1 + 0.07 * M, 1 - 0.02 * M),
                z=(-0.5, 0.1),
                shape=(0.2, 0.2, 0.0, 0.0),
                accent=True,
            ),
            Solid(
                kind=Primitive.SUPERQUADRIC,
                x=(-0.9, -0.06),
                y=(-1 + 0.1 * M, -1 + 0.5 * M),
                z=(0.05, 0.05 + 0.14 * M),
                shape=CUSHION,
            ),
            Solid(
                kind=Primitive.SUPERQUADRIC,
                x=(0.06, 0.9),
                y=(-1 + 0.1 * M, -1 + 0.5 * M),
                z=(0.05, 0.05 + 0.14 * M),
                shape=CUSHION,
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
        solids=(Solid(z=(1 - 0.035 * M, 1)), *legs(1 - 0.035 * M)),
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
                for one in fronts(4, -1 + 0.1 * M, 1 - 0.05 * M)
            ),
            *(
                Solid(
                    kind=Primitive.CYLINDER,
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
        solids=(Solid(y=(-1, 1 - 0.02 * M)), *fronts(1, -0.9, 1 - 0.03 * M, rows=4)),
        width=(0.35, 0.6),
        depth=(0.2, 0.27),
        height=(0.32, 0.6),
        supports=(Support(),),
        weight=0.9,
    ),
    "wardrobe": Piece(
        solids=(Solid(y=(-1, 1 - 0.02 * M)), *fronts(2, -0.95, 0.98)),
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
            Solid(kind=Primitive.CYLINDER, x=(-0.85, -0.85 + 0.02 * M), y=(1 - 0.01 * M, 1), z=(-0.3, 0.12)),
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
                    kind=Primitive.CYLINDER,
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
                kind=Primitive.CONE,
                x=(-0.5, 0.5),
                y=(-0.5, 0.5),
                z=(-1, -0.45),
                shape=(0.65, 0.0, 0.0, 0.0),
                upside_down=True,
            ),
            Solid(kind=Primitive.CYLINDER, x=(-0.04, 0.04), y=(-0.04, 0.04), z=(-0.5, 0.2)),
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
            Solid(kind=Primitive.CYLINDER, x=(-0.7, 0.7), y=(-0.7, 0.7), z=(-1, -1 + 0.03 * M)),
            Solid(kind=Primitive.CYLINDER, x=(-0.015 * M, 0.015 * M), y=(-0.015 * M, 0.015 * M), z=(-1, 0.6)),
            Solid(kind=Primitive.CONE, z=(0.6, 1), shape=(0.6, 0.0, 0.0, 0.0), accent=True),
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
            *legs(-0.04, 0.01 * M, 0.04 * M, accent=False),
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
            Solid(kind=Primitive.SPHERE, x=(0.66, 0.66 + 0.05 * M), y=(0.4, 1), z=(-0.03, -0.03 + 0.05 * M)),
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
