"""Umeyama's closed form against known transforms, against scipy, and where it must refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from lorasub.errors import NumericalError
from lorasub.geometry import umeyama


def cloud(seed: int, count: int = 20) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 3)))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3), count=st.integers(3, 30))
def test_finds_the_transform_that_was_applied(seed: int, scale: float, count: int) -> None:
    source = cloud(seed, count)
    rotation = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    translation = torch.tensor([3.0, -20.0, 0.5], dtype=torch.float64)
    found = umeyama(source, scale * source @ rotation.T + translation)
    torch.testing.assert_close(found.scale.item(), scale, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.rotation, rotation, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.apply(source), scale * source @ rotation.T + translation, rtol=1e-5, atol=1e-5)


def test_rotation_agrees_with_scipy_on_noisy_weighted_points() -> None:
    source, target = cloud(0), cloud(1)
    weights = torch.rand(20, dtype=torch.float64)
    found = umeyama(source, target, weights, with_scale=False)
    x, y, w = source.numpy(), target.numpy(), weights.numpy()
    x, y = x - np.average(x, axis=0, weights=w), y - np.average(y, axis=0, weights=w)
    expected, _ = Rotation.align_vectors(y, x, weights=w)
    np.testing.assert_allclose(found.rotation.numpy(), expected.as_matrix(), atol=1e-10)
    assert found.scale == 1


@pytest.mark.parametrize("mirrored", [False, True])
def test_is_the_least_squares_optimum(mirrored: bool) -> None:
    """scipy searches scale, rotation and translation from several starts and finds nothing better."""
    source, target = cloud(2), cloud(3)
    if mirrored:  # the best orthogonal matrix would be a reflection, which changes the scale as well
        target = source * torch.tensor([1.0, -1.0, 1.0]) + 0.3 * target
    weights = torch.rand(20, dtype=torch.float64)

    def cost(parameters: np.ndarray) -> float:
        matrix = np.exp(parameters[0]) * Rotation.from_rotvec(parameters[1:4]).as_matrix()
        residuals = source.numpy() @ matrix.T + parameters[4:] - target.numpy()
        return float((weights.numpy()[:, None] * residuals**2).sum())

    found = umeyama(source, target, weights)
    own = (weights[:, None] * (found.apply(source) - target).square()).sum().item()
    starts = [np.r_[np.log(0.3), rotvec, np.zeros(3)] for rotvec in np.random.default_rng(0).normal(size=(8, 3)) * 2]
    assert own == pytest.approx(min(minimize(cost, start).fun for start in starts), rel=1e-6)


def test_never_answers_with_a_reflection() -> None:
    source = cloud(4)
    mirrored = source * torch.tensor([1.0, 1.0, -1.0])
    assert torch.linalg.det(umeyama(source, mirrored).rotation).item() == pytest.approx(1.0)


def test_points_in_a_plane_are_enough() -> None:
    source = cloud(5) * torch.tensor([1.0, 1.0, 0.0])
    rotation = torch.from_numpy(Rotation.random(random_state=1).as_matrix())
    torch.testing.assert_close(umeyama(source, 2 * source @ rotation.T).rotation, rotation)


def test_masked_points_are_not_read() -> None:
    source, target = cloud(6), cloud(7)
    mask = torch.arange(20) < 12
    expected = umeyama(source[mask], target[mask])
    source[~mask], target[~mask] = torch.nan, torch.inf
    found = umeyama(source, target, mask)
    torch.testing.assert_close(found.rotation, expected.rotation)
    torch.testing.assert_close(found.scale, expected.scale)


def test_float32_points_far_from_the_origin() -> None:
    source = cloud(8).float()
    found = umeyama(source + 1000, source * 2)
    assert found.scale.item() == pytest.approx(2.0, rel=1e-4)
    assert found.apply(source).dtype == torch.float32


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (cloud(0, 2), "at least 3"),
        (torch.outer(torch.arange(9.0), torch.tensor([1.0, 2, 3])), "on a line"),
        (torch.ones(9, 3), "on a line or in one spot"),
        (torch.full((9, 3), torch.nan), "not finite"),
    ],
)
def test_refuses_what_has_no_answer(source: torch.Tensor, message: str) -> None:
    target = cloud(1, source.shape[0]).to(source.dtype)
    with pytest.raises(NumericalError, match=message):
        umeyama(source, target)
    if "finite" not in message and "spot" not in message:
        with pytest.raises(NumericalError, match=message):
            umeyama(target, source)
