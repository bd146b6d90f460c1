"""VGGT's normalisation, against a plain loop and by its invariants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_examples import random_scenes
from scipy.spatial.transform import Rotation

from lorasub.geometry import normalize_scene, world_points_from_depth
from lorasub.structures import SceneBatch

TENSORS = ("cam_from_world", "pose_valid", "depth", "valid", "world_points", "scale", "intrinsics")


def assert_same(found: SceneBatch, expected: SceneBatch, *, but: tuple[str, ...] = ()) -> None:
    for name in TENSORS:
        if name not in but:
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), msg=lambda m, n=name: f"{n}: {m}")


def test_equals_a_plain_loop() -> None:
    batch = random_scenes()
    found = normalize_scene(batch)
    for b in range(len(batch)):
        pose = batch.cam_from_world[b].numpy()
        first = np.vstack([pose[0], [0, 0, 0, 1]])
        distances = []
        for s in range(batch.num_views):
            for point in batch.world_points[b, s][batch.valid[b, s]].numpy():
                distances.append(np.linalg.norm((first @ [*point, 1])[:3]))
        factor = np.mean(distances)
        assert found.scale[b].item() == pytest.approx(factor)
        for s in range(batch.num_views):
            expected = np.vstack([pose[s], [0, 0, 0, 1]]) @ np.linalg.inv(first)
            expected[:3, 3] /= factor
            np.testing.assert_allclose(found.cam_from_world[b, s].numpy(), expected[:3], atol=1e-12)
    torch.testing.assert_close(found.depth * found.scale[:, None, None, None], batch.depth)


def test_stays_consistent() -> None:
    """Depth, cameras and points still describe one scene, and its mean distance is 1."""
    found = normalize_scene(random_scenes())
    again = world_points_from_depth(found.depth, found.intrinsics, found.cam_from_world)
    torch.testing.assert_close(again[found.valid], found.world_points[found.valid])
    for b in range(2):
        mean = found.world_points[b][found.valid[b]].norm(dim=-1).mean()
        assert mean.item() == pytest.approx(1.0)
    assert torch.equal(found.cam_from_world[:, 0], torch.eye(3, 4, dtype=torch.float64).expand(2, 3, 4))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
def test_frame_and_unit_of_the_world_do_not_matter(seed: int, scale: float) -> None:
    batch = random_scenes(seed=seed)
    rotation = torch.from_numpy(Rotation.random(random_state=seed + 1).as_matrix())
    shift = torch.from_numpy(np.random.default_rng(seed).normal(size=3)) * 5
    new_rotation = batch.cam_from_world[..., :3] @ rotation.T
    new_translation = scale * batch.cam_from_world[..., 3:] - (new_rotation @ shift)[..., None]
    moved = batch.replace(
        cam_from_world=torch.cat([new_rotation, new_translation], -1),
        world_points=torch.where(batch.valid[..., None], scale * batch.world_points @ rotation.T + shift, 0.0),
        depth=batch.depth * scale,
    )
    expected = normalize_scene(batch)
    found = normalize_scene(moved)
    assert_same(found, expected, but=("scale",))
    torch.testing.assert_close(found.scale, expected.scale * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("missing", ["nothing", "depth", "first pose", "second pose", "all poses"])
def test_twice_is_once(missing: str, dtype: torch.dtype) -> None:
    batch = damaged(random_scenes(dtype=dtype), missing)
    once = normalize_scene(batch)
    assert_same(normalize_scene(once), once)
    assert once.depth.dtype == once.cam_from_world.dtype == once.scale.dtype == dtype


def damaged(batch: SceneBatch, missing: str) -> SceneBatch:
    """The first scene loses something; the second stays whole."""
    pose_valid, valid = batch.pose_valid.clone(), batch.valid.clone()
    if missing == "depth":
        valid[0] = False
    elif missing == "first pose":
        pose_valid[0, 0] = False
    elif missing == "second pose":
        pose_valid[0, 1] = False
    elif missing == "all poses":
        pose_valid[0] = False
    return batch.replace(pose_valid=pose_valid, valid=valid)


@pytest.mark.parametrize("missing", ["depth", "first pose", "second pose", "all poses"])
def test_scenes_do_not_touch_each_other(missing: str) -> None:
    batch = random_scenes()
    found, whole = normalize_scene(damaged(batch, missing)), normalize_scene(batch)
    for name in TENSORS:
        torch.testing.assert_close(getattr(found, name)[1], getattr(whole, name)[1])


def test_without_depth_the_factor_is_one() -> None:
    batch = damaged(random_scenes(), "depth")
    found = normalize_scene(batch)
    assert found.scale[0] == 1
    distance = torch.linalg.vector_norm(found.cam_from_world[0, 1, :, 3])
    first, second = (-(pose[:, :3].T @ pose[:, 3]) for pose in batch.cam_from_world[0, :2])
    torch.testing.assert_close(distance, torch.linalg.vector_norm(first - second))


@pytest.mark.parametrize("missing", ["first pose", "all poses"])
def test_without_the_first_pose_a_scene_is_only_scaled(missing: str) -> None:
    batch = damaged(random_scenes(), missing)
    found = normalize_scene(batch)
    assert not found.pose_valid[0].any()
    assert torch.equal(found.cam_from_world[0], torch.eye(3, 4, dtype=torch.float64).expand(3, 3, 4))
    assert not found.world_points[0].any()
    distances = []
    for s in range(3):
        centers = -batch.cam_from_world[0, s, :, :3].T @ batch.cam_from_world[0, s, :, 3]
        distances.append((batch.world_points[0, s] - centers)[batch.valid[0, s]].norm(dim=-1))
    torch.testing.assert_close(found.scale[0], torch.cat(distances).mean())


def test_a_view_without_pose_does_not_count_but_is_scaled() -> None:
    batch = damaged(random_scenes(), "second pose")
    found, expected = normalize_scene(batch), normalize_scene(batch.select_views([0, 2]))
    torch.testing.assert_close(found.scale, expected.scale.where(torch.tensor([True, False]), found.scale))
    torch.testing.assert_close(found.depth[0, 1], batch.depth[0, 1] / found.scale[0])


def test_factor_multiplies_the_scale_that_was_there() -> None:
    batch = random_scenes()
    found = normalize_scene(batch.replace(scale=torch.tensor([2.0, 10.0], dtype=torch.float64)))
    torch.testing.assert_close(found.scale, normalize_scene(batch).scale * torch.tensor([2.0, 10.0]))


def test_unusable_values_become_missing_ones() -> None:
    batch = random_scenes()
    depth, points, poses = batch.depth.clone(), batch.world_points.clone(), batch.cam_from_world.clone()
    valid = torch.ones_like(batch.valid)
    depth[0, 0, 0, 0], depth[0, 0, 0, 1], depth[0, 0, 0, 2] = torch.nan, -1.0, torch.inf
    points[0, 0, 1, 0, 2] = torch.nan
    poses[0, 2, 1, 1] = torch.nan
    found = normalize_scene(batch.replace(depth=depth, world_points=points, cam_from_world=poses, valid=valid))
    assert not found.valid[0, 0, 0, :3].any()
    assert not found.valid[0, 0, 1, 0]
    assert not found.pose_valid[0, 2]
    for name in TENSORS:
        assert getattr(found, name).isfinite().all(), name


def test_nan_in_what_is_marked_invalid_does_no_harm() -> None:
    batch = random_scenes()
    invalid = ~batch.valid
    poisoned = batch.replace(
        depth=batch.depth.masked_fill(invalid, torch.nan),
        world_points=batch.world_points.masked_fill(invalid[..., None], torch.nan),
    )
    assert_same(normalize_scene(poisoned), normalize_scene(batch))


def test_autocast_changes_nothing() -> None:
    batch = random_scenes(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = normalize_scene(batch)
    for name in TENSORS:
        assert torch.equal(getattr(found, name), getattr(normalize_scene(batch), name)), name
