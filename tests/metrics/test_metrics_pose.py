"""Relative pose errors and AUC against scipy and numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial.transform import Rotation

from lorasub.metrics.functional import pose_auc, pose_auc_vggt_np, pose_auc_vggt_torch, relative_pose_errors


def poses(views: int, seed: int) -> torch.Tensor:
    rotations = Rotation.random(views, random_state=seed).as_matrix()
    translations = np.random.default_rng(seed).normal(size=(views, 3, 1))
    return torch.from_numpy(np.concatenate([rotations, translations], -1))


def test_equal_scipy_pair_by_pair() -> None:
    prediction, target = poses(4, 0), poses(4, 1)
    found = relative_pose_errors(prediction, target, torch.ones(4, dtype=torch.bool))
    for index, (i, j) in enumerate(itertools.combinations(range(4), 2)):
        relative = []
        for cameras in (prediction, target):
            a, b = (np.vstack([cameras[k].numpy(), [0, 0, 0, 1]]) for k in (i, j))
            relative.append(b @ np.linalg.inv(a))
        p, g = relative
        angle = np.degrees((Rotation.from_matrix(p[:3, :3]).inv() * Rotation.from_matrix(g[:3, :3])).magnitude())
        assert found.rotation[index].item() == pytest.approx(angle)
        cosine = p[:3, 3] @ g[:3, 3] / np.linalg.norm(p[:3, 3]) / np.linalg.norm(g[:3, 3])
        theta = np.degrees(np.arccos(cosine))
        assert found.translation[index].item() == pytest.approx(min(theta, 180 - theta))


def test_frame_and_scale_of_the_prediction_do_not_matter() -> None:
    target = poses(5, 0)
    world = poses(1, 7)[0]
    moved = torch.cat([target[..., :3] @ world[:, :3], target[..., :3] @ world[:, 3:] + target[..., 3:]], -1)
    moved[..., 3] *= 17.0  # a world 17 times larger
    found = relative_pose_errors(moved, target, torch.ones(5, dtype=torch.bool))
    assert found.worst.max() < 1e-5


def test_small_angles_are_exact_in_float32() -> None:
    target = torch.eye(3, 4).repeat(2, 1, 1)
    target[1, 0, 3] = 1.0
    prediction = target.clone()
    prediction[1, :, 3] = torch.tensor([1.0, 1e-4, 0.0])
    found = relative_pose_errors(prediction, target, torch.ones(2, dtype=torch.bool))
    assert found.translation.item() == pytest.approx(np.degrees(1e-4), rel=1e-4)
    assert found.rotation.item() == 0


def test_no_translation_has_no_direction() -> None:
    target = torch.eye(3, 4).repeat(2, 1, 1)
    target[1, 0, 3] = 1.0
    still = torch.eye(3, 4).repeat(2, 1, 1)
    assert relative_pose_errors(still, target, torch.ones(2, dtype=torch.bool)).translation.item() == 90


def test_pairs_with_an_unknown_pose_are_marked() -> None:
    found = relative_pose_errors(poses(3, 0), poses(3, 1), torch.tensor([True, False, True]))
    assert found.valid.tolist() == [False, True, False]  # pairs 01, 02, 12


def test_a_single_view_has_no_pairs() -> None:
    found = relative_pose_errors(poses(1, 0), poses(1, 1), torch.tensor([True]))
    assert found.worst.shape == (0,)


ERRORS = np.r_[np.random.default_rng(0).exponential(2, 500), 0.0, 1.0, 29.5, 30.0, 30.5, 90.0]


@pytest.mark.parametrize("threshold", [3, 30])
def test_exact_area_by_numerical_integration(threshold: int) -> None:
    edges = np.unique(ERRORS[threshold > ERRORS])
    area = quad(lambda x: np.mean(x > ERRORS), 0, threshold, points=edges, limit=5000)[0]
    assert pose_auc(torch.from_numpy(ERRORS), threshold).mean().item() == pytest.approx(area / threshold, rel=1e-6)


@pytest.mark.parametrize("threshold", [3, 30])
def test_binned_variants_are_the_histograms(threshold: int) -> None:
    errors = torch.from_numpy(ERRORS)
    histogram, _ = np.histogram(ERRORS, bins=np.arange(threshold + 1))
    by_numpy = np.mean(np.cumsum(histogram / len(ERRORS)))
    assert pose_auc_vggt_np(errors, threshold).mean().item() == pytest.approx(by_numpy)
    by_torch = (torch.histc(errors, bins=threshold + 1, min=0, max=threshold) / len(ERRORS)).cumsum(0).mean()
    assert pose_auc_vggt_torch(errors, threshold).mean().item() == pytest.approx(by_torch.item())


def test_the_variants_really_differ() -> None:
    """Exponential errors of mean 2 degrees at 3 degrees, in closed form 0.482 for the exact area."""
    errors = torch.from_numpy(np.random.default_rng(1).exponential(2, 20000))
    exact = 1 - 2 / 3 * (1 - np.exp(-1.5))
    assert pose_auc(errors, 3).mean().item() == pytest.approx(exact, abs=0.005)
    assert pose_auc_vggt_np(errors, 3).mean().item() == pytest.approx(0.602, abs=0.01)
    assert pose_auc_vggt_torch(errors, 3).mean().item() == pytest.approx(0.575, abs=0.01)
