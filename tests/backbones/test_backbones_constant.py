"""The trivial baseline through the task's own metrics, with results that can be worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from scene_examples import random_scenes
from scipy.spatial.transform import Rotation

from lorasub.backbones import ConstantGeometry
from lorasub.errors import ArtefactError, ConfigError
from lorasub.geometry import encode_pose, world_points_from_depth
from lorasub.structures import SceneBatch
from lorasub.tasks import GeometryTask


def scored(model: ConstantGeometry, batch: SceneBatch) -> dict[str, float]:
    task = GeometryTask(model)
    metrics = task.configure_metrics()
    batch = task.prepare_batch(batch)
    predictions = task(batch.images)
    assert torch.isfinite(task.compute_loss(predictions, batch).total).all()
    metrics.update(predictions, batch)
    return {name: float(value) for name, value in metrics.compute().items()}


def turned(degrees: float) -> SceneBatch:
    """Two views; the second is turned and moved. Three quarters of all pixels are 2 away, the rest 4."""
    batch = random_scenes(1, 2, (8, 8), dtype=torch.float32)
    poses = torch.eye(4)[:3].repeat(1, 2, 1, 1)
    poses[0, 1, :, :3] = torch.from_numpy(Rotation.from_euler("y", degrees, degrees=True).as_matrix())
    poses[0, 1, 0, 3] = 0.5
    depth = torch.full((1, 2, 8, 8), 2.0)
    depth[..., :2] = 4.0
    return batch.replace(
        cam_from_world=poses,
        depth=depth,
        valid=torch.ones(1, 2, 8, 8, dtype=torch.bool),
        world_points=world_points_from_depth(depth, batch.intrinsics, poses),
    )


def test_a_plane_and_a_camera_at_rest() -> None:
    found = scored(ConstantGeometry(), turned(12.0))
    assert found["abs_rel"] == pytest.approx(0.25 * 0.5, abs=1e-6)  # a quarter of the pixels is off by 2 of 4
    assert found["delta1"] == pytest.approx(0.75)
    assert found["rotation_deg"] == pytest.approx(12.0, abs=1e-3)
    assert found["translation_deg"] == pytest.approx(90.0, abs=1e-3)  # no translation has no direction
    assert found["auc@30"] == 0


def test_the_mean_of_a_scene_is_right_about_that_scene() -> None:
    batch = turned(12.0)
    found = scored(ConstantGeometry.mean_of([batch]), batch)
    assert found["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert found["rotation_deg"] == pytest.approx(0, abs=1e-3)
    assert found["auc@30"] == pytest.approx(1, abs=1e-3)
    assert found["point_error"] < 1e-5


def test_means_count_what_is_known() -> None:
    first, second = random_scenes(2, 3, (6, 6), seed=1), random_scenes(1, 3, (6, 6), seed=2)
    task = GeometryTask(ConstantGeometry())
    poses = torch.tensor([[True, True, True], [True, False, True]])
    first = first.replace(pose_valid=poses)
    model = ConstantGeometry.mean_of([first, second])
    scenes = [task.prepare_batch(first), task.prepare_batch(second)]
    depth, valid = (torch.cat([getattr(scene, name) for scene in scenes]) for name in ("depth", "valid"))
    for i in range(6):
        for j in range(6):
            known = depth[:, :, i, j][valid[:, :, i, j]]
            assert model.depth[i, j].item() == pytest.approx(known.mean().item())
    codes = torch.cat([encode_pose(s.cam_from_world, s.intrinsics, (6, 6)) for s in scenes])
    torch.testing.assert_close(model.poses[1], codes[[0, 2], 1].mean(0))
    torch.testing.assert_close(model.poses[2], codes[:, 2].mean(0))


def test_a_map_of_each_view_and_pixels_that_nobody_knows() -> None:
    batch = random_scenes(2, 3, (6, 6), seed=3)
    batch.valid[:, :, 0, 0] = False
    scenes = GeometryTask(ConstantGeometry()).prepare_batch(batch)
    model = ConstantGeometry.mean_of([batch], per_view=True)
    assert model.depth.shape == (3, 6, 6)
    known = scenes.depth[:, 1, 2, 4][scenes.valid[:, 1, 2, 4]]
    expected = known.mean() if len(known) else scenes.depth[scenes.valid].mean()
    assert model.depth[1, 2, 4].item() == pytest.approx(expected.item())
    assert model.depth[0, 0, 0].item() == pytest.approx(scenes.depth[scenes.valid].mean().item(), rel=1e-6)
    predicted = model(batch.images)
    assert torch.equal(predicted.depth[1, 2], model.depth[2])
    assert torch.equal(model(torch.rand(1, 5, 3, 6, 6)).depth[0, 4], model.depth[2].float())


def test_a_saved_one_is_the_same(tmp_path: Path) -> None:
    model = ConstantGeometry.mean_of([random_scenes(1, 2, (4, 4), seed=3)])
    model.save(tmp_path / "constant.safetensors")
    again = ConstantGeometry.load(tmp_path / "constant.safetensors")
    assert torch.equal(again.depth, model.depth)
    assert torch.equal(again.poses, model.poses)
    with pytest.raises(ArtefactError, match="cannot be read"):
        ConstantGeometry.load(tmp_path / "missing")


def test_any_size_and_number_of_views() -> None:
    model = ConstantGeometry(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0] * 6 + [1, 1, 1], [1.0] * 9]))
    predictions = model(torch.rand(2, 4, 3, 5, 8))
    assert predictions.depth.shape == (2, 4, 5, 8)
    assert predictions.depth[1, 2, 4, 0] == 1
    assert predictions.depth[1, 2, 4, -1] == 3
    assert torch.equal(predictions.pose_encoding[0, :, 0], torch.tensor([0.0, 1, 1, 1]))
    assert ConstantGeometry()(torch.rand(1, 1, 3, 4, 4)).pose_encoding[0, 0, -1] == pytest.approx(math.pi / 3)


def test_nothing_to_average_is_refused() -> None:
    with pytest.raises(ConfigError, match="no scenes"):
        ConstantGeometry.mean_of([])
    blind = random_scenes(1, 2)
    with pytest.raises(ConfigError, match="some depth"):
        ConstantGeometry.mean_of([blind.replace(valid=torch.zeros_like(blind.valid))])
    with pytest.raises(ConfigError, match=r"poses \[S, 9\]"):
        ConstantGeometry(poses=torch.zeros(2, 7))
