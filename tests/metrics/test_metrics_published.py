"""What other projects' code computes, against loops that follow their text line by line in numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from lorasub.metrics.functional import align_depth, matched_depths

Array = npt.NDArray[np.float64]


def frame(seed: int = 0, count: int = 200) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    target = rng.uniform(1, 4, count)
    prediction = 0.8 * target + 0.15 + rng.normal(0, 0.05, count)
    valid = rng.random(count) > 0.2
    return prediction, np.where(valid, target, 0.0), valid


def adam(p: Array, g: Array, scale: float, rate: float) -> tuple[float, float]:
    """1,000 scalar steps of Adam (Kingma and Ba, algorithm 1) on sum |s p + t - g|."""
    x, m, v = np.array([scale, 0.0]), np.zeros(2), np.zeros(2)
    before = np.inf
    for step in range(1, 1001):
        residual = x[0] * p + x[1] - g
        gradient = np.array([np.sum(np.sign(residual) * p), np.sum(np.sign(residual))])
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        x = x - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        loss = np.abs(residual).sum()
        if abs(before - loss) < 1e-6:
            break
        before = loss
    return x[0], x[1]


def to_torch(*arrays: Array) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


@pytest.mark.parametrize(("alignment", "rate"), [("cut3r_lad2", 1e-4), ("cut3r_lad2_nyu", 1e-3)])
def test_lad2_is_adam_from_the_ratio_of_medians(alignment: str, rate: float) -> None:
    p, g, valid = frame()
    start = np.sort(g[valid])[(valid.sum() - 1) // 2] / np.sort(p[valid])[(valid.sum() - 1) // 2]
    scale, shift = adam(p[valid], g[valid], start, rate)
    found = align_depth(*to_torch(p, g, valid), alignment)
    np.testing.assert_allclose(found.numpy(), scale * p + shift, rtol=1e-9)


def test_lad2_falls_short_where_the_line_is_far() -> None:
    """pred = 0.1 gt + 0.5: steps of 1e-4 cannot reach a scale of 10 and a shift of -5."""
    g = np.random.default_rng(0).uniform(1, 5, 500)
    tensors = to_torch(0.1 * g + 0.5, g, np.ones(500, dtype=bool))
    errors = {
        name: ((align_depth(*tensors, name) - tensors[1]).abs() / tensors[1]).mean().item()
        for name in ("cut3r_lad2", "scale_shift")
    }
    assert errors["cut3r_lad2"] > 0.2
    assert errors["scale_shift"] < 1e-6


def test_recons_eval_scale_is_ten_reweighted_steps() -> None:
    p, g, valid = frame(1)
    x, y = p[valid], g[valid]
    scale = np.mean(y) / np.mean(x)
    for _ in range(10):
        weights = 1 / (np.abs(scale * x - y) + 1e-8)
        scale = np.sum(weights * x * y) / np.sum(weights * x**2)
    found = align_depth(*to_torch(p, g, valid), "recons_eval_scale")
    np.testing.assert_allclose(found.numpy(), scale * p, rtol=1e-9)


def test_recons_eval_median_takes_the_lower_of_two() -> None:
    p, g = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 6.0, 7.0, 9.0])
    found = align_depth(*to_torch(p, g, np.ones(4, dtype=bool)), "recons_eval_median")
    np.testing.assert_allclose(found.numpy(), p * 6.0 / 2.0)


def test_the_papers_evaluation_moves_the_truth() -> None:
    p, g, valid = frame(2)
    start = np.sort(p)[(len(p) - 1) // 2] / np.sort(g)[(len(g) - 1) // 2]  # invalid pixels, which are 0, included
    scale, shift = adam(g[valid], p[valid], start, 1e-3)
    prediction, truth = matched_depths(*to_torch(p, g, valid), "submining_lad2")
    np.testing.assert_allclose(prediction.numpy(), p)
    np.testing.assert_allclose(truth.numpy()[valid], (scale * g + shift)[valid], rtol=1e-9)
    recons_eval, _ = matched_depths(*to_torch(p, g, valid), "cut3r_lad2_nyu")
    theirs = np.mean(np.abs(p - truth.numpy())[valid] / truth.numpy()[valid])
    other = np.mean(np.abs(recons_eval.numpy() - g)[valid] / g[valid])
    assert abs(theirs - other) > 1e-5  # the same prediction, two numbers: never to be compared
