"""Descriptions: stateless, one stream per attribute, laid out as promised."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.rng import uniforms
from lorasub.scenes.description import FIRST_OBJECT, Part, Primitive, SceneDescription
from lorasub.scenes.presets import ATTRIBUTES, DESIGNS, PRESETS, SceneSampler
from lorasub.scenes.ranges import CAMERA_SHELL, CameraRanges, GeometryRanges, SceneRanges, TextureRanges
from lorasub.scenes.rendering.renderer import Renderer
from lorasub.scenes.streams import Draws, Spread

PART_OF = {"geometry": "geometry", "texture": "materials", "camera": "cameras", "lighting": "lights"}


def tensors(part: Part) -> list[Tensor]:
    return [getattr(part, field.name) for field in dataclasses.fields(part)]


def same(one: Part, two: Part) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(two), strict=True))


@given(st.floats(0, 1), st.integers(0, 100))
def test_draws_stay_in_their_window(spread: float, seed: int) -> None:
    keys = [(seed, "scene", i) for i in range(20)]
    values = Draws((seed, "template"), keys, Spread(spread, spread), 3).uniform((2.0, 6.0), 3)
    assert values.min() >= 2.0
    assert values.max() < 6.0
    assert (values.max(0) - values.min(0)).max() <= 4.0 * spread + 1e-9
    counts = Draws((seed, "template"), keys, Spread(1.0, spread), 3).integer((3, 7), 3)
    assert 3 <= counts.min() <= counts.max() <= 7


def test_full_spread_is_uniform_and_streams_are_independent() -> None:
    scenes = [(0, "x", index) for index in range(4000)]
    values = Draws((0, "template"), scenes, Spread(1.0, 1.0), 4).uniform((0.0, 1.0), 4)
    for column in values.T:
        histogram = np.histogram(column, bins=10, range=(0, 1))[0]
        assert ((histogram - 400) ** 2 / 400).sum() < 30  # chi-square, 9 degrees of freedom, p about 4e-4
    correlation = np.corrcoef(values.T) - np.eye(4)
    assert np.abs(correlation).max() < 0.07
    assert np.corrcoef(uniforms((0, "x", 1), 1000), uniforms((0, "x", 2), 1000))[0, 1] < 0.1


@pytest.mark.parametrize("attribute", PRESETS)
@pytest.mark.parametrize("design", DESIGNS)
def test_a_scene_is_the_same_whoever_asks(attribute: Any, design: Any) -> None:
    sampler = SceneSampler(attribute=attribute, design=design, partition=2, seed=9)
    batch = sampler.sample([7, 3, 11])
    alone = SceneSampler(attribute=attribute, design=design, partition=2, seed=9).sample([3])
    for name in PART_OF.values():
        assert same(getattr(batch[1:2], name), getattr(alone, name))
    assert batch.scene_ids[1] == alone.scene_ids[0] == f"{attribute}/p2/000003"


def test_more_views_begin_with_the_same_scene() -> None:
    few, many = (SceneSampler(attribute="camera", num_views=views).sample([0, 1]) for views in (2, 6))
    assert same(few.geometry, many.geometry)
    assert same(few.materials, many.materials)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_within_only_the_attribute_leaves_the_pool(attribute: Any) -> None:
    """With a pool of one base, everything but the attribute is the same in all scenes; the attribute never is."""
    scenes = SceneSampler(attribute=attribute, bases=1).sample(range(6))
    for name, part in PART_OF.items():
        first, rest = getattr(scenes[:1], part), [getattr(scenes[i : i + 1], part) for i in range(1, 6)]
        if name == attribute:
            assert not any(same(first, other) for other in rest)
        else:
            assert all(same(first, other) for other in rest)


def test_the_pool_has_as_many_bases_as_it_says() -> None:
    scenes = SceneSampler(attribute="texture", bases=3).sample(range(60))
    assert len({tuple(fov.tolist()) for fov in scenes.cameras.fov}) == 3


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_across_all_partitions_share_what_does_not_vary(attribute: Any) -> None:
    one, two = (SceneSampler(attribute=attribute, design="across", partition=p).sample(range(4)) for p in (0, 1))
    for name, part in PART_OF.items():
        assert same(getattr(one, part), getattr(two, part)) == (name != attribute)


def test_streams_hold_scenes_apart() -> None:
    train, held_out = (SceneSampler(attribute="geometry", stream=s).sample(range(3)) for s in ("train", "validation"))
    assert not same(train.geometry, held_out.geometry)
    assert held_out.scene_ids[0] == "geometry/p0/validation/000000"


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_objects_stand_apart_on_the_floor_and_away_from_cameras(seed: int) -> None:
    scenes = SceneSampler(attribute="all", seed=seed, num_views=8).sample(range(4))
    for index in range(4):
        geometry = scenes.geometry
        used = geometry.kind[index] != int(Primitive.NONE)
        center, size = geometry.center[index][used].double(), geometry.size[index][used].double()
        rotation, surface = geometry.rotation[index][used].double(), geometry.surface[index][used]
        # extent of each primitive's bounding box, rotated, is an upper bound of its own
        extent = (rotation.abs() @ size[..., None])[..., 0]
        assert float((center[:, 2] - extent[:, 2]).min()) > -0.35  # bound, not touch: corners of rotated boxes
        number = int(surface.max()) - FIRST_OBJECT + 1
        assert 1 <= number <= 25
        eye = -torch.einsum(
            "sji,sj->si", scenes.cameras.cam_from_world[index, :, :, :3], scenes.cameras.cam_from_world[index, :, :, 3]
        )
        sideways = eye[:, :2].norm(dim=-1)
        assert float(sideways.min()) > CAMERA_SHELL[0] - 0.05
        assert bool((eye[:, :2].abs() < scenes.geometry.room[index, :2]).all())
        assert bool((eye[:, 2] > 0.2).all())
        assert bool((eye[:, 2] < scenes.geometry.room[index, 2]).all())


@pytest.mark.parametrize("views", [2, 4, 8])
def test_views_overlap(views: int) -> None:
    """A quarter of the surface in a view lies in its neighbour's frame, but for rare scenes; a tenth in all."""
    scenes = SceneSampler(attribute="camera", seed=5, num_views=views).sample(range(64))
    seen = Renderer((14, 14), antialias=False, shadow_samples=1).render(scenes)
    shares = []
    for scene in range(len(scenes)):
        for view in range(views):
            other = view + 1 if view + 1 < views else view - 1
            points = seen.world_points[scene, view][seen.valid[scene, view]]
            pose, matrix = seen.cam_from_world[scene, other], seen.intrinsics[scene, other]
            camera = points @ pose[:, :3].T + pose[:, 3]
            pixel = camera @ matrix.T
            pixel = pixel[:, :2] / pixel[:, 2:]
            inside = (camera[:, 2] > 0) & (pixel > 0).all(-1) & (pixel < 14).all(-1)
            shares.append(inside.float().mean())
    found = torch.stack(shares)
    assert found.min() > 0.1
    assert (found > 0.25).float().mean() > 0.98


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (SceneRanges(geometry=GeometryRanges(shapes=("cube",))), r"unknown shapes \['cube'\]; choose from"),
        (SceneRanges(geometry=GeometryRanges(count=(5, 40))), "within 1 to 25"),
        (SceneRanges(texture=TextureRanges(patterns=("fur",))), r"unknown patterns \['fur'\]"),
        (SceneRanges(camera=CameraRanges(paths=("zigzag",))), r"unknown camera paths \['zigzag'\]"),
    ],
)
def test_wrong_ranges_are_told_in_words(ranges: SceneRanges, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SceneSampler(attribute="all", ranges=ranges).sample([0])


def test_concatenating_and_slicing_are_inverse() -> None:
    scenes = SceneSampler(attribute="all").sample(range(4))
    joined = SceneDescription.concatenate([scenes[:1], scenes[1:3], scenes[[3]]])
    assert joined.scene_ids == scenes.scene_ids
    for name in PART_OF.values():
        assert same(getattr(joined, name), getattr(scenes, name))
