"""Rays against bodies and the room: hits worked out by hand, and an independent reference for every primitive."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_oracle import Solid, chords, describe, first_hit, level, normal
from scipy.spatial.transform import Rotation
from warp_probes import cast, reflected, through

from lorasub.errors import ConfigError
from lorasub.scenes.description import CEILING, FLOOR, WALLS, Primitive
from lorasub.scenes.rendering.upload import MAX_BODIES, bounding_radius, padded, upload

SHAPES: dict[Primitive, tuple[float, ...]] = {
    Primitive.SPHERE: (),
    Primitive.BOX: (),
    Primitive.CYLINDER: (),
    Primitive.CONE: (0.25,),
    Primitive.TORUS: (0.3,),
    Primitive.SUPERQUADRIC: (0.5, 1.2),
    Primitive.BLOB: (0.15, 5.0, 0.7),
    Primitive.TERRAIN: (0.2, 4.0, 0.4),
}
#: Where the bodies stand, far from the floor, which is z = 0.
MIDDLE = np.array([[0.0], [0.0], [25.0]])
FLAT = (Primitive.SPHERE, Primitive.BOX, Primitive.CYLINDER, Primitive.CONE)
# (kind, ray origin, direction, distance, normal), all worked out by hand on unit solids
BY_HAND = [
    (Primitive.SPHERE, (0, -3, 0), (0, 1, 0), 2.0, (0, -1, 0)),
    (Primitive.SPHERE, (0.6, -3, 0), (0, 1, 0), 3 - 0.8, (0.6, -0.8, 0)),
    (Primitive.BOX, (0.3, 0.2, 5), (0, 0, -2), 2.0, (0, 0, 1)),
    (Primitive.CYLINDER, (0.5, 0.5, 3), (0, 0, -1), 2.0, (0, 0, 1)),
    (Primitive.CYLINDER, (-4, 0, 0.5), (1, 0, 0), 3.0, (-1, 0, 0)),
    # radius of this cone at z = -0.2 is 1 - 0.75 * 0.4 = 0.7; its side rises 2 over 0.75
    (Primitive.CONE, (3, 0, -0.2), (-1, 0, 0), 2.3, tuple(np.array([2, 0, 0.75]) / np.hypot(2, 0.75))),
    (Primitive.CONE, (0.1, 0.1, 3), (0, 0, -1), 2.0, (0, 0, 1)),
    (Primitive.TORUS, (3, 0, 0), (-1, 0, 0), 2.0, (1, 0, 0)),
    (Primitive.TORUS, (0.7, 0, 3), (0, 0, -1), 2.0, (0, 0, 1)),
    (Primitive.SUPERQUADRIC, (0, 0, 3), (0, 0, -1), 2.0, (0, 0, 1)),
    (Primitive.TERRAIN, (-3, 0.5, -0.9), (1, 0, 0), 2.0, (-1, 0, 0)),
]


def vec(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64).reshape(3, 1)


def random_solid(rng: np.random.Generator, kind: Primitive) -> Solid:
    shape = {
        Primitive.CONE: (rng.uniform(0, 0.9),),
        Primitive.TORUS: (rng.uniform(0.15, 0.5),),
        Primitive.SUPERQUADRIC: tuple(rng.uniform(0.4, 2.0, 2)),
        Primitive.BLOB: (rng.uniform(0, 0.25), rng.uniform(2, 9), rng.uniform(0, 6)),
        Primitive.TERRAIN: (rng.uniform(0, 0.3), rng.uniform(2, 6), rng.uniform(0, 6)),
    }.get(kind, ())
    # what the renderer computes with, so that the reference sees the same body
    single = tuple(float(np.float32(value)) for value in shape)
    turn = Rotation.from_rotvec(rng.normal(size=3)).as_matrix().astype(np.float32).astype(np.float64)
    size = rng.uniform(0.3, 1.2, 3).astype(np.float32).astype(np.float64)
    center = (rng.uniform(-1, 1, 3) + MIDDLE[:, 0]).astype(np.float32).astype(np.float64)
    return Solid(kind, single, center, turn, size)


def random_rays(rng: np.random.Generator, many: int) -> tuple[np.ndarray, np.ndarray]:
    """From around the bodies toward them, of any length, in the numbers that the renderer has."""
    origin = rng.normal(size=(3, many))
    origin *= rng.uniform(3, 6, many) / np.linalg.norm(origin, axis=0)
    direction = (rng.uniform(-1.2, 1.2, (3, many)) - origin) * rng.uniform(0.2, 2, many)
    origin = origin + MIDDLE
    return origin.astype(np.float32).astype(np.float64), direction.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize(("kind", "origin", "direction", "distance", "facing"), BY_HAND)
def test_hits_worked_out_by_hand(kind: Primitive, origin: Any, direction: Any, distance: float, facing: Any) -> None:
    scene = describe([Solid(kind, SHAPES[kind], MIDDLE[:, 0])])
    found = cast(scene, vec(*origin) + MIDDLE, vec(*direction))
    assert found.depth[0] == pytest.approx(distance, abs=4e-5)
    assert found.normal[:, 0].tolist() == pytest.approx(facing, abs=2e-4)
    assert (found.body[0], found.surface[0]) == (0, 3)


@pytest.mark.parametrize("kind", list(SHAPES))
@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 2**32 - 1))
def test_first_hits_agree_with_the_definition(kind: Primitive, seed: int) -> None:
    rng = np.random.default_rng(seed)
    solid = random_solid(rng, kind)
    origin, direction = random_rays(rng, 200)
    found, expected = cast(describe([solid]), origin, direction), chords(solid, origin, direction)
    hit = np.isfinite(expected.enter)
    assert expected.sure.mean() > 0.8
    # a depth error across the surface is seen along the ray divided by the cosine
    point = origin + np.where(hit, expected.enter, 0.0) * direction
    facing = normal(solid, np.where(hit, point, 0.0))
    length = np.linalg.norm(direction, axis=0)
    cosine = np.abs((facing * direction).sum(0)) / length
    # marching ends after so many steps, which a ray that comes in along the surface may need all of
    sure = expected.sure & ~(hit & (cosine < 0.1) & (kind not in FLAT))
    wrong = (found.body == 0) != hit
    assert not (wrong & sure).any()
    both = hit & sure
    assert (np.abs(found.depth - expected.enter) * length * cosine)[both].max(initial=0.0) < 3e-4
    # away from edges, where the reference's difference quotient is no normal, both agree
    steady = both & (cosine > 0.05)
    agree = (found.normal * facing).sum(0)[steady] > 0.999
    assert agree.mean() > 0.97 if steady.any() else True
    assert np.allclose(np.linalg.norm(found.normal[:, both], axis=0), 1, atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_front_body_of_many_is_hit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = list(SHAPES)
    solids = [random_solid(rng, kinds[place % len(kinds)]) for place in range(8)]
    origin, direction = random_rays(rng, 100)
    distance, number, sure = first_hit(solids, origin, direction)
    found = cast(describe(solids), origin, direction)
    assert (found.body == number)[sure].all()
    assert sure.mean() > 0.4
    near = sure & (number >= 0)
    assert np.quantile(np.abs(found.depth - distance)[near], 0.95) < 1e-3 if near.any() else True


def test_bodies_behind_the_ray_are_not_hit() -> None:
    found = cast(describe([Solid(Primitive.SPHERE, center=(0, 0, -4))]), vec(0, 0, 1), vec(0, 0, 1))
    assert found.body[0] == -1
    assert found.surface[0] == CEILING


@pytest.mark.parametrize("kind", list(SHAPES))
def test_the_ball_around_a_body_holds_all_of_it(kind: Primitive) -> None:
    rng = np.random.default_rng(int(kind))
    solid = random_solid(rng, kind)
    geometry = describe([solid]).geometry
    radius = padded(bounding_radius(geometry.kind, geometry.size))[0, 0].item()
    local = rng.uniform(-1, 1, (3, 200_000))
    inside = local[:, level(kind, solid.shape, local) < 0]
    reach = np.linalg.norm(inside * np.asarray(solid.size)[:, None], axis=0).max()
    assert reach < radius < 2.2 * reach


def test_too_many_bodies_are_told() -> None:
    solids = [Solid(Primitive.SPHERE)] * (MAX_BODIES + 1)
    with pytest.raises(ConfigError, match=f"has {MAX_BODIES + 1} primitives; the renderer takes at most {MAX_BODIES}"):
        upload(describe(solids), (8, 8), None)


def test_room_is_hit_from_inside() -> None:
    rays = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 2, 0], [0, 0, 1], [0, 0, -1]]).T
    origin = np.ones((3, 5))
    room = (3.0, 4.0, 2.5)
    found = cast(describe([], room=room), origin, rays)
    assert found.depth.tolist() == pytest.approx([2, 4, 1.5, 1.5, 1])
    assert found.surface.tolist() == [WALLS, WALLS, WALLS, CEILING, FLOOR]
    assert found.normal.T.tolist() == [[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 1]]
    found = cast(describe([], room=room, open_air=True), origin, rays)
    assert found.depth[4] == pytest.approx(1)
    assert (found.depth[:4] > 1000).all()


def test_fresnel_by_hand() -> None:
    # at normal incidence ((n - 1) / (n + 1))^2
    assert reflected(np.array([1.0]), 1 / 1.5)[0] == pytest.approx(0.04, abs=1e-6)
    # beyond the critical angle (41.8 degrees) from inside: all is reflected
    assert reflected(np.array([0.7]), 1.5)[0] == 1.0
    # Brewster's angle: light polarised in the plane of incidence is not reflected, the other by sin^2(a - b)
    angle = np.arctan(1.5)
    inner = np.arcsin(np.sin(angle) / 1.5)
    assert reflected(np.array([np.cos(angle)]), 1 / 1.5)[0] == pytest.approx(0.5 * np.sin(angle - inner) ** 2, abs=1e-6)


@pytest.mark.parametrize("kind", FLAT)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_rays_leave_clear_bodies_by_snells_law(kind: Primitive, seed: int) -> None:
    rng = np.random.default_rng(seed)
    solid = random_solid(rng, kind)
    origin, direction = random_rays(rng, 200)
    chord = chords(solid, origin, direction)
    keep = np.isfinite(chord.enter) & chord.sure & (chord.leave - chord.enter > 0.05)
    origin, direction, enter, leave = (v[..., keep] for v in (origin, direction, chord.enter, chord.leave))
    inside = direction / np.linalg.norm(direction, axis=0)
    start = origin + (enter + 1e-3) * direction
    leaves, toward = through(describe([solid]), start, inside, 1.5)
    exit_point = origin + leave * direction
    facing = normal(solid, exit_point)
    cosine = (inside * facing).sum(0)
    square = 1 - 1.5**2 * (1 - cosine**2)
    passes = square > 0.02  # else it is reflected inside first
    expected = 1.5 * inside - (1.5 * cosine - np.sqrt(np.maximum(square, 0))) * facing
    clean = passes & (np.linalg.norm(leaves - exit_point, axis=0) < 0.02)
    assert clean.sum() > 0.9 * passes.sum()
    assert np.quantile(np.abs(toward - expected).max(0)[clean], 0.95) < 2e-2 if clean.any() else True
