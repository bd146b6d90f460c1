"""Rendered layers: exact in geometry, right in light, the same however they are made."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.scenes.cameras import look_at
from lorasub.scenes.color import tone_curve_
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
from lorasub.scenes.images import ImageAtlas
from lorasub.scenes.presets import SceneSampler
from lorasub.scenes.rendering.renderer import Layers, Renderer


def scene(
    kinds: list[tuple[Primitive, tuple[float, float, float], float]],
    *,
    eye: tuple[float, float, float],
    target: tuple[float, float, float] = (0.0, 0.0, 0.0),
    light: tuple[float, float, float] = (0.0, 0.0, 3.0),
    kind: LightKind = LightKind.POINT,
    radius: float = 0.0,
    ambient: float = 0.0,
    colors: dict[int, float] | None = None,
    refraction: dict[int, float] | None = None,
    open_air: bool = True,
    fov: float = 1.0,
) -> SceneDescription:
    """One view of plain grey solids, each given by kind, centre and half extent, under one white light."""
    many, surfaces = len(kinds), 3 + max(len(kinds), 1)
    position = torch.tensor(eye, dtype=torch.float64).numpy()
    aim = torch.tensor(target, dtype=torch.float64).numpy()
    zero = torch.zeros((), dtype=torch.float64).numpy()
    grey = torch.full((1, surfaces, 3, 3), 0.5)
    for index, value in (colors or {}).items():
        grey[:, index] = value
    index_of_refraction = torch.zeros(1, surfaces)
    for index, value in (refraction or {}).items():
        index_of_refraction[:, index] = value
    return SceneDescription(
        geometry=Geometry(
            kind=torch.tensor([[int(k) for k, _, _ in kinds] or [0]], dtype=torch.int32),
            center=torch.tensor([[c for _, c, _ in kinds] or [(0.0, 0.0, 0.0)]]),
            rotation=torch.eye(3).repeat(1, max(many, 1), 1, 1),
            size=torch.tensor([[s for _, _, s in kinds] or [1.0]])[..., None].repeat(1, 1, 3),
            shape=torch.tensor([0.4, 1.0, 1.0, 0.0]).repeat(1, max(many, 1), 1),
            surface=torch.arange(3, 3 + max(many, 1), dtype=torch.int32)[None],
            room=torch.tensor([[6.0, 6.0, 4.0]]),
            open=torch.tensor([open_air]),
        ),
        materials=Materials(
            pattern=torch.full((1, surfaces), int(Pattern.PLAIN), dtype=torch.int32),
            colors=grey,
            scale=torch.ones(1, surfaces),
            warp=torch.zeros(1, surfaces),
            phase=torch.zeros(1, surfaces, 3),
            image=torch.zeros(1, surfaces, dtype=torch.int32),
            roughness=torch.full((1, surfaces), 0.5),
            specular=torch.zeros(1, surfaces),
            refraction=index_of_refraction,
        ),
        lights=Lights(
            kind=torch.tensor([[int(kind)]], dtype=torch.int32),
            position=torch.tensor([[light]]),
            color=torch.full((1, 1, 3), math.pi),
            radius=torch.full((1, 1), radius),
            zenith=torch.full((1, 3), ambient),
            horizon=torch.full((1, 3), ambient),
            exposure=torch.ones(1),
        ),
        cameras=Cameras(
            cam_from_world=torch.as_tensor(look_at(position, aim, zero, zero)).float()[None, None],
            fov=torch.full((1, 1), fov),
        ),
        scene_ids=("by hand",),
    )


def project(layers: Layers, points: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels and depth ``[S, ...]`` of world points ``[N, 3]`` in every view of the first scene, in float64."""
    pose, matrix = layers.cam_from_world[0].double(), layers.intrinsics[0].double()
    camera = torch.einsum("sij,nj->sni", pose[..., :3], points.double()) + pose[:, None, :, 3]
    pixel = torch.einsum("sij,snj->sni", matrix, camera / camera[..., 2:])
    return pixel[..., :2], camera[..., 2]


@pytest.fixture(scope="module")
def layers() -> Layers:
    sampler = SceneSampler(attribute="all", seed=5, num_views=3)
    return Renderer((56, 70)).render(sampler.sample(range(3)))


def test_points_lie_where_the_pixel_and_the_depth_say(layers: Layers) -> None:
    height, width = layers.depth.shape[-2:]
    grid = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for view in range(layers.depth.shape[1]):
        valid = layers.valid[0, view]
        pixel, depth = project(layers, layers.world_points[0, view][valid])
        # pixel centres stand at half integers
        assert torch.allclose(pixel[view, :, 0], grid[1][valid].double() + 0.5, atol=2e-3)
        assert torch.allclose(pixel[view, :, 1], grid[0][valid].double() + 0.5, atol=2e-3)
        assert torch.allclose(depth[view], layers.depth[0, view][valid].double(), rtol=1e-5, atol=1e-5)


def test_views_agree_on_what_both_see(layers: Layers) -> None:
    """A point of one view, projected into another, is either hidden there or lies exactly on the same surface."""
    height, width = layers.depth.shape[-2:]
    agreeing = 0
    for scene_index in range(3):
        one = dataclasses.replace(
            layers, **{f.name: getattr(layers, f.name)[scene_index, None] for f in dataclasses.fields(layers)}
        )
        for a, b in ((0, 1), (1, 2), (2, 0)):
            keep = one.valid[0, a]
            pixel, depth = project(one, one.world_points[0, a][keep])
            x, y = pixel[b].floor().long().unbind(-1)
            seen = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (depth[b] > 0.1)
            x, y = x[seen], y[seen]
            same = one.object_id[0, b, y, x] == one.object_id[0, a][keep][seen]
            # the tangent plane at the other view's pixel, where it is seen face on and flat enough for a plane
            other, normal = one.world_points[0, b, y, x].double(), one.normals[0, b, y, x].double()
            mine = one.world_points[0, a][keep][seen].double()
            alike = (normal * one.normals[0, a][keep][seen].double()).sum(-1) > 0.999
            near = (mine - other).norm(dim=-1) < 0.15
            off = ((mine - other) * normal).sum(-1).abs()
            check = same & alike & near
            flat = check & (one.object_id[0, b, y, x] < 3)  # floor, walls and ceiling are planes: exact
            assert bool((off[flat] < 2e-4).all())
            assert bool((off[check] < 0.02).all())
            agreeing += int(flat.sum())
    assert agreeing > 2000


def test_a_ball_in_front_of_the_camera_by_hand() -> None:
    seen = Renderer((65, 65)).render(
        scene([(Primitive.SPHERE, (0.0, 0.0, 2.0), 0.5)], eye=(0.0, -3.0, 2.0), target=(0.0, 0.0, 2.0))
    )
    assert seen.depth[0, 0, 32, 32].item() == pytest.approx(2.5, abs=1e-5)
    assert seen.normals[0, 0, 32, 32].tolist() == pytest.approx([0, -1, 0], abs=1e-4)
    assert seen.world_points[0, 0, 32, 32].tolist() == pytest.approx([0, -0.5, 2], abs=1e-5)
    assert seen.object_id[0, 0, 32, 32] == 3
    focal = 0.5 * 65 / math.tan(0.5)
    assert seen.intrinsics[0, 0, 0, 0].item() == pytest.approx(focal, rel=1e-6)
    # its silhouette: half angle asin(0.5 / 3)
    radius = focal * math.tan(math.asin(0.5 / 3))
    area = (seen.object_id[0, 0] == 3).sum().item()
    assert area == pytest.approx(math.pi * radius**2, rel=0.03)


def test_light_and_shadow_by_hand() -> None:
    # A lamp 3 above the floor, a ball of radius 0.25 halfway: on the floor below the middle it is dark. The edge of the
    # shadow is where the line from the lamp touches the ball: tan(asin(0.25 / 1.5)) * 3 from the middle.
    described = scene([(Primitive.SPHERE, (0.0, 0.0, 1.5), 0.25)], eye=(2.0, 0.0, 1.2))
    seen = Renderer((101, 101), antialias=False).render(described)
    points, floor = seen.world_points[0, 0], seen.object_id[0, 0] == 0
    distance = points[..., :2].norm(dim=-1)
    edge = 3 * math.tan(math.asin(0.25 / 1.5))
    shading = seen.shading[0, 0, 0]
    assert int((floor & (distance < edge - 0.02)).sum()) > 100
    assert bool((shading[floor & (distance < edge - 0.02)] == 0).all())
    lit = floor & (distance > edge + 0.02) & (distance < 4)
    # irradiance pi at distance 1, falling with the square, times the cosine, over pi for a Lambertian surface
    square = distance[lit].square() + 9
    expected = (3 / square.sqrt()) / square
    assert torch.allclose(shading[lit], expected, rtol=3e-3)
    colour = tone_curve_(0.5 * expected)
    assert torch.allclose(seen.rgb[0, 0, 0][lit], colour, atol=3e-3)


def test_directional_light_and_sky_light_add_up() -> None:
    up = scene([], eye=(0.0, -3.0, 2.0), light=(0.6, 0.0, 0.8), kind=LightKind.DIRECTIONAL, ambient=0.3)
    seen = Renderer((28, 28), antialias=False).render(up)
    floor = seen.object_id[0, 0] == 0
    assert torch.allclose(seen.shading[0, 0, 0][floor], torch.tensor(0.8 + 0.3), rtol=1e-4)


def test_soft_shadows_have_a_penumbra_of_the_right_width() -> None:
    # a half space of shadow: a wide block 1 below a disc of radius 0.3, floor 1 below the block's top edge
    described = scene(
        [(Primitive.BOX, (-1.0, 0.0, 0.5), 1.0)], eye=(3.0, -0.01, 2.2), target=(0.8, 0, 0), light=(0.0, 0.0, 3.0)
    )
    hard = Renderer((80, 80), antialias=False).render(described)
    soft_lights = described.lights.__class__(
        **{
            f.name: getattr(described.lights, f.name) if f.name != "radius" else torch.full((1, 1), 0.3)
            for f in dataclasses.fields(described.lights)
        }
    )
    soft = Renderer((80, 80), antialias=False, shadow_samples=16).render(described.replace(lights=soft_lights))
    floor = soft.object_id[0, 0] == 0
    ratio = soft.shading[0, 0, 0] / hard.shading[0, 0, 0].clamp(min=1e-6)
    between = floor & (soft.shading[0, 0, 0] > 0) & (ratio < 0.95)
    x = soft.world_points[0, 0, ..., 0]
    y = soft.world_points[0, 0, ..., 1].abs()
    assert bool((x[between & (y < 0.5)] < 0.3 * 1.5 / 1.5 + 0.1).all())
    assert int(between.sum()) > 5


def test_glass_ball_shows_the_world_upside_down_and_keeps_its_own_depth() -> None:
    # behind a clear ball with index 1.5 a bright ball to the left appears on the right
    kinds = [(Primitive.SPHERE, (0.0, 0.0, 2.0), 0.5), (Primitive.SPHERE, (-1.2, 3.0, 2.0), 1.0)]
    options: dict[str, Any] = {"eye": (0.0, -3.0, 2.0), "target": (0.0, 0.0, 2.0), "ambient": 0.3}
    seen = Renderer((65, 65), antialias=False).render(
        scene(kinds, refraction={3: 1.5}, colors={3: 1.0, 4: 0.9, 0: 0.02}, **options)
    )
    opaque = Renderer((65, 65), antialias=False).render(scene(kinds, **options))
    assert torch.equal(seen.depth, opaque.depth)
    assert torch.equal(seen.object_id, opaque.object_id)
    ball = seen.object_id[0, 0] == 3
    image, columns = seen.rgb[0, 0].mean(0), torch.arange(65).expand(65, 65)
    assert image[ball & (columns > 36)].mean() > image[ball & (columns < 28)].mean()


def test_clear_slab_lets_straight_light_through() -> None:
    # seen straight on, a slab of glass loses only ((n - 1) / (n + 1))^2 at its front and shifts nothing
    kinds = [(Primitive.BOX, (0.0, 0.0, 2.0), 0.4), (Primitive.BOX, (0.0, 2.0, 2.0), 0.4)]
    options: dict[str, Any] = {"eye": (0.0, -3.0, 2.0), "target": (0.0, 0.0, 2.0), "ambient": 0.5}
    renderer = Renderer((65, 65), antialias=False)
    clear = renderer.render(scene(kinds, refraction={3: 1.5}, colors={3: 1.0}, **options))
    behind = renderer.render(scene([kinds[1]], **options))
    front = 1 - torch.exp(-torch.tensor(0.0))
    linear = -torch.log(1 - _linear(behind.rgb[0, 0, 0, 32, 32]))
    sky = 2.0 * 0.5
    expected = 0.96 * linear + 0.04 * sky + front
    assert -torch.log(1 - _linear(clear.rgb[0, 0, 0, 32, 32])) == pytest.approx(expected.item(), rel=0.02)


def test_a_card_shows_its_picture() -> None:
    # a card that fills the frame: every pixel of the view is a pixel of the picture
    side = 32
    flat_card = scene(
        [(Primitive.BOX, (0.0, 0.0, 2.0), 0.5)], eye=(0.0, -3.0, 2.0), target=(0.0, 0.0, 2.0), ambient=1.0
    )
    materials = flat_card.materials
    pattern, phase = materials.pattern.clone(), materials.phase.clone()
    pattern[:, 3], phase[:, 3] = int(Pattern.IMAGE), torch.tensor([0.5, 0.0, -0.5])
    flat_card = flat_card.replace(
        materials=dataclasses.replace(materials, pattern=pattern, phase=phase, scale=torch.ones(1, 4)),
        cameras=dataclasses.replace(flat_card.cameras, fov=torch.full((1, 1), 2 * math.atan(0.5 / 2.5))),
    )
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(image, scale_factor=4)
    with pytest.raises(ConfigError, match="shows picture 0, but the renderer has 0"):
        Renderer((side, side)).render(flat_card)
    seen = Renderer((side, side), antialias=False, images=ImageAtlas.of(image)).render(flat_card)
    expected = _linear(image[0, :, 2::4, 2::4].clamp(min=0.05))
    assert torch.allclose(seen.albedo[0, 0].clamp(min=_linear(torch.tensor(0.05))), expected, atol=2e-3)


def test_an_edge_behind_a_thick_pane_is_seen_where_snell_says() -> None:
    # Eye at y = -3, pane of index 1.5 from y = -0.5 to 0.5, behind it at y = 2 a bright and a dark wall that meet at
    # x = 2. Light that leaves the eye at angle a from the axis arrives at 4 tan(a) + tan(b), sin(b) = sin(a) / 1.5.
    kinds = [(Primitive.BOX, (0.0, 0.0, 2.0), 1.0), (Primitive.BOX, (-1.0, 5.0, 2.0), 3.0)]
    kinds.append((Primitive.BOX, (5.0, 5.0, 2.0), 3.0))
    options: dict[str, Any] = {"eye": (0.0, -3.0, 2.0), "target": (0.0, 0.0, 2.0), "ambient": 0.5}
    described = scene(kinds, refraction={3: 1.5}, colors={3: 1.0, 4: 0.9, 5: 0.02}, **options)
    described.geometry.size[0, 0] = torch.tensor([2.9, 0.5, 1.0])
    low, high = 0.0, 0.6
    for _ in range(50):
        angle = 0.5 * (low + high)
        reached = 4 * math.tan(angle) + math.tan(math.asin(math.sin(angle) / 1.5))
        low, high = (angle, high) if reached < 2 else (low, angle)
    focal = 0.5 * 201 / math.tan(0.5)
    expected, straight = 100.5 + focal * math.tan(low), 100.5 + focal * 2 / 5
    assert expected - straight > 4  # pixels: the pane matters
    row = Renderer((201, 201), antialias=False).render(described).rgb[0, 0, 0, 100, 110:]
    dark = (row < 0.5 * (row[0] + row[-1])).nonzero()[0].item()
    assert 110 + dark == pytest.approx(expected, abs=1.0)


def _linear(srgb: Tensor) -> Tensor:
    return ((srgb + 0.055) / 1.055) ** 2.4


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000), st.sampled_from(["geometry", "texture", "camera", "lighting", "all", "transparent"]))
def test_random_scenes_are_sane(seed: int, attribute: Any) -> None:
    described = SceneSampler(attribute=attribute, seed=seed, num_views=2).sample([seed])
    seen = Renderer((28, 28)).render(described)
    for field in dataclasses.fields(seen):
        values = getattr(seen, field.name)
        assert bool(torch.isfinite(values.double()).all()), field.name
    valid = seen.valid
    assert valid.float().mean() > 0.3  # no view looks into the void
    assert bool(((seen.depth > 0) == valid).all())
    assert seen.depth[valid].min() > 0.1  # nothing in the camera's face
    assert torch.allclose(seen.normals[valid].norm(dim=-1), torch.ones(()), atol=1e-4)
    centre = -torch.einsum("bsji,bsj->bsi", seen.cam_from_world[..., :3], seen.cam_from_world[..., 3])
    toward = centre[:, :, None, None] - seen.world_points
    # marched solids are met to a tolerance, so that at their outline a normal may point away
    assert ((seen.normals * toward).sum(-1)[valid] > -1e-3).float().mean() > 0.99
    assert bool((seen.object_id[valid] >= 0).all())
    assert bool((seen.object_id[~valid] == -1).all())
    assert torch.equal((seen.rgb * 255).round() / 255, seen.rgb)
    assert 0.0 <= seen.rgb.min() <= seen.rgb.max() <= 1.0
    assert 0.03 < seen.rgb.mean() < 0.97
    assert 0.0 <= seen.albedo.min() <= seen.albedo.max() <= 1.0
    assert bool((seen.shading >= 0).all())


def test_batch_size_changes_nothing() -> None:
    described = SceneSampler(attribute="all", seed=2, num_views=2).sample(range(3))
    whole = Renderer((28, 28)).render(described)
    alone = [Renderer((28, 28)).render(described[index : index + 1]) for index in range(3)]
    for field in dataclasses.fields(whole):
        values = getattr(whole, field.name)
        assert torch.equal(values, torch.cat([getattr(one, field.name) for one in alone])), field.name


def test_threads_change_nothing() -> None:
    described = SceneSampler(attribute="all", seed=2, num_views=2).sample(range(3))
    renderer = Renderer((42, 52))  # a size that no tile divides
    alone = renderer.render(described)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = renderer.render(described)
    finally:
        torch.set_num_threads(before)
    for field in dataclasses.fields(alone):
        assert torch.equal(getattr(alone, field.name), getattr(together, field.name)), field.name


def test_smoothing_touches_colour_at_edges_only() -> None:
    described = SceneSampler(attribute="all", seed=3, num_views=2).sample([0])
    plain, smooth = (Renderer((56, 56), antialias=on).render(described) for on in (False, True))
    for field in dataclasses.fields(plain):
        if field.name != "rgb":
            assert torch.equal(getattr(plain, field.name), getattr(smooth, field.name))
    changed = (plain.rgb != smooth.rgb).any(2)
    assert 0.01 < changed.float().mean() < 0.6
