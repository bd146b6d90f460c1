"""Draws materials for rooms, each after what its surface is: wood, cloth, paint, print, a plant, a window.

Photographs have contrast at all scales, little saturation, and large plain parts. So noise is fractal, prints are
leaves of all sizes, most colours are greyish or brown, and a third of the rooms has plain pale walls.
"""

from __future__ import annotations

import numpy as np

from lorasub.scenes.color import hsv_to_linear_rgb
from lorasub.scenes.description import FIRST_OBJECT, FLOOR, WALLS, Materials, Pattern
from lorasub.scenes.indoor.interior import CATALOGUE, SURFACES, Interior
from lorasub.scenes.indoor.pieces import Role
from lorasub.scenes.streams import Array, Draws, IntArray

MATERIAL_DRAWS = 26 * SURFACES
#: Patterns of each role, equally often.
_PATTERNS: dict[Role, tuple[Pattern, ...]] = {
    Role.WOOD: (Pattern.PLAIN, Pattern.FRACTAL, Pattern.FRACTAL, Pattern.WOOD, Pattern.WOOD, Pattern.BRICKS),
    Role.CLOTH: (Pattern.PLAIN, Pattern.FRACTAL, Pattern.FRACTAL, Pattern.STRIPES, Pattern.CHECKER, Pattern.LEAVES),
    Role.PAINT: (Pattern.PLAIN, Pattern.PLAIN, Pattern.FRACTAL),
    Role.PRINT: (Pattern.LEAVES, Pattern.LEAVES, Pattern.LEAVES, Pattern.FRACTAL, Pattern.STRIPES, Pattern.PLAIN),
    Role.LEAF: (Pattern.FRACTAL, Pattern.CELLS),
    Role.CERAMIC: (Pattern.PLAIN, Pattern.FRACTAL, Pattern.DOTS, Pattern.LEAVES, Pattern.GRADIENT),
    Role.SCREEN: (Pattern.PLAIN, Pattern.GLOW),
    Role.PANE: (Pattern.GLOW,),
    Role.STONE: (Pattern.PLAIN, Pattern.FRACTAL, Pattern.FRACTAL, Pattern.MARBLE),
    Role.GLASS: (Pattern.PLAIN, Pattern.FRACTAL, Pattern.LEAVES),
    Role.WALL: (Pattern.PLAIN, Pattern.FRACTAL, Pattern.FRACTAL, Pattern.LEAVES, Pattern.BRICKS, Pattern.STRIPES),
}
_FLOORS = (
    Pattern.FRACTAL,
    Pattern.FRACTAL,
    Pattern.BRICKS,
    Pattern.BRICKS,
    Pattern.WOOD,
    Pattern.CHECKER,
    Pattern.STRIPES,
    Pattern.LEAVES,
)
#: Size of a feature, least and most; hue; saturation and value of the first colour.
_LOOKS: dict[Role, tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    Role.WOOD: ((0.03, 0.3), (0.03, 0.12), (0.1, 0.75), (0.15, 0.9)),
    Role.CLOTH: ((0.01, 0.15), (0.0, 1.0), (0.02, 0.55), (0.1, 0.9)),
    Role.PAINT: ((0.05, 0.5), (0.0, 1.0), (0.0, 0.12), (0.2, 1.0)),
    Role.PRINT: ((0.01, 0.12), (0.0, 1.0), (0.0, 0.9), (0.15, 1.0)),
    Role.LEAF: ((0.02, 0.08), (0.18, 0.38), (0.25, 0.75), (0.15, 0.6)),
    Role.CERAMIC: ((0.01, 0.08), (0.0, 1.0), (0.0, 0.7), (0.15, 1.0)),
    Role.SCREEN: ((0.02, 0.2), (0.5, 0.7), (0.0, 0.3), (0.03, 0.15)),
    Role.PANE: ((0.8, 2.5), (0.2, 0.6), (0.0, 0.15), (0.9, 1.0)),
    Role.STONE: ((0.03, 0.4), (0.04, 0.14), (0.0, 0.3), (0.3, 0.95)),
    Role.GLASS: ((0.1, 0.6), (0.5, 0.7), (0.0, 0.25), (0.05, 0.4)),
    Role.WALL: ((0.04, 0.6), (0.0, 1.0), (0.0, 0.3), (0.45, 1.0)),
}


def draw_indoor_materials(draws: Draws, interior: Interior) -> Materials:
    """A material for every surface of a room."""
    many = SURFACES
    which = draws.uniform((0.0, 1.0), many)
    place = draws.uniform((0.0, 1.0), many, 4)  # in the ranges of its role
    warp = draws.uniform((0.0, 1.0), many)
    phase = draws.uniform((0.0, 8.0), many, 3)
    contrast = draws.log_uniform((0.06, 0.7), many, 1)
    other = draws.uniform((-1.0, 1.0), many, 3, 2)
    painted = draws.chance(0.45, many)
    pale = draws.chance(0.34)[:, None]
    roughness = draws.uniform((0.25, 0.9), many)
    specular = 0.35 * draws.uniform((0.0, 1.0), many) ** 3
    outside = draws.log_uniform((0.8, 12.0), many, 1)

    role = _roles(interior)
    pattern, looks = _from(_PATTERN_TABLE[role], which), _LOOK_TABLE[role]  # [B, M], [B, M, 4, 2]
    pattern[:, FLOOR] = _from(np.array([[int(one) for one in _FLOORS]]), which[:, FLOOR])
    drawn = looks[..., 0] + (looks[..., 1] - looks[..., 0]) * place
    scale = np.exp(drawn[..., 0])
    # painted wood has any hue, and now and then much of it
    tinted = painted & (role == int(Role.WOOD))
    hue = np.where(tinted, place[..., 1], drawn[..., 1])
    saturation = np.where(tinted, place[..., 2] ** 2 * 0.9, drawn[..., 2])
    prints = role == int(Role.PRINT)
    spread = np.where(prints[..., None], 0.6, contrast)
    hues = hue[..., None] + np.where(prints[..., None], 0.25, 0.04) * other[..., 0]
    saturations = saturation[..., None] * (1.0 + 0.4 * other[..., 0])
    values = drawn[..., 3, None] + spread * other[..., 1]
    walls = slice(WALLS, FIRST_OBJECT)
    pattern[:, walls] = np.where(pale, int(Pattern.PLAIN), pattern[:, walls])
    saturations[:, walls] *= np.where(pale, 0.25, 1.0)[..., None]
    values[:, WALLS] = np.where(pale, 0.75 + 0.25 * place[:, WALLS, 3:], values[:, WALLS])
    values[:, FIRST_OBJECT - 1] = 0.78 + 0.22 * place[:, FIRST_OBJECT - 1, 3:]
    pattern[:, FIRST_OBJECT - 1] = int(Pattern.PLAIN)
    colors = hsv_to_linear_rgb(hues, np.clip(saturations, 0.0, 1.0), np.clip(values, 0.03, 1.0))
    glows = pattern == int(Pattern.GLOW)
    colors = np.where(glows[..., None, None], colors * _radiance(role, outside), colors)
    phase = np.where(glows[..., None], 0.0, phase)
    rows, source = np.arange(len(role))[:, None], _source(role)
    pattern, colors, phase = pattern[rows, source], colors[rows, source], phase[rows, source]
    scale, warp, roughness, specular = (value[rows, source] for value in (scale, warp, roughness, specular))
    specular[:, walls] *= 0.1

    nothing = np.zeros_like(scale)
    return Materials.of(
        pattern=pattern,
        colors=colors,
        scale=scale,
        warp=warp,
        phase=phase,
        image=nothing,
        roughness=roughness,
        specular=specular,
        refraction=nothing,
    )


def _roles(interior: Interior) -> IntArray:
    """``[B, M]`` the role of each surface."""
    batch = len(interior.kinds)
    room = np.broadcast_to([int(Role.WOOD), int(Role.WALL), int(Role.WALL)], (batch, FIRST_OBJECT))
    return np.concatenate([room, CATALOGUE.roles[interior.kinds].reshape(batch, -1)], axis=1)


def _radiance(role: IntArray, outside: Array) -> Array:
    """Radiance of glowing surfaces, ``[B, M, 3, 1]`` for three colours: sky, what is before it, and between."""
    shares = np.array([1.0, 0.35, 0.6])
    pane = (role == int(Role.PANE))[..., None]
    bright: Array = np.where(pane, outside * shares, 3.0 * shares)[..., None]
    return bright


def _source(role: IntArray) -> IntArray:
    """``[B, M]`` which surface's material each surface has: its own, but pillars are of what the walls are of."""
    own = np.arange(role.shape[1])
    source: IntArray = np.where((role == int(Role.WALL)) & (own >= FIRST_OBJECT), WALLS, own)
    return source


def _from(codes: IntArray, share: Array) -> IntArray:
    """One of each row of codes ``[..., N]``, for numbers ``[...]`` in [0, 1)."""
    place = (share * codes.shape[-1]).astype(np.int64)
    chosen: IntArray = np.take_along_axis(np.broadcast_to(codes, (*share.shape, codes.shape[-1])), place[..., None], -1)
    return chosen[..., 0]


def _tables() -> tuple[IntArray, Array]:
    """Patterns ``[R, N]``, each row repeated to the same length, and ranges ``[R, 4, 2]``; sizes as logarithms."""
    length = int(np.lcm.reduce([len(some) for some in _PATTERNS.values()]))
    rows = [_PATTERNS[role] for role in Role]
    patterns = np.array([np.repeat([int(one) for one in row], length // len(row)) for row in rows])
    looks = np.array([_LOOKS[role] for role in Role])
    looks[:, 0] = np.log(looks[:, 0])
    return patterns, looks


_PATTERN_TABLE, _LOOK_TABLE = _tables()
