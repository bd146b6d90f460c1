"""Rooms seen from inside: things stand where they should, and cameras keep clear of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasub.errors import ConfigError
from lorasub.scenes.description import FIRST_OBJECT, Primitive, SceneDescription
from lorasub.scenes.indoor.interior import LARGE
from lorasub.scenes.indoor.ranges import IndoorRanges
from lorasub.scenes.presets import SceneSampler
from lorasub.scenes.rendering.renderer import Layers, Renderer

Array = npt.NDArray[np.float64]
RANGES = IndoorRanges()


def describe(seed: int, number: int = 16, views: int = 4) -> SceneDescription:
    return SceneSampler(attribute="indoor", seed=seed, num_views=views).sample(range(number))


def solids_of(scenes: SceneDescription, index: int) -> tuple[Array, Array, Array, npt.NDArray[np.int64]]:
    """Middle, world-from-solid, half extents and owner of each solid."""
    geometry = scenes.geometry
    used = (geometry.kind[index] != int(Primitive.NONE)).numpy()
    center, turn, size = (
        value[index].double().numpy()[used] for value in (geometry.center, geometry.rotation, geometry.size)
    )
    return center, turn, size, (geometry.surface[index].numpy()[used] - FIRST_OBJECT) // 2


def overlap_depths(center: Array, turn: Array, half: Array, one: Array, two: Array) -> Array:
    """How far pairs of oriented boxes reach into each other, by the separating axes; negative if apart."""
    axes_a, axes_b = turn[one].swapaxes(1, 2), turn[two].swapaxes(1, 2)  # [N, 3, 3], one axis a row
    crossed = np.cross(axes_a[:, :, None], axes_b[:, None]).reshape(len(one), 9, 3)
    axes = np.concatenate([axes_a, axes_b, crossed], axis=1)
    length = np.linalg.norm(axes, axis=-1, keepdims=True)
    unit = axes / np.maximum(length, 1e-9)
    reach = sum(np.abs(unit @ turn[k]) @ half[k][..., None] for k in (one, two))
    apart = np.abs(unit @ (center[one] - center[two])[..., None])
    depth: Array = np.where(length > 1e-6, reach - apart, np.inf)[..., 0].min(-1)
    return depth


def test_overlap_of_boxes() -> None:
    """Two unit cubes: side by side, and one turned by 45 degrees whose edge reaches into the other."""
    root = math.sqrt(0.5)
    turned = np.array([[root, -root, 0.0], [root, root, 0.0], [0.0, 0.0, 1.0]])
    center = np.array([[0.0, 0.0, 0.0], [2.5, 0.0, 0.0], [2.2, 0.0, 0.0]])
    turn, half = np.stack([np.eye(3), np.eye(3), turned]), np.ones((3, 3))
    found = overlap_depths(center, turn, half, np.array([0, 0]), np.array([1, 2]))
    assert found == pytest.approx([-0.5, 1.0 + math.sqrt(2.0) - 2.2])


@pytest.fixture(scope="module")
def scenes() -> SceneDescription:
    return describe(seed=3, number=48)


@pytest.fixture(scope="module")
def seen(scenes: SceneDescription) -> Layers:
    return Renderer((28, 28), antialias=False, shadow_samples=1).render(scenes)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000))
def test_everything_is_inside_the_room(seed: int) -> None:
    scenes = describe(seed)
    geometry = scenes.geometry
    used = (geometry.kind != int(Primitive.NONE))[..., None]
    extent = (geometry.rotation.abs() @ geometry.size[..., None])[..., 0]
    low, high = (torch.where(used, geometry.center + sign * extent, 0.0) for sign in (-1, 1))
    room = geometry.room[:, None]
    assert bool((low[..., :2] >= -room[..., :2] - 1e-4).all())
    assert bool((high[..., :2] <= room[..., :2] + 1e-4).all())
    assert float(low[..., 2].min()) > -1e-4
    assert bool((high[..., 2] <= room[..., 2] + 1e-4).all())


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000), st.sampled_from([2, 6, 11]))
def test_cameras_are_inside_and_clear_of_everything(seed: int, views: int) -> None:
    scenes = describe(seed, views=views)
    pose = scenes.cameras.cam_from_world.double()
    eyes = -(pose[..., :3].mT @ pose[..., 3:])[..., 0].numpy()
    least = 0.5 * RANGES.clearance - 1e-4
    for index, (half_x, half_y, height) in enumerate(scenes.geometry.room.tolist()):
        center, turn, size, _ = solids_of(scenes, index)
        place = np.einsum("kji,vkj->vki", turn, eyes[index][:, None] - center)
        gap = np.linalg.norm(np.maximum(np.abs(place) - size, 0.0), axis=-1)
        assert gap.min() >= least
        x, y, z = eyes[index].T
        assert min((half_x - abs(x)).min(), (half_y - abs(y)).min(), z.min(), (height - z).min()) >= least


def test_pieces_do_not_reach_into_each_other(scenes: SceneDescription) -> None:
    for index in (~scenes.geometry.open).nonzero().flatten().tolist():
        center, turn, size, owner = solids_of(scenes, index)
        one, two = np.triu_indices(len(owner), 1)
        apart = owner[one] != owner[two]
        assert overlap_depths(center, turn, size, one[apart], two[apart]).max(initial=-1.0) < 2e-3


def test_small_things_rest_on_something(scenes: SceneDescription) -> None:
    """Under the middle of each thing's lowest solid there is the upper side of a large piece."""
    things = 0
    for index in range(len(scenes)):
        center, turn, size, owner = solids_of(scenes, index)
        extent = (np.abs(turn) @ size[..., None])[..., 0]
        low, high = center - extent, center + extent
        for thing in np.unique(owner[owner >= LARGE]):
            mine, large = owner == thing, owner < LARGE
            lowest = np.flatnonzero(mine)[np.argmin(low[mine][:, 2])]
            under = large & (np.abs(center[:, :2] - center[lowest, :2]) < extent[:, :2]).all(-1)
            assert np.abs(high[under][:, 2] - low[lowest, 2]).min() < 1e-3
            things += 1
    assert things > 5 * len(scenes)


def test_pieces_along_walls_are_flush(scenes: SceneDescription) -> None:
    """Each piece along a wall is crooked by five degrees at most, and its back is within five centimetres of it."""
    room = scenes.geometry.room.double().numpy()
    found = 0
    for index in (~scenes.geometry.open).nonzero().flatten().tolist():
        center, turn, size, owner = solids_of(scenes, index)
        extent = (np.abs(turn) @ size[..., None])[..., 0]
        for piece in range(12):
            mine = owner == piece
            if mine.any():
                wall = piece // 3
                axis, sign = (1, 0, 1, 0)[wall], (-1, 1, 1, -1)[wall]
                gap = (room[index, axis] - sign * center[mine][:, axis] - extent[mine][:, axis]).min()
                assert -1e-4 < gap < 0.12
                yaw = math.atan2(turn[mine][0, 1, 0], turn[mine][0, 0, 0]) % (0.5 * math.pi)
                assert min(yaw, 0.5 * math.pi - yaw) <= RANGES.crooked + 1e-6
                found += 1
    assert found > 4 * len(scenes)


def test_baselines_are_shares_of_the_depth(scenes: SceneDescription, seen: Layers) -> None:
    pose = scenes.cameras.cam_from_world.double()
    eyes = -(pose[..., :3].mT @ pose[..., 3:])[..., 0]
    depth = torch.where(seen.valid, seen.depth, torch.nan).flatten(2).nanquantile(0.5, dim=-1)
    ratio = (eyes[:, 1:] - eyes[:, :-1]).norm(dim=-1) / depth[:, :1]
    low, high = RANGES.baseline
    assert float(((ratio > 0.5 * low) & (ratio < 1.5 * high)).double().mean()) > 0.9
    assert float(ratio.quantile(0.1)) < 0.07
    assert float(ratio.quantile(0.9)) > 0.15


def test_neighbouring_views_overlap(seen: Layers) -> None:
    """A quarter of the surface in a view lies in the next one's frame, but for a twentieth of the pairs."""
    shares = []
    for scene in range(len(seen.depth)):
        for view in range(seen.depth.shape[1] - 1):
            points = seen.world_points[scene, view].reshape(-1, 3)
            pose, matrix = seen.cam_from_world[scene, view + 1], seen.intrinsics[scene, view + 1]
            camera = points @ pose[:, :3].T + pose[:, 3]
            pixel = (camera @ matrix.T)[:, :2] / camera[:, 2:]
            shares.append(((camera[:, 2] > 0) & (pixel > 0).all(-1) & (pixel < 28).all(-1)).float().mean())
    assert float((torch.stack(shares) > 0.25).float().mean()) > 0.95


def test_close_scenes_have_large_relative_differences_of_depth(scenes: SceneDescription, seen: Layers) -> None:
    depth = seen.depth.flatten(2)
    ratio = depth.quantile(0.9, dim=-1) / depth.quantile(0.1, dim=-1)
    assert float((ratio > 3).float().mean()) > 0.15
    assert float((depth.quantile(0.5, dim=-1) < 1.0).float().mean()) > 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"close": 1.2}, "IndoorRanges.close is 1.2"),
        ({"close": 0.7, "facade": 0.6}, "together they are at most 1"),
        ({"room": (0.9, 2.0)}, "at least 1.2 from the middle"),
        ({"baseline": (0.3, 0.1)}, "0 < low <= high"),
        ({"small": (0, 99)}, "within 0 to 26"),
        ({"clearance": 0.4}, "half of the free square"),
    ],
)
def test_wrong_ranges_are_told_in_words(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        IndoorRanges(**wrong)
