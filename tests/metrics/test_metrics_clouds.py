"""Point clouds against all distances by scipy, closed forms, and motions that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from lorasub.errors import DataError
from lorasub.metrics.functional import cloud_errors, estimate_normals, icp


def cloud(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 3)))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_distances_are_those_of_all_pairs(n: int, m: int, seed: int) -> None:
    prediction, target = cloud(n, seed), cloud(m, seed + 100)
    distances = cdist(prediction, target)
    found = cloud_errors(prediction, target, thresholds=(0.5,))
    to_truth, to_prediction = distances.min(1), distances.min(0)
    assert found.accuracy == pytest.approx(to_truth.mean(), rel=1e-9)
    assert found.accuracy_median == pytest.approx(np.median(to_truth), rel=1e-9)
    assert found.completeness == pytest.approx(to_prediction.mean(), rel=1e-9)
    assert found.completeness_median == pytest.approx(np.median(to_prediction), rel=1e-9)
    precision, recall = np.mean(to_truth < 0.5), np.mean(to_prediction < 0.5)
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert found.fscore[0.5] == pytest.approx(expected)


def plane(tilt: float, step: float = 0.05) -> torch.Tensor:
    """A grid on a plane through the x axis, tilted by an angle."""
    x, y = np.meshgrid(np.arange(-1, 1, step), np.arange(-1, 1, step))
    return torch.from_numpy(np.stack([x, y * math.cos(tilt), y * math.sin(tilt)], -1).reshape(-1, 3))


def test_normals_of_a_plane_and_of_a_sphere() -> None:
    found = estimate_normals(plane(0.4))
    expected = torch.tensor([0, -math.sin(0.4), math.cos(0.4)], dtype=torch.float64)
    torch.testing.assert_close((found @ expected).abs(), torch.ones(len(found), dtype=torch.float64))
    ball = torch.nn.functional.normalize(cloud(4000, 0), dim=-1)
    assert (estimate_normals(ball, chunk=1000) * ball).sum(-1).abs().mean() > 0.995


def test_normal_consistency_is_the_cosine_between_planes() -> None:
    found = cloud_errors(plane(0.4), plane(0.0), normals=True)
    assert found.normal_accuracy == pytest.approx(math.cos(0.4), abs=1e-9)
    assert found.normal_completeness == pytest.approx(math.cos(0.4), abs=1e-9)
    assert found.normal_consistency == pytest.approx(math.cos(0.4), abs=1e-9)


def test_points_on_a_line_have_no_normals() -> None:
    line = torch.arange(20, dtype=torch.float64)[:, None] * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert estimate_normals(line).isnan().all()
    assert estimate_normals(line[:2]).isnan().all()
    found = cloud_errors(line, line, normals=True)
    assert math.isnan(found.normal_consistency)
    assert found.accuracy == 0


def test_icp_finds_a_small_motion() -> None:
    target = cloud(500, 3)
    motion = Rotation.from_rotvec([0.02, -0.03, 0.01])
    source = torch.from_numpy(motion.inv().apply(target.numpy() - [0.01, 0.02, -0.01]))
    found = icp(source, target, max_distance=0.5)
    np.testing.assert_allclose(found.rotation.numpy(), motion.as_matrix(), atol=1e-6)
    np.testing.assert_allclose(found.translation.numpy(), [0.01, 0.02, -0.01], atol=1e-6)
    torch.testing.assert_close(found.apply(source), target)


def test_icp_is_the_plain_loop() -> None:
    """Pairs by all distances, rigid fits by scipy, on clouds that do not match exactly."""
    target, source = cloud(60, 1), cloud(50, 2)
    moved, before = source.numpy(), (0.0, 0.0)
    for step in range(31):
        distances = cdist(moved, target.numpy())
        near = distances.min(1) < 0.8
        now = (near.mean(), math.sqrt((distances.min(1)[near] ** 2).mean()))
        if step and max(abs(now[0] - before[0]), abs(now[1] - before[1])) < 1e-6:
            break
        before = now
        if step == 30:
            break
        a, b = moved[near], target.numpy()[distances.argmin(1)[near]]
        rotation, _ = Rotation.align_vectors(b - b.mean(0), a - a.mean(0))
        moved = rotation.apply(moved - a.mean(0)) + b.mean(0)
    np.testing.assert_allclose(icp(source, target, 0.8).apply(source).numpy(), moved, atol=1e-9)


def test_icp_out_of_reach_leaves_the_cloud_alone() -> None:
    source = cloud(50, 1)
    torch.testing.assert_close(icp(source, source + 100, 0.1).apply(source), source)


@pytest.mark.parametrize("bad", [torch.zeros(0, 3), torch.full((4, 3), torch.nan), torch.zeros(4, 2)])
def test_clouds_that_are_none_are_refused(bad: torch.Tensor) -> None:
    with pytest.raises(DataError, match="predicted point cloud"):
        cloud_errors(bad, cloud(5, 0))
