"""ATE and RPE against evo."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from lorasub.errors import ConfigError, NumericalError
from lorasub.geometry import invert_pose
from lorasub.metrics.functional import align_trajectory, trajectory_errors

metrics = pytest.importorskip("evo.core.metrics")
PosePath3D = pytest.importorskip("evo.core.trajectory").PosePath3D


def paths(views: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A predicted and a true path ``[S, 3, 4]``, camera-from-world; the prediction in another world and unit."""
    rng = np.random.default_rng(seed)
    steps = Rotation.from_rotvec(rng.normal(0, 0.2, (views, 3)))
    true = np.concatenate([steps.as_matrix(), rng.normal(0, 1, (views, 3, 1)).cumsum(0)], -1)
    noise = Rotation.from_rotvec(rng.normal(0, 0.05, (views, 3)))
    world = Rotation.random(random_state=seed)
    rotations = (world * steps * noise).as_matrix()
    centers = 0.3 * world.apply(true[..., 3] + rng.normal(0, 0.1, (views, 3))) + [1, 2, 3]
    found = np.concatenate([rotations, centers[..., None]], -1)
    return invert_pose(torch.from_numpy(found)), invert_pose(torch.from_numpy(true))


def evo_path(cam_from_world: torch.Tensor) -> PosePath3D:
    world_from_cam = invert_pose(cam_from_world).numpy()
    return PosePath3D(poses_se3=[np.vstack([pose, [0, 0, 0, 1]]) for pose in world_from_cam])


@pytest.mark.parametrize("alignment", ["similarity", "rigid", "none"])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_evo(alignment: str, seed: int) -> None:
    prediction, target = paths(seed=seed)
    reference, estimate = evo_path(target), copy.deepcopy(evo_path(prediction))
    if alignment != "none":
        estimate.align(reference, correct_scale=alignment == "similarity")
    ape = metrics.APE(metrics.PoseRelation.translation_part)
    ape.process_data((reference, estimate))
    expected = {"ate": ape.get_statistic(metrics.StatisticsType.rmse)}
    for name, relation in (
        ("rpe_translation", metrics.PoseRelation.translation_part),
        ("rpe_rotation", metrics.PoseRelation.rotation_angle_deg),
    ):
        rpe = metrics.RPE(relation, delta=1, delta_unit=metrics.Unit.frames, all_pairs=True)
        rpe.process_data((reference, estimate))
        expected[name] = rpe.get_statistic(metrics.StatisticsType.rmse)
    found = trajectory_errors(prediction, target, alignment)
    for name, value in expected.items():
        assert getattr(found, name).item() == pytest.approx(value, rel=1e-9), name


def test_aligned_cameras_are_evos() -> None:
    prediction, target = paths()
    estimate = evo_path(prediction)
    estimate.align(evo_path(target), correct_scale=True)
    found = evo_path(align_trajectory(prediction, target))
    np.testing.assert_allclose(np.stack(found.poses_se3), np.stack(estimate.poses_se3), atol=1e-9)


@pytest.mark.parametrize("case", ["two", "line", "spot"])
def test_cameras_that_determine_no_alignment_are_refused(case: str) -> None:
    prediction, target = paths()
    if case == "two":
        prediction, target = prediction[:2], target[:2]
    else:
        world_from_cam = invert_pose(target)
        along = torch.linspace(0, 1, len(target), dtype=torch.float64) if case == "line" else torch.zeros(len(target))
        world_from_cam[..., 3] = along[:, None] * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        target = invert_pose(world_from_cam)
    with pytest.raises(NumericalError, match="cannot align"):
        trajectory_errors(prediction, target)


def test_unknown_alignment_is_named() -> None:
    with pytest.raises(ConfigError, match="'sim2'"):
        trajectory_errors(*paths(), "sim2")
