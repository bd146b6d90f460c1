"""Light and patterns against an independent reference in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_oracle import Lamp, Solid, describe, lambert_and_blinn_phong, pattern_weights, visible
from test_scenes_intersection import MIDDLE, random_solid
from warp_probes import lit, weights

from lorasub.scenes.description import LightKind, Pattern, Primitive


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=0)


def random_lamp(rng: np.random.Generator, kind: LightKind, radius: float = 0.0) -> Lamp:
    position = rng.normal(size=3) + np.array([0.0, 0.0, 4.0])
    position = position + MIDDLE[:, 0] if kind == LightKind.POINT else position / np.linalg.norm(position)
    single = position.astype(np.float32).astype(np.float64)
    return Lamp(tuple(single), (1.0, 0.5, 0.25), float(np.float32(radius)), kind)


@pytest.mark.parametrize("kind", [LightKind.POINT, LightKind.DIRECTIONAL])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_unshadowed_light_is_lambert_and_blinn_phong(kind: LightKind, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lamp = random_lamp(rng, kind)
    point, facing, direction = (rng.normal(size=(3, 100)) for _ in range(3))
    point, facing = point + MIDDLE, unit(facing)
    roughness, specular = rng.uniform(0.15, 0.95), rng.uniform(0, 1)
    diffuse, highlight = lit(describe([], [lamp]), point, facing, direction, roughness=roughness, specular=specular)
    expected = lambert_and_blinn_phong(lamp, point, facing, -direction, roughness, specular)
    color = np.array(lamp.color)[:, None]
    assert np.allclose(diffuse, color * expected[0], rtol=1e-4, atol=1e-6)
    assert np.allclose(highlight, color * expected[1], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("kind", [LightKind.POINT, LightKind.DIRECTIONAL])
@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 2**32 - 1))
def test_hard_shadows_are_where_a_body_stands_between(kind: LightKind, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lamp = random_lamp(rng, kind)
    kinds = [Primitive(int(number)) for number in rng.integers(1, 9, 4)]
    solids = [random_solid(rng, one) for one in kinds]
    point = np.concatenate([rng.uniform(-3, 3, (2, 150)), np.full((1, 150), -1.6)]) + MIDDLE
    up = np.tile([[0.0], [0.0], [1.0]], 150)
    diffuse, _ = lit(describe(solids, [lamp]), point, up, -up)
    place = np.asarray(lamp.position)[:, None]
    start = point + 2e-3 * up
    target = place + 0 * start if kind == LightKind.POINT else start + 20 * place
    seen, sure = visible(solids, start, target)
    full = lambert_and_blinn_phong(lamp, point, up, up, 0.5, 0.0)[0]
    expected = np.where(seen, full, 0.0)
    assert sure.mean() > 0.5
    assert np.allclose(diffuse[0][sure], expected[sure], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", [LightKind.POINT, LightKind.DIRECTIONAL])
def test_soft_shadows_are_the_part_of_the_disc_that_is_seen(kind: LightKind) -> None:
    rng = np.random.default_rng(3)
    above = (0.0, 0.0, 3.0) if kind == LightKind.POINT else (0.0, 0.0, 1.0)
    lamp = Lamp(above, (1.0, 1.0, 1.0), 0.25, kind)
    solid = Solid(Primitive.BOX, center=(-1.0, 0.0, 1.4), size=(1.0, 2.0, 0.1))
    x = np.linspace(-0.9, 0.9, 61)
    point = np.stack([x, 0.1 * x, 0 * x])
    up = np.tile([[0.0], [0.0], [1.0]], 61)
    diffuse, _ = lit(describe([solid], [lamp]), point, up, -up, samples=64)
    full = lambert_and_blinn_phong(lamp, point, up, up, 0.5, 0.0)[0]
    share = np.zeros(61)
    draws = 150
    for _ in range(draws):  # a disc that faces the point; of a directional light at distance 1
        angle, reach = rng.uniform(0, 2 * np.pi), 0.25 * np.sqrt(rng.uniform())
        toward = np.asarray(above)[:, None] - (point if kind == LightKind.POINT else 0 * point)
        axis = unit(toward)
        side = unit(np.cross(axis.T, [0.3, 0.8, -0.1]).T)
        other = np.cross(axis.T, side.T).T
        place = toward + reach * (np.cos(angle) * side + np.sin(angle) * other)
        start = point + 2e-3 * up
        target = start + place if kind == LightKind.POINT else start + 20 * place
        share += visible([solid], start, target)[0] / draws
    found = diffuse[0] / full
    assert ((share > 0.02) & (share < 0.98)).sum() > 8  # there is a penumbra
    assert np.abs(found - share).max() < 0.13


@pytest.mark.parametrize("pattern", [pattern for pattern in Pattern if pattern != Pattern.IMAGE])
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_patterns_follow_their_formulas(pattern: Pattern, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-12, 12, (3, 300)).astype(np.float32).astype(np.float64)
    warp = float(np.float32(rng.uniform(0, 1.5)))
    footprint = np.exp(rng.uniform(np.log(0.005), np.log(1.5), 300)).astype(np.float32).astype(np.float64)
    face = int(rng.integers(3))
    found = weights(pattern, points, warp, footprint, face)
    expected = np.stack(pattern_weights(pattern, points, warp, footprint, face))
    assert ((found >= 0) & (found <= 1)).all()
    # an edge, or two cells equally near, may go either way in the last bits
    assert (np.abs(found - expected) < 4e-3).mean() > 0.98


def test_patterns_fade_where_they_are_finer_than_a_pixel() -> None:
    points = np.random.default_rng(0).uniform(-12, 12, (3, 2000))
    for pattern in (Pattern.CHECKER, Pattern.STRIPES):
        coarse, fine = (weights(pattern, points, 0.0, np.full(2000, width))[0] for width in (0.01, 2.0))
        assert coarse.std() > 0.4
        assert fine.std() < 0.05
        assert fine.mean() == pytest.approx(coarse.mean(), abs=0.05)
