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
from lorasub.scenes.presets import ATTRIBUTES, DESIGNS, END_POINTS, POOL, PRESETS, SceneSampler, shifted
from lorasub.scenes.ranges import CAMERA_SHELL, CameraRanges, GeometryRanges, SceneRanges, TextureRanges
from lorasub.scenes.rendering.renderer import Renderer
from lorasub.scenes.streams import Draws, Spread

PART_OF = {"geometry": "geometry", "texture": "materials", "camera": "cameras", "lighting": "lights"}

#: Of data sets that were made before there was a wide pool: attribute by attribute, part by part.
BEFORE = {
    "NARROW_TRAIN": [
        [414.71, 110.23, 8.7, 21.99],
        [443.49, 109.93, 8.24, 22.31],
        [466.73, 110.07, 7.7, 26.76],
        [502.21, 118.22, 9.39, 34.87],
    ],
    "NARROW_VALIDATION": [
        [464.13, 110.23, 8.7, 21.99],
        [443.38, 100.98, 8.25, 22.31],
        [467.45, 110.1, 8.55, 26.73],
        [502.12, 118.32, 9.4, 29.15],
    ],
    "ACROSS_TRAIN": [
        [444.28, 91.54, 8.02, 21.34],
        [468.28, 101.69, 7.43, 24.7],
        [509.31, 95.44, 8.08, 32.37],
        [469.98, 97.81, 7.72, 20.65],
    ],
}


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


@pytest.mark.parametrize("design", ["within", "narrow"])
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_only_the_attribute_leaves_the_pool(attribute: Any, design: Any) -> None:
    """With a pool of one base, everything but the attribute is the same in all scenes; the attribute never is."""
    scenes = SceneSampler(attribute=attribute, design=design, bases=1).sample(range(6))
    for name, part in PART_OF.items():
        first, rest = getattr(scenes[:1], part), [getattr(scenes[i : i + 1], part) for i in range(1, 6)]
        if name == attribute:
            assert not any(same(first, other) for other in rest)
        else:
            assert all(same(first, other) for other in rest)


def test_the_pool_has_as_many_bases_as_it_says() -> None:
    scenes = SceneSampler(attribute="texture", bases=3).sample(range(60))
    assert len({tuple(fov.tolist()) for fov in scenes.cameras.fov}) == 3


def pool(part: Part, other: Part) -> bool:
    """Whether some scene of one set is also in the other."""
    return any(
        all(torch.equal(a[i], b[j]) for a, b in zip(tensors(part), tensors(other), strict=True))
        for i in range(len(tensors(part)[0]))
        for j in range(len(tensors(other)[0]))
    )


def test_attributes_and_partitions_share_one_pool_and_held_out_scenes_another() -> None:
    few: dict[str, Any] = {"bases": 3, "seed": 4}
    one = SceneSampler(attribute="texture", partition=0, **few).sample(range(12))
    for other in (
        SceneSampler(attribute="texture", partition=1, **few),
        SceneSampler(attribute="lighting", partition=0, **few),
    ):
        assert pool(one.geometry, other.sample(range(12)).geometry)
        assert pool(one.cameras, other.sample(range(12)).cameras)
        assert not pool(one.materials, other.sample(range(12)).materials) or other.attribute != "texture"
    held_out = SceneSampler(attribute="texture", stream="validation", **few).sample(range(12))
    assert not pool(one.geometry, held_out.geometry)


def test_a_scene_of_the_pool_comes_as_a_whole() -> None:
    """Geometry and camera of the same base belong together, whichever attribute is replaced."""
    scenes = SceneSampler(attribute="texture", bases=3).sample(range(40))
    pairs = {
        (float(room[0]), float(fov[0])) for room, fov in zip(scenes.geometry.room, scenes.cameras.fov, strict=True)
    }
    assert len(pairs) == 3


def test_the_pool_of_the_default_design_is_wide() -> None:
    """Its draws fill the ranges: quantiles of a number that is drawn uniformly."""
    assert POOL["within"] >= 256
    fov = SceneSampler(attribute="texture").sample(range(400)).cameras.fov[:, 0].double()
    low, high = CameraRanges().fov
    share = ((fov - low) / (high - low)).quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    assert torch.allclose(share, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), atol=0.08)
    assert len(fov.unique()) > 180


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_shift_leaves_pre_training_by_its_dose(attribute: Any) -> None:
    before = SceneSampler(attribute="all").drawn_from
    for name, end in END_POINTS[attribute].items():
        seen = getattr(getattr(before, attribute), name)
        if isinstance(end, tuple):
            assert end[0] > seen[1] or end[1] < seen[0], f"{name} of dose 1 overlaps pre-training"
            half = getattr(getattr(shifted(before, attribute, 0.5), attribute), name)
            assert half[0] == pytest.approx((seen[0] + end[0]) / 2, abs=0.51 if name == "count" else 1e-9)
        else:
            assert getattr(getattr(shifted(before, attribute, 0.25), attribute), name) == pytest.approx(
                0.75 * seen + 0.25 * end
            )
    assert shifted(before, attribute, 0.0) == before
    scenes = {dose: SceneSampler(attribute=attribute, design="shift", dose=dose).sample([3]) for dose in (0.2, 1.0)}
    for name, part in PART_OF.items():
        assert same(getattr(scenes[0.2], part), getattr(scenes[1.0], part)) == (name != attribute)


def test_shifted_partitions_have_scenes_of_their_own_as_pre_training_shows_them() -> None:
    one, two = (SceneSampler(attribute="texture", design="shift", partition=p).sample(range(30)) for p in (0, 1))
    assert not pool(one.geometry, two.geometry)
    # the windows of pre-training: what it never shows stays out
    seen = SceneSampler(attribute="all", stream="train/stage0").sample(range(200)).cameras.fov
    shown = torch.cat([one.cameras.fov, two.cameras.fov])
    assert seen.min() - 0.02 <= shown.min()
    assert shown.max() <= seen.max() + 0.02


@pytest.mark.parametrize(
    ("design", "stream", "expected"),
    [
        ("narrow", "train", "NARROW_TRAIN"),
        ("narrow", "validation", "NARROW_VALIDATION"),
        ("across", "train", "ACROSS_TRAIN"),
    ],
)
def test_data_sets_from_before_come_out_the_same(design: Any, stream: str, expected: str) -> None:
    """Rounded sums of descriptions, written down when ``narrow`` was called ``within``."""
    found = []
    for attribute in ATTRIBUTES:
        scenes = SceneSampler(attribute=attribute, design=design, partition=2, seed=3, stream=stream).sample([0, 5])
        found.append(
            [round(float(tensors(getattr(scenes, part))[1].double().abs().sum()), 2) for part in PART_OF.values()]
        )
    assert found == BEFORE[expected]


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
        (SceneRanges(geometry=GeometryRanges(shapes=("cube",))), "unknown shape 'cube'; choose from"),
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
