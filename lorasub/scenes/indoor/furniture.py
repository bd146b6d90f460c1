"""Furniture, what hangs on walls, and small things that stand on others."""

from __future__ import annotations

from lorasub.scenes.description import Primitive
from lorasub.scenes.indoor.pieces import (
    M,
    Piece,
    Role,
    Solid,
    Support,
    blob,
    cone,
    curtain,
    cushion,
    cylinder,
    frame,
    fronts,
    legs,
    shelf,
    sphere,
    torus,
)

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
            cushion(x=(-1 + 0.17 * M, -0.005), y=(-0.55, 1), z=(-0.4, 0.02)),
            cushion(x=(0.005, 1 - 0.17 * M), y=(-0.55, 1), z=(-0.4, 0.02)),
            cushion(x=(0.45, 0.45 + 0.38 * M), y=(-0.55, -0.55 + 0.16 * M), z=(0.0, 0.75), accent=True),
        ),
        size=((0.75, 1.1), (0.38, 0.48), (0.36, 0.46)),
        weight=1.2,
        roles=(Role.CLOTH, Role.CLOTH),
    ),
    "armchair": Piece(
        solids=(
            Solid(z=(-1, -0.3)),
            Solid(y=(-1, -0.5), z=(-0.3, 1)),
            Solid(x=(-1, -1 + 0.14 * M), y=(-0.5, 1), z=(-0.3, 0.25)),
            Solid(x=(1 - 0.14 * M, 1), y=(-0.5, 1), z=(-0.3, 0.25)),
            cushion(x=(-1 + 0.15 * M, 1 - 0.15 * M), y=(-0.5, 1), z=(-0.35, 0.02), accent=True),
        ),
        size=((0.38, 0.5), (0.38, 0.46), (0.4, 0.5)),
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
                shape=(0.2, 0.2),
                accent=True,
            ),
            cushion(x=(-0.9, -0.06), y=(-1 + 0.1 * M, -1 + 0.5 * M), z=(0.05, 0.05 + 0.14 * M)),
            cushion(x=(0.06, 0.9), y=(-1 + 0.1 * M, -1 + 0.5 * M), z=(0.05, 0.05 + 0.14 * M)),
        ),
        size=((0.45, 0.9), (0.95, 1.02), (0.4, 0.5)),
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
        size=((0.55, 0.9), (0.3, 0.42), (0.35, 0.39)),
        supports=(Support(room=0.5 * M),),
        weight=1.6,
    ),
    "table": Piece(
        solids=(Solid(z=(1 - 0.035 * M, 1)), *legs(1 - 0.035 * M)),
        size=((0.45, 0.9), (0.32, 0.5), (0.35, 0.39)),
        supports=(Support(room=0.5 * M),),
        weight=1.2,
    ),
    "shelf": Piece(solids=_SHELF_4, size=((0.3, 0.7), (0.13, 0.2), (0.55, 1.05)), supports=_SHELF_4_BOARDS, weight=1.4),
    "rack": Piece(solids=_SHELF_5, size=((0.3, 0.6), (0.14, 0.22), (0.7, 1.05)), supports=_SHELF_5_BOARDS, weight=0.9),
    "bins": Piece(solids=_BINS, size=((0.35, 0.65), (0.18, 0.26), (0.55, 0.95)), supports=_BINS_BOARDS, weight=0.7),
    "cupboards": Piece(
        solids=(
            Solid(y=(-1, 1 - 0.05 * M), z=(-1, 1 - 0.04 * M)),
            Solid(z=(1 - 0.04 * M, 1)),
            *(
                Solid(x=one.x, y=(1 - 0.05 * M, 1 - 0.03 * M), z=one.z, accent=True)
                for one in fronts(4, -1 + 0.1 * M, 1 - 0.05 * M)
            ),
            *(
                cylinder(
                    x=(-0.86 + 0.5 * n, -0.86 + 0.5 * n + 0.14 * M),
                    y=(1 - 0.03 * M, 1 - 0.015 * M),
                    z=(1 - 0.11 * M, 1 - 0.095 * M),
                    up=0,
                )
                for n in range(4)
            ),
        ),
        size=((0.6, 1.3), (0.28, 0.33), (0.42, 0.47)),
        supports=(Support(y=(-1, 1 - 0.06 * M), room=0.42 * M),),
        weight=1.6,
    ),
    "chest": Piece(
        solids=(Solid(y=(-1, 1 - 0.02 * M)), *fronts(1, -0.9, 1 - 0.03 * M, rows=4)),
        size=((0.35, 0.6), (0.2, 0.27), (0.32, 0.6)),
        supports=(Support(),),
        weight=0.9,
    ),
    "wardrobe": Piece(
        solids=(Solid(y=(-1, 1 - 0.02 * M)), *fronts(2, -0.95, 0.98)),
        size=((0.4, 0.9), (0.25, 0.32), (0.8, 1.1)),
        weight=0.8,
    ),
    "fridge": Piece(
        solids=(
            Solid(y=(-1, 1 - 0.05 * M)),
            Solid(y=(1 - 0.045 * M, 1 - 0.01 * M), z=(-0.96, 0.2), accent=True),
            Solid(y=(1 - 0.045 * M, 1 - 0.01 * M), z=(0.22, 0.99), accent=True),
            cylinder(x=(-0.85, -0.85 + 0.02 * M), y=(1 - 0.01 * M, 1), z=(-0.3, 0.12)),
        ),
        size=((0.28, 0.38), (0.28, 0.34), (0.5, 0.95)),
        supports=(Support(room=0.25 * M),),
        weight=0.4,
        roles=(Role.PAINT, Role.PAINT),
    ),
    "radiator": Piece(
        solids=(
            Solid(y=(-0.6, 0.6), z=(-0.8, 1)),
            *(cylinder(x=(-1 + 0.2857 * n, -1 + 0.2857 * n + 0.2), y=(0.2, 1), z=(-0.75, 0.95)) for n in range(7)),
        ),
        size=((0.3, 0.65), (0.05, 0.07), (0.27, 0.35)),
        weight=0.6,
        roles=(Role.PAINT, Role.PAINT),
    ),
    "plant": Piece(
        solids=(
            cone(x=(-0.5, 0.5), y=(-0.5, 0.5), z=(-1, -0.45), shape=(0.65,), upside_down=True),
            cylinder(x=(-0.04, 0.04), y=(-0.04, 0.04), z=(-0.5, 0.2)),
            blob(z=(-0.25, 1), shape=(0.25, 6.0, 1.0), accent=True),
            blob(x=(-0.95, 0.2), y=(-0.5, 0.8), z=(-0.5, 0.3), shape=(0.28, 7.0, 3.0), accent=True),
        ),
        size=((0.2, 0.38), (0.2, 0.3), (0.35, 0.8)),
        weight=0.5,
        roles=(Role.CERAMIC, Role.LEAF),
    ),
    "floor_lamp": Piece(
        solids=(
            cylinder(x=(-0.7, 0.7), y=(-0.7, 0.7), z=(-1, -1 + 0.03 * M)),
            cylinder(x=(-0.015 * M, 0.015 * M), y=(-0.015 * M, 0.015 * M), z=(-1, 0.6)),
            cone(z=(0.6, 1), shape=(0.6,), accent=True),
        ),
        size=((0.15, 0.24), (0.15, 0.24), (0.65, 0.85)),
        weight=0.4,
        roles=(Role.PAINT, Role.CLOTH),
    ),
    "chair": Piece(
        solids=(
            Solid(z=(-0.04, -0.04 + 0.04 * M)),
            Solid(y=(-1, -1 + 0.04 * M), z=(0.25, 1), accent=True),
            *legs(-0.04, 0.01 * M, 0.04 * M, accent=False),
        ),
        size=((0.2, 0.25), (0.2, 0.25), (0.42, 0.5)),
        weight=0.6,
        roles=(Role.WOOD, Role.CLOTH),
    ),
    "box": Piece(
        solids=(Solid(z=(-1, 0.9)), Solid(x=(-0.98, 0.98), y=(-0.98, 0.98), z=(0.9, 1), accent=True)),
        size=((0.15, 0.35), (0.12, 0.3), (0.1, 0.35)),
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
            sphere(x=(0.66, 0.66 + 0.05 * M), y=(0.4, 1), z=(-0.03, -0.03 + 0.05 * M)),
        ),
        size=((0.42, 0.55), (0.025, 0.04), (0.98, 1.05)),
        weight=1.3,
        roles=(Role.PAINT, Role.PAINT),
    ),
    "pillar": Piece(
        solids=(Solid(),), size=((0.15, 0.7), (0.1, 0.45), (1.14, 1.15)), weight=0.5, roles=(Role.WALL, Role.WALL)
    ),
}
#: Pieces that hang on a wall.
HANGING: dict[str, Piece] = {
    "picture": Piece(
        solids=(
            *frame(0.025 * M),
            Solid(x=(-1 + 0.02 * M, 1 - 0.02 * M), y=(-1, 0.3), z=(-1 + 0.02 * M, 1 - 0.02 * M), accent=True),
        ),
        size=((0.15, 0.55), (0.01, 0.02), (0.12, 0.42)),
        weight=2.0,
        roles=(Role.WOOD, Role.PRINT),
    ),
    "window": Piece(
        solids=(
            *frame(0.06 * M),
            Solid(x=(-0.025 * M, 0.025 * M), y=(-1, 0.8), z=(-1 + 0.06 * M, 1 - 0.06 * M)),
            Solid(x=(-1 + 0.05 * M, 1 - 0.05 * M), y=(-1, -0.3), z=(-1 + 0.05 * M, 1 - 0.05 * M), accent=True),
        ),
        size=((0.4, 1.0), (0.025, 0.04), (0.4, 0.75)),
        weight=1.6,
        roles=(Role.PAINT, Role.PANE),
    ),
    "curtains": Piece(
        solids=(*curtain(-1, -0.5, 4), *curtain(0.55, 1, 3), cylinder(y=(-0.3, 0.3), z=(1 - 0.03 * M, 1), up=0)),
        size=((0.5, 1.1), (0.05, 0.08), (0.6, 1.05)),
        weight=0.8,
        roles=(Role.PAINT, Role.CLOTH),
    ),
    "wall_shelf": Piece(
        solids=(
            Solid(z=(-1, -1 + 0.025 * M)),
            Solid(x=(-0.8, -0.8 + 0.02 * M), y=(-1, 0.6), z=(-1 + 0.025 * M, -0.6)),
            Solid(x=(0.8 - 0.02 * M, 0.8), y=(-1, 0.6), z=(-1 + 0.025 * M, -0.6)),
        ),
        size=((0.25, 0.65), (0.09, 0.13), (0.15, 0.2)),
        supports=(Support(x=(-0.75, 0.75), z=-1 + 0.025 * M, room=0.3 * M),),
    ),
    "hanging_cupboards": Piece(
        solids=(Solid(y=(-1, 1 - 0.02 * M)), *fronts(3, -1, 1)), size=((0.4, 1.2), (0.15, 0.18), (0.28, 0.4))
    ),
    "clock": Piece(
        solids=(cylinder(up=1), cylinder(x=(-0.9, 0.9), y=(-1, 1.2), z=(-0.9, 0.9), up=1, accent=True)),
        size=((0.12, 0.2), (0.015, 0.03), (0.12, 0.2)),
        weight=0.3,
        roles=(Role.PAINT, Role.PRINT),
    ),
    "screen": Piece(
        solids=(
            Solid(),
            Solid(x=(-1 + 0.02 * M, 1 - 0.02 * M), y=(0.9, 1.1), z=(-1 + 0.02 * M, 1 - 0.02 * M), accent=True),
        ),
        size=((0.35, 0.7), (0.02, 0.04), (0.22, 0.4)),
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
        size=((0.05, 0.14), (0.07, 0.11), (0.09, 0.15)),
        weight=2.0,
        roles=(Role.PRINT, Role.PRINT),
    ),
    "books_flat": Piece(
        solids=(
            Solid(z=(-1, -0.3)),
            Solid(x=(-0.9, 0.85), y=(-0.95, 0.9), z=(-0.3, 0.3), accent=True),
            Solid(x=(-0.7, 0.9), y=(-0.9, 0.8), z=(0.3, 1)),
        ),
        size=((0.08, 0.15), (0.08, 0.14), (0.02, 0.07)),
        weight=1.6,
        roles=(Role.PRINT, Role.PRINT),
    ),
    "paper": Piece(
        solids=(Solid(),), size=((0.08, 0.15), (0.1, 0.15), (0.001, 0.006)), weight=1.2, roles=(Role.PRINT, Role.PRINT)
    ),
    "mug": Piece(
        solids=(
            cylinder(x=(-1, 0.6), y=(-0.8, 0.8)),
            torus(x=(0.1, 1), y=(-0.25, 0.25), z=(-0.6, 0.6), up=1, shape=(0.22,)),
        ),
        size=((0.045, 0.06), (0.045, 0.055), (0.04, 0.055)),
        weight=1.4,
        roles=(Role.CERAMIC, Role.CERAMIC),
    ),
    "bottle": Piece(
        solids=(
            cylinder(z=(-1, 0.3)),
            cone(z=(0.3, 0.6), shape=(0.35,)),
            cylinder(x=(-0.35, 0.35), y=(-0.35, 0.35), z=(0.6, 1), accent=True),
        ),
        size=((0.03, 0.05), (0.03, 0.05), (0.1, 0.16)),
        roles=(Role.CERAMIC, Role.PAINT),
    ),
    "bowl": Piece(
        solids=(cone(shape=(0.5,), upside_down=True),),
        size=((0.06, 0.14), (0.06, 0.14), (0.03, 0.06)),
        weight=0.6,
        roles=(Role.CERAMIC, Role.CERAMIC),
    ),
    "carton": Piece(
        solids=(Solid(),), size=((0.04, 0.16), (0.03, 0.12), (0.04, 0.15)), weight=2.0, roles=(Role.PRINT, Role.PRINT)
    ),
    "tin": Piece(
        solids=(cylinder(),),
        size=((0.03, 0.06), (0.03, 0.06), (0.04, 0.09)),
        weight=0.8,
        roles=(Role.PRINT, Role.PRINT),
    ),
    "ball": Piece(
        solids=(sphere(),),
        size=((0.03, 0.08), (0.03, 0.08), (0.03, 0.08)),
        weight=0.6,
        roles=(Role.CERAMIC, Role.CERAMIC),
    ),
    "vase": Piece(
        solids=(
            Solid(kind=Primitive.SUPERQUADRIC, z=(-1, 0.5), shape=(0.8, 1.0)),
            cone(x=(-0.6, 0.6), y=(-0.6, 0.6), z=(0.3, 1), shape=(0.6,), upside_down=True),
        ),
        size=((0.05, 0.09), (0.05, 0.09), (0.09, 0.17)),
        weight=0.5,
        roles=(Role.CERAMIC, Role.CERAMIC),
    ),
    "pot_plant": Piece(
        solids=(
            cone(x=(-0.6, 0.6), y=(-0.6, 0.6), z=(-1, 0), shape=(0.7,), upside_down=True),
            blob(z=(-0.2, 1), shape=(0.28, 6.0, 2.0), accent=True),
        ),
        size=((0.07, 0.13), (0.07, 0.13), (0.1, 0.18)),
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
        size=((0.2, 0.3), (0.08, 0.11), (0.18, 0.24)),
        weight=0.7,
        roles=(Role.PAINT, Role.SCREEN),
    ),
    "table_lamp": Piece(
        solids=(
            cylinder(x=(-0.6, 0.6), y=(-0.6, 0.6), z=(-1, -0.9)),
            cylinder(x=(-0.08, 0.08), y=(-0.08, 0.08), z=(-0.9, 0.2)),
            cone(z=(0.1, 1), shape=(0.55,), accent=True),
        ),
        size=((0.08, 0.15), (0.08, 0.15), (0.15, 0.24)),
        weight=0.5,
        roles=(Role.PAINT, Role.CLOTH),
    ),
    "photo": Piece(
        solids=(Solid(y=(-0.3, 0.2)), Solid(x=(-0.8, 0.8), y=(0.2, 0.3), z=(-0.8, 0.8), accent=True)),
        size=((0.06, 0.12), (0.03, 0.05), (0.07, 0.12)),
        weight=0.6,
        roles=(Role.WOOD, Role.PRINT),
    ),
    "rock": Piece(
        solids=(blob(shape=(0.15, 4.0, 1.0)),),
        size=((0.05, 0.12), (0.05, 0.1), (0.04, 0.1)),
        weight=0.5,
        roles=(Role.CERAMIC, Role.CERAMIC),
    ),
    "ring": Piece(
        solids=(torus(shape=(0.3,)),),
        size=((0.05, 0.1), (0.05, 0.1), (0.015, 0.03)),
        weight=0.3,
        roles=(Role.CERAMIC, Role.CERAMIC),
    ),
}
