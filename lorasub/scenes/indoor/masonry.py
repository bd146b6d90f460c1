"""Parts of a facade: they stand out of its wall like furniture out of a room's."""

from __future__ import annotations

from lorasub.scenes.indoor.pieces import M, Piece, Role, Solid, cylinder, frame, sphere, torus

_STONE = (Role.WALL, Role.STONE)
_ANY = ((1.0, 1.0),) * 3


def _arch(reach: float, low: complex, deep: float, tube: float, accent: bool) -> Solid:
    """The upper half of a ring in the wall; the lower half is behind the columns that carry it."""
    bounds = (-reach, reach)
    return torus(
        x=bounds,
        y=(-deep, deep),
        z=(low, 1.0 - (1.0 - reach) * 0.8),
        up=1,
        shape=(tube, 0.0, 0.0, 0.0),
        accent=accent,
    )


#: Bays stand side by side; the rest goes along or in front of the whole wall.
BAYS: dict[str, Piece] = {
    "window_bay": Piece(
        solids=(
            *frame(0.16 + 0j),
            Solid(x=(-0.84, 0.84), y=(-1, -0.8), z=(-0.84, 0.84), accent=True),
            Solid(x=(-0.03, 0.03), y=(-0.8, 0.0), z=(-0.84, 0.84)),
            Solid(x=(-1.1, 1.1), y=(-1, 1.6), z=(-1.12, -1)),
        ),
        size=_ANY,
        weight=1.5,
        roles=(Role.STONE, Role.GLASS),
    ),
    "arch_bay": Piece(
        solids=(
            _arch(1.0, -0.4, 1.0, 0.09, accent=True),
            _arch(0.82, -0.3, 0.75, 0.11, accent=False),
            _arch(0.62, -0.2, 0.5, 0.14, accent=True),
            Solid(x=(-1.02, -0.72), y=(-1, 1.1), z=(-1, 0.25)),
            Solid(x=(0.72, 1.02), y=(-1, 1.1), z=(-1, 0.25)),
            cylinder(x=(-0.72, -0.56), y=(-0.4, 0.6), z=(-1, 0.25), accent=True),
            cylinder(x=(0.56, 0.72), y=(-0.4, 0.6), z=(-1, 0.25), accent=True),
            Solid(x=(-0.45, 0.45), y=(-1, -0.6), z=(-1, 0.2)),
        ),
        size=_ANY,
        weight=1.2,
        roles=_STONE,
    ),
    "column_bay": Piece(
        solids=(
            cylinder(x=(-0.95, -0.65), y=(-0.8, 1), z=(-0.85, 0.8)),
            cylinder(x=(0.65, 0.95), y=(-0.8, 1), z=(-0.85, 0.8)),
            Solid(z=(-1, -0.85), y=(-1, 1.15)),
            Solid(z=(0.8, 1), y=(-1, 1.15)),
            Solid(x=(-0.5, 0.5), y=(-1, -0.5), z=(-0.6, 0.7), accent=True),
        ),
        size=_ANY,
        roles=(Role.STONE, Role.WALL),
    ),
    "panel_bay": Piece(
        solids=(
            Solid(x=(-0.9, 0.9), y=(-1, -0.2), z=(-0.9, 0.9)),
            Solid(x=(-0.7, 0.7), y=(-0.2, 0.4), z=(-0.7, 0.7), accent=True),
            sphere(x=(-0.35, 0.35), y=(-0.6, 1), z=(-0.35, 0.35)),
        ),
        size=_ANY,
        weight=0.6,
        roles=_STONE,
    ),
    "balcony_bay": Piece(
        solids=(
            Solid(x=(-0.6, 0.6), y=(-1, -0.9), z=(-0.7, 0.8), accent=True),
            Solid(y=(-1, 3.0), z=(-0.9, -0.78)),
            Solid(y=(2.8, 3.0), z=(-0.35, -0.28)),
            *(cylinder(x=(-0.97 + 0.32 * n, -0.93 + 0.32 * n), y=(2.8, 2.95), z=(-0.78, -0.35)) for n in range(7)),
        ),
        size=_ANY,
        weight=0.6,
        roles=(Role.STONE, Role.GLASS),
    ),
    "door_bay": Piece(
        solids=(
            Solid(x=(-0.95, -0.6), z=(-1, 0.7)),
            Solid(x=(0.6, 0.95), z=(-1, 0.7)),
            Solid(x=(-1, 1), y=(-1, 1.2), z=(0.7, 0.9)),
            Solid(x=(-0.6, 0.6), y=(-1, -0.7), z=(-1, 0.7), accent=True),
            sphere(x=(0.4, 0.4 + 0.06 * M), y=(-0.7, -0.3), z=(-0.15, -0.15 + 0.06 * M)),
        ),
        size=_ANY,
        roles=(Role.STONE, Role.WOOD),
    ),
}
MASONRY: dict[str, Piece] = BAYS | {
    "facade_wall": Piece(solids=(Solid(),), size=_ANY, roles=(Role.WALL, Role.WALL)),
    "cornice": Piece(
        solids=(Solid(z=(-1, 0.2), y=(-1, 0.5)), Solid(z=(0.2, 1))), size=_ANY, roles=(Role.STONE, Role.STONE)
    ),
    "steps": Piece(
        solids=(Solid(z=(-1, -0.33)), Solid(y=(-1, 0.33), z=(-0.33, 0.33)), Solid(y=(-1, -0.33), z=(0.33, 1))),
        size=_ANY,
        roles=(Role.STONE, Role.STONE),
    ),
}
