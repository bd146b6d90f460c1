"""Rays against solids: every primitive against hand-computed hits and against dense sampling of its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from lorasub.scenes.description import Geometry, Primitive
from lorasub.scenes.rendering.intersection import Solids, hit, interval, room_exit
from lorasub.scenes.rendering.pairs import Pairs, marched_hits, near_pairs, nearest_simple
from lorasub.scenes.rendering.vectors import fresnel, reflect, refract

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


def inside(kind: Primitive, shape: tuple[float, ...], p: np.ndarray) -> np.ndarray:
    """The definitions of the solids, written again from their descriptions, in float64."""
    x, y, z = p
    cube = (np.abs(p) <= 1).all(0)
    if kind == Primitive.SPHERE:
        return x**2 + y**2 + z**2 <= 1
    if kind == Primitive.BOX:
        return cube
    if kind == Primitive.CYLINDER:
        return (x**2 + y**2 <= 1) & (np.abs(z) <= 1)
    if kind == Primitive.CONE:
        return (np.hypot(x, y) <= 1 + (shape[0] - 1) * (z + 1) / 2) & (np.abs(z) <= 1)
    if kind == Primitive.TORUS:
        return np.hypot(np.hypot(x, y) - (1 - shape[0]), shape[0] * z) <= shape[0]
    if kind == Primitive.SUPERQUADRIC:
        e1, e2 = shape
        ring = (np.abs(x) ** (2 / e2) + np.abs(y) ** (2 / e2)) ** (e2 / e1)
        return ring + np.abs(z) ** (2 / e1) <= 1
    depth, frequency, phase = shape
    if kind == Primitive.BLOB:
        length = np.sqrt((p**2).sum(0)) + 1e-12
        turns = np.array([1.0, 2.3, 3.7]).reshape(3, *[1] * (p.ndim - 1))
        bumps = np.sin(frequency * p / length + turns * phase).mean(0)
        return length <= 1 - depth + depth * bumps
    height = 1 - 2 * depth + depth * (np.sin(frequency * x + phase) + np.cos(frequency * y + 2.3 * phase))
    return cube & (z <= height)


def geometry(*solids: dict[str, Any]) -> Geometry:
    """One scene with these solids."""
    many = len(solids)
    result = Geometry(
        kind=torch.zeros(1, many, dtype=torch.int32),
        center=torch.zeros(1, many, 3),
        rotation=torch.eye(3).repeat(1, many, 1, 1),
        size=torch.ones(1, many, 3),
        shape=torch.zeros(1, many, 4),
        surface=torch.arange(3, 3 + many, dtype=torch.int32)[None],
        room=torch.tensor([[5.0, 5.0, 4.0]]),
        open=torch.zeros(1, dtype=torch.bool),
    )
    for place, solid in enumerate(solids):
        for name, value in solid.items():
            values = torch.as_tensor(value)
            getattr(result, name)[0, place][..., : values.shape[-1]] = values if values.ndim else values.item()
    return result


def solid(kind: Primitive, **fields: Any) -> dict[str, Any]:
    base: dict[str, Any] = {"shape": torch.tensor((*SHAPES[kind], 0.0))}
    return {**base, **fields, "kind_": int(kind)}


def prepare(*parts: dict[str, Any]) -> Solids:
    kinds = [part.pop("kind_") for part in parts]
    scene = geometry(*parts)
    scene.kind[0] = torch.tensor(kinds, dtype=torch.int32)
    return Solids.prepare(scene, 1)


def first_hit(solids: Solids, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Distance and normal of the nearest hit of rays ``[3, N]``, whatever the kind of solid; NaN where none."""
    o, d = origin[:, None], direction[:, None]
    pairs = near_pairs(solids, o, d)
    marched = solids.marched.flatten()[pairs.places(solids)]
    far, number = nearest_simple(solids, pairs[~marched], o, d)
    distance, normal, _ = hit(solids, number, o, d)
    distance = torch.where(far < 9e3, distance, torch.inf)[0]
    normal = normal[:, 0].clone()
    hits = marched_hits(solids, pairs[marched], o, d)
    for ray, length, n in zip(hits.ray.tolist(), hits.distance, hits.normal.T, strict=True):
        if length < distance[ray]:
            distance[ray], normal[:, ray] = length, n
    return distance, normal


def all_pairs(solids: Solids, rays: int) -> Pairs:
    """Every ray with every solid, for what only the near ones are needed for."""
    groups, many = solids.surface.shape
    grid = torch.meshgrid(torch.arange(groups), torch.arange(many), torch.arange(rays), indexing="ij")
    group, number, ray = (part.flatten() for part in grid)
    return Pairs(group, ray, number)


def vec(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(3, 1)


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


@pytest.mark.parametrize(("kind", "origin", "direction", "distance", "normal"), BY_HAND)
def test_hits_worked_out_by_hand(kind: Primitive, origin: Any, direction: Any, distance: float, normal: Any) -> None:
    found, facing = first_hit(prepare(solid(kind)), vec(*origin), vec(*direction))
    assert found.item() == pytest.approx(distance, abs=2e-5)
    assert facing[:, 0].tolist() == pytest.approx(normal, abs=2e-4)


def test_terrain_from_above_is_its_formula() -> None:
    depth, frequency, phase = SHAPES[Primitive.TERRAIN]
    x, y = 0.3, -0.4
    height = 1 - 2 * depth + depth * (np.sin(frequency * x + phase) + np.cos(frequency * y + 2.3 * phase))
    found, _ = first_hit(prepare(solid(Primitive.TERRAIN)), vec(x, y, 3.0), vec(0, 0, -1))
    assert found.item() == pytest.approx(3 - height, abs=1e-5)


@pytest.mark.parametrize("kind", list(SHAPES))
def test_first_hit_agrees_with_dense_sampling_of_the_definition(kind: Primitive) -> None:
    rng = np.random.default_rng(int(kind))
    rotation = torch.linalg.qr(torch.tensor(rng.normal(size=(3, 3))))[0].float()
    size, center = torch.tensor([0.8, 0.5, 1.1]), torch.tensor([0.3, -0.2, 0.4])
    solids = prepare(solid(kind, rotation=rotation, size=size, center=center))
    rays = 160
    origin = torch.tensor(rng.normal(size=(3, rays))).float()
    origin = 3.0 * origin / origin.norm(dim=0) + center[:, None]
    aim = torch.tensor(rng.uniform(-0.9, 0.9, size=(3, rays))).float() + center[:, None]
    direction = aim - origin
    found, normal = first_hit(solids, origin, direction)
    t = np.linspace(0, 2.2, 4001)
    p = origin.double().numpy()[..., None] + t * direction.double().numpy()[..., None]
    local = np.einsum("ji,jnt->int", rotation.double().numpy(), p - center.numpy()[:, None, None])
    is_in = inside(kind, SHAPES[kind], local / size.numpy()[:, None, None])
    expected = np.where(is_in.any(-1), t[is_in.argmax(-1)], np.inf)
    found_np = found.double().numpy()
    # rays that only graze may go either way
    chord = is_in.sum(-1)
    sure = (chord == 0) | (chord > 30)
    assert (np.isfinite(found_np) == np.isfinite(expected))[sure & (chord > 0)].all()
    assert np.isinf(found_np[chord == 0]).mean() > 0.97
    both = np.isfinite(found_np) & np.isfinite(expected) & sure
    assert both.sum() > 40
    assert np.abs(found_np[both] - expected[both]).max() < 2 * (t[1] - t[0])
    # normals: unit, toward the ray's start, and along the difference of the definition
    normal = normal.double()[:, torch.tensor(both)]
    assert torch.allclose(normal.norm(dim=0), torch.ones(1, dtype=torch.float64), atol=1e-5)
    assert bool(((normal * direction.double()[:, torch.tensor(both)]).sum(0) < 1e-3).all())
    point = (origin + found * direction).double().numpy()[:, both]
    for sign, expect in ((1, False), (-1, True)):
        moved = point + sign * 4e-3 * normal.numpy()
        local = np.einsum("ji,jn->in", rotation.double().numpy(), moved - center.numpy()[:, None])
        assert (inside(kind, SHAPES[kind], local / size.numpy()[:, None]) == expect).mean() > 0.97


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_interval_ends_on_the_surface(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = [Primitive.SPHERE, Primitive.BOX, Primitive.CYLINDER, Primitive.CONE]
    solids = prepare(*(solid(kind) for kind in kinds))
    origin = torch.tensor(rng.normal(size=(3, 1, 64)) * 3).float()
    direction = torch.tensor(rng.normal(size=(3, 1, 64))).float()
    for number, kind in enumerate(kinds):
        entry, leave = interval(
            solids.quadric[:, 0, number, None],
            solids.to_local[:, :, 0, number, None],
            solids.center[:, 0, number, None],
            origin[:, 0],
            direction[:, 0],
        )
        t0, t1 = entry.double().numpy(), leave.double().numpy()
        through = t1 - t0 > 0.1
        for t, expect in ((0.5 * (t0 + t1), True), (t0 - 0.02, False), (t1 + 0.02, False)):
            p = origin[:, 0].double().numpy() + t * direction[:, 0].double().numpy()
            assert (inside(kind, SHAPES[kind], p[:, through]) == expect).all()


def test_nearest_takes_the_front_one() -> None:
    solids = prepare(
        solid(Primitive.SPHERE, center=torch.tensor([0.0, 0.0, 8.0])),
        solid(Primitive.SPHERE, center=torch.tensor([0.0, 0.0, 4.0])),
        solid(Primitive.SPHERE, center=torch.tensor([0.0, 0.0, -4.0])),
    )
    far, number = nearest_simple(solids, all_pairs(solids, 1), vec(0, 0, 0)[:, None], vec(0, 0, 1)[:, None])
    assert number.item() == 1
    assert far.item() == pytest.approx(3.0, rel=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.booleans())
def test_near_pairs_leave_out_no_meeting(seed: int, one_origin: bool) -> None:
    rng = np.random.default_rng(seed)
    kinds = [Primitive.SPHERE, Primitive.BOX, Primitive.CYLINDER, Primitive.CONE]
    solids = prepare(
        *(
            solid(
                kinds[i % 4],
                center=torch.tensor(rng.normal(size=3) * 3).float(),
                size=torch.tensor(rng.uniform(0.05, 1.5, size=3)).float(),
                rotation=torch.tensor(Rotation.random(random_state=seed + i).as_matrix()).float(),
            )
            for i in range(12)
        )
    )
    origin = torch.tensor(rng.normal(size=(3, 1, 1 if one_origin else 200)) * 4).float()
    direction = torch.tensor(rng.normal(size=(3, 1, 200))).float()
    near = near_pairs(solids, origin, direction)
    every = all_pairs(solids, 200)
    assert len(near) < len(every)
    found, expected = (nearest_simple(solids, pairs, origin, direction) for pairs in (near, every))
    assert torch.equal(found[0], expected[0])
    met = expected[0] < 9e3
    assert torch.equal(found[1][met], expected[1][met])


def test_rays_that_end_or_do_not_matter_are_in_no_pair() -> None:
    solids = prepare(solid(Primitive.SPHERE, center=torch.tensor([0.0, 0.0, 4.0])))
    origin, direction = vec(0, 0, 0)[:, None], torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, 6]]).T[:, None]
    among = torch.tensor([[True, False, True]])
    assert near_pairs(solids, origin, direction, limit=1.0).ray.tolist() == [2]
    assert near_pairs(solids, origin, direction, among=among).ray.tolist() == [0, 2]


def test_room_is_met_from_inside() -> None:
    room, closed = torch.tensor([[3.0], [4.0], [2.5]]), torch.zeros(1, dtype=torch.bool)
    origin = vec(1, 1, 1)[:, None]
    rays = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 2, 0], [0, 0, 1], [0, 0, -1]]).T[:, None]
    distance, side = room_exit(room, closed, origin, rays)
    assert distance[0].tolist() == pytest.approx([2, 4, 1.5, 1.5, 1])
    assert side[0].tolist() == [0, 0, 1, 2, 2]
    distance, _ = room_exit(room, ~closed, origin, rays)
    assert distance[0, 4].item() == pytest.approx(1)
    assert bool((distance[0, :4] > 1000).all())


def test_refraction_by_hand() -> None:
    # 45 degrees into glass: sin = sin(45) / 1.5
    normal, ratio = vec(0, 0, 1), torch.tensor([1 / 1.5])
    toward = vec(np.sqrt(0.5), 0, -np.sqrt(0.5))
    bent, passes = refract(toward, normal, ratio)
    assert bool(passes)
    assert bent[0].item() == pytest.approx(np.sqrt(0.5) / 1.5, abs=1e-6)
    assert bent.norm().item() == pytest.approx(1, abs=1e-6)
    assert reflect(toward, normal)[:, 0].tolist() == pytest.approx([np.sqrt(0.5), 0, np.sqrt(0.5)])
    # beyond the critical angle (41.8 degrees) from inside: all is reflected
    _, passes = refract(toward, normal, torch.tensor([1.5]))
    assert not bool(passes)
    assert fresnel(torch.tensor([0.7]), torch.tensor([1.5]), passes).item() == 1.0
    # at normal incidence ((n - 1) / (n + 1))^2
    straight = fresnel(torch.tensor([1.0]), ratio, torch.tensor([True]))
    assert straight.item() == pytest.approx(0.04, abs=1e-6)
