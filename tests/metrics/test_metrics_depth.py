"""Depth alignments and errors against numpy, and scipy's linear programming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.metrics.functional import align_depth, depth_errors


def rows(count: int = 61, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Two rows of predicted and true depth with outliers, and a mask."""
    generator = torch.Generator().manual_seed(seed)
    target = 1 + 4 * torch.rand(2, count, generator=generator, dtype=torch.float64)
    prediction = 0.3 * target + 0.4 + 0.05 * torch.randn(2, count, generator=generator, dtype=torch.float64)
    prediction[:, ::9] = 0.1 + 3 * torch.rand(2, prediction[:, ::9].shape[1], generator=generator, dtype=torch.float64)
    valid = torch.rand(2, count, generator=generator) > 0.2
    return prediction.to(dtype), target.to(dtype), valid


def least_absolute(columns: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, float]:
    """The exact minimiser of sum |columns @ x - g| by linear programming, and the minimum."""
    n, k = columns.shape
    cost = np.r_[np.zeros(k), np.ones(n)]
    upper = np.block([[columns, -np.eye(n)], [-columns, -np.eye(n)]])
    found = linprog(cost, upper, np.r_[g, -g], bounds=[(None, None)] * k + [(0, None)] * n)
    return found.x[:k], found.fun


@pytest.mark.parametrize("count", [60, 61])
def test_median_is_numpys(count: int) -> None:
    prediction, target, valid = rows(count)
    found = align_depth(prediction, target, valid, "median")
    for row in range(2):
        p, g = prediction[row][valid[row]].numpy(), target[row][valid[row]].numpy()
        expected = prediction[row] * (np.median(g) / np.median(p))
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize("seed", range(5))
def test_scale_is_the_exact_least_absolute_solution(seed: int) -> None:
    prediction, target, valid = rows(seed=seed)
    found = align_depth(prediction, target, valid, "scale")
    for row in range(2):
        p, g = prediction[row][valid[row]].numpy(), target[row][valid[row]].numpy()
        (scale,), minimum = least_absolute(p[:, None], g)
        assert (found[row] / prediction[row]).mean().item() == pytest.approx(scale)
        assert (found[row] - target[row])[valid[row]].abs().sum().item() == pytest.approx(minimum)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(5))
def test_scale_and_shift_reach_the_least_absolute_minimum(seed: int, dtype: torch.dtype) -> None:
    prediction, target, valid = rows(seed=seed, dtype=dtype)
    found = align_depth(prediction, target, valid, "scale_shift")
    for row in range(2):
        p, g = prediction[row][valid[row]].numpy(), target[row][valid[row]].numpy()
        _, minimum = least_absolute(np.stack([p, np.ones_like(p)], -1), g)
        own = (found[row] - target[row])[valid[row]].abs().sum().item()
        assert own == pytest.approx(minimum, rel=1e-3)


def test_least_squares_line_is_numpys() -> None:
    prediction, target, valid = rows()
    found = align_depth(prediction, target, valid, "scale_shift_lstsq")
    for row in range(2):
        p, g = prediction[row][valid[row]].numpy(), target[row][valid[row]].numpy()
        slope, intercept = np.polyfit(p, g, 1)
        torch.testing.assert_close(found[row], prediction[row] * slope + intercept)


def test_the_published_toy_is_aligned() -> None:
    """prediction = 0.1 g + 0.5: an optimiser with a small step leaves AbsRel at 0.3; both solutions here reach 0."""
    _, target, valid = rows()
    prediction = 0.1 * target + 0.5
    for alignment in ("scale_shift", "scale_shift_lstsq"):
        errors = depth_errors(align_depth(prediction, target, valid, alignment), target, valid)
        assert errors.abs_rel.max() < 1e-9


@pytest.mark.parametrize("alignment", ["median", "scale"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), factor=st.floats(1e-3, 1e3))
def test_scale_alignments_forget_the_predictions_unit(alignment: str, seed: int, factor: float) -> None:
    prediction, target, valid = rows(seed=seed)
    expected = align_depth(prediction, target, valid, alignment)
    torch.testing.assert_close(align_depth(factor * prediction, target, valid, alignment), expected)


@pytest.mark.parametrize("alignment", ["none", "median", "scale", "scale_shift", "scale_shift_lstsq"])
def test_masked_pixels_are_not_read(alignment: str) -> None:
    prediction, target, valid = rows()
    expected = align_depth(prediction, target, valid, alignment)
    errors = depth_errors(expected, target, valid)
    poisoned_prediction, poisoned_target = prediction.clone(), target.clone()
    poisoned_prediction[~valid], poisoned_target[~valid] = torch.nan, torch.inf
    found = align_depth(poisoned_prediction, poisoned_target, valid, alignment)
    torch.testing.assert_close(found[valid], expected[valid])
    again = depth_errors(found, poisoned_target, valid)
    torch.testing.assert_close(torch.stack([again.abs_rel, again.delta1, again.rmse]), _stack(errors))


def _stack(errors) -> Tensor:
    return torch.stack([errors.abs_rel, errors.delta1, errors.rmse])


def test_errors_are_numpys() -> None:
    prediction, target, valid = rows()
    found = depth_errors(prediction, target, valid)
    for row in range(2):
        p, g = prediction[row][valid[row]].numpy(), target[row][valid[row]].numpy()
        assert found.abs_rel[row].item() == pytest.approx(np.mean(np.abs(p - g) / g))
        assert found.rmse[row].item() == pytest.approx(np.sqrt(np.mean((p - g) ** 2)))
        assert found.delta1[row].item() == pytest.approx(np.mean(np.maximum(p / g, g / p) < 1.25))


def test_depth_below_zero_is_no_inlier() -> None:
    prediction, target = torch.tensor([-1.0, -1.0, 0.0, 1.0]), torch.ones(4)
    assert depth_errors(prediction, target, torch.ones(4, dtype=torch.bool)).delta1 == 0.25


@pytest.mark.parametrize("alignment", ["none", "median", "scale", "scale_shift", "scale_shift_lstsq"])
def test_nothing_valid_is_nan(alignment: str) -> None:
    prediction, target, valid = rows()
    valid[1] = False
    errors = depth_errors(align_depth(prediction, target, valid, alignment), target, valid)
    assert _stack(errors)[:, 0].isfinite().all()
    assert _stack(errors)[:, 1].isnan().all()


@pytest.mark.parametrize(("alignment", "fitted"), [("median", 1), ("scale", 1), ("scale_shift", 2), ("cut3r_lad2", 2)])
def test_as_many_pixels_as_fitted_numbers_say_nothing(alignment: str, fitted: int) -> None:
    """One pixel is met by any scale: an error of 0 would be a lie."""
    prediction, target, valid = rows()
    valid[:] = False
    valid[:, : fitted + 1] = True
    valid[1, 0] = False
    errors = depth_errors(align_depth(prediction, target, valid, alignment), target, valid)
    assert _stack(errors)[:, 0].isfinite().all()
    assert _stack(errors)[:, 1].isnan().all()


def test_unknown_alignment_is_named() -> None:
    with pytest.raises(ConfigError, match="'medain'"):
        align_depth(*rows(), "medain")
