"""A small reference of the renderer in numpy and double precision, written from the formulas, ray by ray.

It is slow and plain on purpose: bodies are found by dense sampling of their definitions and bisection, light by its
equations, patterns by theirs. Nothing here is shared with the package but the names of things.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from lorasub.scenes.description import (
    Cameras,
    Geometry,
    LightKind,
    Lights,
    Materials,
    Pattern,
    Primitive,
    SceneDescription,
)

Array = np.ndarray
_SAMPLES = 1500
IDENTITY = np.eye(3)


@dataclass(frozen=True)
class Solid:
    """One body: its primitive, in world units."""

    kind: Primitive
    shape: tuple[float, ...] = ()
    center: Sequence[float] | Array = (0.0, 0.0, 0.0)
    rotation: Array = field(default_factory=lambda: IDENTITY)
    size: Sequence[float] | Array = (1.0, 1.0, 1.0)

    def to_local(self, vectors: Array) -> Array:
        """World directions ``[3, ...]`` in the unit frame."""
        turned = np.einsum("ji,j...->i...", self.rotation, vectors)
        return turned / np.asarray(self.size).reshape(3, *[1] * (vectors.ndim - 1))


@dataclass(frozen=True)
class Lamp:
    """One light."""

    position: Sequence[float]
    color: Sequence[float] = (math.pi, math.pi, math.pi)
    radius: float = 0.0
    kind: LightKind = LightKind.POINT


def level(kind: Primitive, shape: Sequence[float], p: Array) -> Array:
    """A function of points ``[3, ...]`` in the unit frame that is negative inside of the solid, positive outside."""
    x, y, z = p
    cube = np.abs(p).max(0) - 1
    if kind == Primitive.SPHERE:
        return x**2 + y**2 + z**2 - 1
    if kind == Primitive.BOX:
        return cube
    if kind == Primitive.CYLINDER:
        return np.maximum(np.hypot(x, y) - 1, np.abs(z) - 1)
    if kind == Primitive.CONE:
        return np.maximum(np.hypot(x, y) - (1 + (shape[0] - 1) * (z + 1) / 2), np.abs(z) - 1)
    if kind == Primitive.TORUS:
        return np.hypot(np.hypot(x, y) - (1 - shape[0]), shape[0] * z) - shape[0]
    if kind == Primitive.SUPERQUADRIC:
        e1, e2 = shape[:2]
        ring = (np.abs(x) ** (2 / e2) + np.abs(y) ** (2 / e2)) ** (e2 / e1)
        return (ring + np.abs(z) ** (2 / e1)) ** (e1 / 2) - 1
    depth, frequency, phase = shape[:3]
    if kind == Primitive.BLOB:
        length = np.sqrt((p**2).sum(0)) + 1e-12
        turns = np.array([1.0, 2.3, 3.7]).reshape(3, *[1] * (p.ndim - 1))
        return np.maximum(length - 1 + depth * (1 - np.sin(frequency * p / length + turns * phase).mean(0)), cube)
    assert kind == Primitive.TERRAIN
    height = 1 - 2 * depth + depth * (np.sin(frequency * x + phase) + np.cos(frequency * y + 2.3 * phase))
    return np.maximum(z - height, cube)


@dataclass(frozen=True)
class Chords:
    """Where N rays enter and leave a solid, in units of their direction; inf and -inf for rays that pass it by.

    ``sure [N]`` is false where a ray only grazes the solid, so that rounding decides.
    """

    enter: Array
    leave: Array
    sure: Array


def chords(solid: Solid, origin: Array, direction: Array) -> Chords:
    """The first stretch of rays ``[3, N]`` inside of a solid that lies in front of their origins."""
    o, d = solid.to_local(origin - np.asarray(solid.center)[:, None]), solid.to_local(direction)
    # where the ray is within the ball around the cube
    middle = -(o * d).sum(0) / (d * d).sum(0)
    half = 1.8 / np.sqrt((d * d).sum(0))
    begin = np.maximum(middle - half, 0.0)
    t = begin[:, None] + np.maximum(middle + half - begin, 0.0)[:, None] * np.linspace(0, 1, _SAMPLES)

    def value(times: Array) -> Array:
        return level(solid.kind, solid.shape, o[..., None] + times * d[..., None])

    values = value(t)
    inside = values < 0
    found = inside.any(1)
    first = inside.argmax(1)
    after = np.where(inside | (np.arange(_SAMPLES) < first[:, None]), _SAMPLES, np.arange(_SAMPLES)).min(1)
    rows = np.arange(len(t))

    def bisect(low: Array, high: Array) -> Array:
        sign = value(low[:, None])[:, 0] < 0
        for _ in range(60):
            mid = 0.5 * (low + high)
            same = (value(mid[:, None])[:, 0] < 0) == sign
            low, high = np.where(same, mid, low), np.where(same, high, mid)
        return 0.5 * (low + high)

    enter = np.where(first == 0, t[:, 0], bisect(t[rows, np.maximum(first - 1, 0)], t[rows, first]))
    leave = bisect(t[rows, np.minimum(after, _SAMPLES - 1) - 1], t[rows, np.minimum(after, _SAMPLES - 1)])
    # a ray that all but touches the solid before it enters it, or passes it by, may go either way: marching ends on
    # surfaces that are near enough, and after so many steps
    steps = np.arange(1, _SAMPLES - 1)
    lowest = (values[:, 1:-1] <= values[:, :-2]) & (values[:, 1:-1] <= values[:, 2:]) & (values[:, 1:-1] < 1e-2)
    grazes = (lowest & (~found[:, None] | (steps < first[:, None]))).any(1)
    sure = ~grazes & (~found | (after - first > 8))
    return Chords(np.where(found, enter, np.inf), np.where(found, leave, -np.inf), sure)


def first_hit(solids: Sequence[Solid], origin: Array, direction: Array) -> tuple[Array, Array, Array]:
    """Distance ``[N]`` to the first solid that each ray enters, its number (-1: none), and whether that is sure."""
    each = [chords(solid, origin, direction) for solid in solids]
    enter = np.stack([chord.enter for chord in each])
    number = enter.argmin(0)
    distance = enter.min(0)
    ordered = np.sort(enter, axis=0)
    apart = np.nan_to_num(ordered, posinf=1e9)[1] - distance > 1e-3
    sure = np.all([chord.sure for chord in each], axis=0) & (apart | ~np.isfinite(distance))
    return distance, np.where(np.isfinite(distance), number, -1), sure


def normal(solid: Solid, point: Array) -> Array:
    """Unit outward normals ``[3, N]`` at points on the surface, by central differences of the definition."""
    local = solid.to_local(point - np.asarray(solid.center)[:, None])
    step = 1e-6
    gradient = np.stack(
        [
            level(solid.kind, solid.shape, local + step * IDENTITY[:, axis, None])
            - level(solid.kind, solid.shape, local - step * IDENTITY[:, axis, None])
            for axis in range(3)
        ]
    )
    world = solid.rotation @ (gradient / np.asarray(solid.size)[:, None])
    return world / np.linalg.norm(world, axis=0)


def visible(solids: Sequence[Solid], point: Array, light: Array) -> tuple[Array, Array]:
    """Whether nothing stands between points and places ``[3, N]``, and whether that is sure."""
    each = [chords(solid, point, light - point) for solid in solids]
    blocked = np.any([(c.enter < 1) & (c.leave > 0) for c in each], axis=0)
    # a point inside of a body is on no surface that anybody sees
    sure = np.all([c.sure & (np.abs(c.enter - 1) > 1e-3) & (c.enter > 0) for c in each], axis=0)
    return ~blocked, sure


def lambert_and_blinn_phong(
    lamp: Lamp, point: Array, normal: Array, eye: Array, roughness: float, specular: float
) -> tuple[Array, Array]:
    """Diffuse radiance factor and highlight ``[N]`` for a lamp of colour 1 that is wholly seen."""
    way = np.asarray(lamp.position)[:, None] - (point if lamp.kind == LightKind.POINT else 0.0 * point)
    distance = np.linalg.norm(way, axis=0)
    toward = way / distance
    facing = np.maximum((normal * toward).sum(0), 0)
    irradiance = facing / (distance**2 if lamp.kind == LightKind.POINT else 1.0)
    half = toward + eye / np.linalg.norm(eye, axis=0)
    cosine = np.maximum((normal * (half / np.linalg.norm(half, axis=0))).sum(0), 0)
    exponent = np.clip(2 / roughness**4 - 2, 1, 400)
    return irradiance / np.pi, irradiance * specular * cosine**exponent * (exponent + 8) / (8 * np.pi)


def lattice_hash(x: Array, y: Array, z: Array) -> Array:
    """The 32-bit hash of lattice points."""
    with np.errstate(over="ignore"):
        value = x.astype(np.uint32) * np.uint32(0x27D4EB2F) + y.astype(np.uint32) * np.uint32(0x9E3779B1)
        value = value + z.astype(np.uint32) * np.uint32(0x165667B1)
        value = (value ^ (value >> np.uint32(15))) * np.uint32(0x85EBCA6B)
        return value ^ (value >> np.uint32(13))


def gyroid_noise(p: Array, footprint: Array, octaves: int = 3, first: float = 0.62, falloff: float = 0.55) -> Array:
    """Some octaves of a gyroid, each bent by the sum of those before it and turned by a fixed rotation."""
    turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    total = np.zeros(p.shape[1])
    for octave in range(octaves):
        frequency = 2.2 * 1.93**octave
        u, v, w = frequency * p + np.outer([1.9, -1.3, 0.7], total) + np.array([[0], [0], [octave]])
        wave = np.sin(u) * np.cos(v) + np.sin(v) * np.cos(w) + np.sin(w) * np.cos(u)
        total = total + np.clip(1.2 - 0.6 * frequency * footprint, 0, 1) * first * falloff**octave * wave
        p = turn @ p
    return np.clip(0.9 * total, -1, 1)


def nearest_feature(p: Array, jitter: float) -> tuple[Array, Array]:
    """Distance to the nearest of the points in the eight closest cells, and its cell's number in [0, 1]."""
    base = np.floor(p - 0.5).astype(np.int64)
    best, owner = np.full(p.shape[1], np.inf), np.zeros(p.shape[1])
    for corner in np.ndindex(2, 2, 2):
        cell = base + np.array(corner)[:, None]
        number = lattice_hash(*cell)
        moved = np.stack([(number >> np.uint32(8 * axis)) & np.uint32(255) for axis in range(3)]) / 256.0 - 0.5
        distance = np.linalg.norm(cell + 0.5 + jitter * moved - p, axis=0)
        owner = np.where(distance < best, (number >> np.uint32(24)) / 255.0, owner)
        best = np.minimum(best, distance)
    return best, owner


def _filtered_step(value: Array, width: Array) -> Array:
    return np.clip(0.5 + value / np.maximum(width, 1e-3), 0, 1)


def _square(value: Array, width: Array) -> Array:
    triangle = 2 * np.abs(value - np.floor(value) - 0.5) - 0.5
    return 0.5 + np.clip(1.5 - 2 * width, 0, 1) * (_filtered_step(triangle, 2 * width) - 0.5)


def _byte(number: Array, place: int) -> Array:
    value: Array = ((number >> np.uint32(8 * place)) & np.uint32(255)) / 255.0
    return value


def dead_leaves(p: Array, footprint: Array) -> tuple[Array, Array]:
    """The two tones of the leaf on top at points ``[2, N]``: five sizes, each drawn over the larger ones."""
    tones = [np.zeros(p.shape[1]), np.zeros(p.shape[1])]
    for level in range(5):
        size = 2.0 * 0.55**level
        place = p / size
        base = np.floor(place - 0.5).astype(np.int64)
        for corner in ((0, 0), (1, 0), (0, 1), (1, 1)):
            cell = base + np.array(corner)[:, None]
            number = lattice_hash(cell[0], cell[1], np.full_like(cell[0], 131 * level + 7))
            middle = cell + 0.5 + 0.4 * (np.stack([_byte(number, 0), _byte(number, 1)]) - 0.5)
            share, (x, y) = _byte(number, 2), np.abs(place - middle)
            disc = (number >> np.uint32(24)) % 2 == 1
            away = np.where(disc, np.hypot(x, y), np.maximum(x, (1 + share) * y))
            cover = _filtered_step(0.16 + 0.14 * share - away, footprint / size) * (footprint < 0.6 * size)
            other = lattice_hash(cell[0], cell[1], np.full_like(cell[0], 131 * level + 64))
            tones = [tone + (_byte(other, byte) - tone) * cover for byte, tone in enumerate(tones)]
    return tones[0], tones[1]


def masonry(p: Array, longer: float, footprint: Array) -> tuple[Array, Array]:
    """Each brick's number in [0, 1], and the share of joints, at points ``[2, N]``; every other row is shifted."""
    length = 1 + 4 * longer
    row = np.floor(p[1])
    along = p[0] / length + 0.5 * (row % 2)
    column = np.floor(along)
    to_side, to_bed = (np.minimum(value % 1, 1 - value % 1) for value in (along, p[1]))
    joint = _filtered_step(0.05 - np.minimum(length * to_side, to_bed), footprint)
    number = lattice_hash(column.astype(np.int64), row.astype(np.int64), np.full(p.shape[1], 5))
    return (number & np.uint32(0xFFFFFF)) / 2**24, joint * np.clip(1.4 - 1.2 * footprint, 0, 1)


def pattern_weights(pattern: Pattern, p: Array, warp: float, footprint: Array, face: int = 0) -> tuple[Array, Array]:
    """The two mixing weights of a pattern at points ``[3, N]``, in features, on a surface that lies across ``face``."""
    flat = p[[axis for axis in range(3) if axis != face]]
    if pattern == Pattern.FRACTAL:
        noise = gyroid_noise(p, footprint, 6, 0.36, 0.9)
        return 0.5 + 0.5 * noise, 0.6 * np.clip(0.35 + 0.5 * noise, 0, 1)
    noise = gyroid_noise(p, footprint)
    x, y, z = p + 0.5 * warp * noise
    accent = 0.6 * np.clip(0.35 + 0.5 * noise, 0, 1)
    if pattern == Pattern.PLAIN:
        return 0 * x, 0 * x
    if pattern == Pattern.NOISE:
        return 0.5 + 0.5 * noise, accent
    if pattern == Pattern.CELLS:
        distance, owner = nearest_feature(p, 1.0)
        return np.clip(1.2 * distance, 0, 1), 0.6 * owner
    if pattern == Pattern.CHECKER:
        signs = [2 * _square(0.5 * axis, 0.5 * footprint) - 1 for axis in (x, y, z)]
        return 0.5 + 0.5 * np.prod(signs, axis=0), accent
    if pattern == Pattern.STRIPES:
        return _square(x, footprint), accent
    if pattern == Pattern.DOTS:
        return _filtered_step(0.32 - nearest_feature(p, 0.0)[0], footprint), accent
    if pattern == Pattern.WOOD:
        rings = 2 * np.sqrt(x**2 + y**2 + 1e-6) + 0.4 * noise * warp
        return (rings - np.floor(rings)) ** 2, accent
    if pattern == Pattern.MARBLE:
        return 1 - np.sqrt(np.abs(np.sin(3.1416 * (x + 1.7 * warp * noise)))), accent
    if pattern == Pattern.LEAVES:
        main, second = dead_leaves(flat, footprint)
        return np.clip(main + 0.15 * noise, 0, 1), 0.6 * second
    if pattern == Pattern.BRICKS:
        brick, joint = masonry(flat, warp, footprint)
        return np.clip(0.7 * brick + 0.15 + 0.15 * noise, 0, 1), joint
    if pattern == Pattern.GLOW:
        return np.clip(0.5 - 2 * p[2] + 0.5 * warp * noise, 0, 1), accent
    assert pattern == Pattern.GRADIENT
    return 0.5 + 0.5 * np.sin(1.2 * z + 0.4 * x), accent


def describe(
    solids: Sequence[Solid],
    lamps: Sequence[Lamp] = (Lamp((0.0, 0.0, 3.0)),),
    *,
    room: tuple[float, float, float] = (50.0, 50.0, 50.0),
    open_air: bool = False,
) -> SceneDescription:
    """The solids as a scene of one view, for the renderer: plain grey, solid j is surface ``3 + j``."""
    many, surfaces = max(len(solids), 1), 3 + max(len(solids), 1)
    padding = [Solid(Primitive.NONE)] * (many - len(solids))
    each = [*solids, *padding]

    def rows(values: Sequence[object]) -> torch.Tensor:
        return torch.tensor(np.array(values), dtype=torch.float32)[None]

    return SceneDescription(
        geometry=Geometry(
            kind=torch.tensor([[int(solid.kind) for solid in each]], dtype=torch.int32),
            center=rows([solid.center for solid in each]),
            rotation=rows([solid.rotation for solid in each]),
            size=rows([solid.size for solid in each]),
            shape=rows([[*solid.shape, *[0.0] * (4 - len(solid.shape))] for solid in each]),
            surface=torch.arange(3, 3 + many, dtype=torch.int32)[None],
            room=torch.tensor([room]),
            open=torch.tensor([open_air]),
        ),
        materials=Materials(
            pattern=torch.full((1, surfaces), int(Pattern.PLAIN), dtype=torch.int32),
            colors=torch.full((1, surfaces, 3, 3), 0.5),
            scale=torch.ones(1, surfaces),
            warp=torch.zeros(1, surfaces),
            phase=torch.zeros(1, surfaces, 3),
            image=torch.zeros(1, surfaces, dtype=torch.int32),
            roughness=torch.full((1, surfaces), 0.5),
            specular=torch.zeros(1, surfaces),
            refraction=torch.zeros(1, surfaces),
        ),
        lights=Lights(
            kind=torch.tensor([[int(lamp.kind) for lamp in lamps]], dtype=torch.int32),
            position=rows([lamp.position for lamp in lamps]),
            color=rows([lamp.color for lamp in lamps]),
            radius=torch.tensor([[lamp.radius for lamp in lamps]]),
            zenith=torch.zeros(1, 3),
            horizon=torch.zeros(1, 3),
            exposure=torch.ones(1),
        ),
        cameras=Cameras(cam_from_world=torch.eye(3, 4)[None, None], fov=torch.ones(1, 1)),
        scene_ids=("by hand",),
    )
