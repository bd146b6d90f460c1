"""The dense losses against plain numpy, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lorasub.losses import gradient_loss, regression_loss


def maps(size: tuple[int, int], channels: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Prediction, target, valid, confidence of two scenes with two views."""
    generator = torch.Generator().manual_seed(seed)
    prediction, target = torch.rand(2, 2, 2, *size, channels, generator=generator, dtype=torch.float64)
    valid = torch.rand(2, 2, *size, generator=generator) > 0.3
    confidence = 1 + torch.rand(2, 2, *size, generator=generator, dtype=torch.float64)
    return prediction, target, valid, confidence


def trimmed_mean(values: np.ndarray, quantile: float) -> float:
    """Mean of what is not above the quantile; small samples stay whole."""
    if len(values) <= 1000:
        return float(values.mean())
    return float(values[values <= np.quantile(values, quantile, method="nearest")].mean())


@pytest.mark.parametrize("size", [(6, 7), (32, 40)], ids=["few pixels", "many pixels"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quantile", [0.98, 0.5, 1.0])
def test_regression_equals_plain_numpy(size: tuple[int, int], channels: int, quantile: float) -> None:
    prediction, target, valid, confidence = maps(size, channels)
    found = regression_loss(prediction, target, valid, confidence, gamma=1.5, alpha=0.3, quantile=quantile)
    for scene in range(2):
        mask = valid[scene].numpy()
        error = np.sqrt(((prediction - target)[scene].numpy()[mask] ** 2).sum(-1))
        conf = confidence[scene].numpy()[mask]
        weighted = 1.5 * error * conf - 0.3 * np.log(conf)
        assert found.error[scene].item() == pytest.approx(trimmed_mean(error, quantile), rel=1e-9)
        assert found.confidence[scene].item() == pytest.approx(trimmed_mean(weighted, quantile), rel=1e-9)


def test_outliers_are_dropped_from_value_and_gradient() -> None:
    prediction, target, valid, confidence = maps((32, 40))
    prediction[0, 0, 3, 4] += 1e6
    valid[0, 0, 3, 4] = True
    prediction.requires_grad_()
    loss = regression_loss(prediction, target, valid, confidence)
    assert loss.error[0] < 2
    (loss.error + loss.confidence).sum().backward()
    assert prediction.grad is not None
    assert prediction.grad[0, 0, 3, 4] == 0


def gradient_reference(error: np.ndarray, mask: np.ndarray, scales: int) -> float:
    """``error`` [S, H, W, C] and ``mask`` [S, H, W] of one scene."""
    total = 0.0
    for scale in range(scales):
        e, m = error[:, :: 2**scale, :: 2**scale], mask[:, :: 2**scale, :: 2**scale]
        views, height, width, channels = e.shape
        summed = 0.0
        for s in range(views):
            for i in range(height):
                for j in range(width):
                    if i + 1 < height and m[s, i, j] and m[s, i + 1, j]:
                        summed += np.minimum(np.abs(e[s, i + 1, j] - e[s, i, j]), 100).sum()
                    if j + 1 < width and m[s, i, j] and m[s, i, j + 1]:
                        summed += np.minimum(np.abs(e[s, i, j + 1] - e[s, i, j]), 100).sum()
        total += summed / max(m.sum() * channels, 1)
    return total / scales


@pytest.mark.parametrize(("size", "channels", "scales"), [((9, 12), 1, 4), ((9, 12), 3, 2), ((1, 5), 1, 4)])
def test_gradient_term_equals_a_plain_loop(size: tuple[int, int], channels: int, scales: int) -> None:
    prediction, target, valid, _ = maps(size, channels)
    prediction[0, 0, 0, 2] += 500  # beyond the cap
    found = gradient_loss(prediction, target, valid, scales=scales)
    for scene in range(2):
        expected = gradient_reference((prediction - target)[scene].numpy(), valid[scene].numpy(), scales)
        assert found[scene].item() == pytest.approx(expected)


def test_gradient_term_ignores_a_constant_offset() -> None:
    _, target, valid, _ = maps((9, 12))
    torch.testing.assert_close(gradient_loss(target + 3, target, valid), torch.zeros(2, dtype=torch.float64))


def test_nan_in_invalid_pixels_leaves_no_trace() -> None:
    prediction, target, valid, confidence = maps((32, 40), 3)
    clean = regression_loss(prediction, target, valid, confidence)
    clean_gradient = gradient_loss(prediction, target, valid)
    hole = ~valid
    target[hole], confidence[hole] = torch.nan, torch.nan
    prediction[hole] = torch.inf
    prediction.requires_grad_()
    confidence.requires_grad_()
    loss = regression_loss(prediction, target, valid, confidence)
    gradient = gradient_loss(prediction, target, valid)
    torch.testing.assert_close(loss.error, clean.error)
    torch.testing.assert_close(loss.confidence, clean.confidence)
    torch.testing.assert_close(gradient, clean_gradient)
    (loss.error + loss.confidence + gradient).sum().backward()
    for leaf in (prediction, confidence):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert not leaf.grad[hole].any()


def test_nan_in_a_valid_prediction_shows() -> None:
    """Trimming outliers must not hide that the model left the finite numbers."""
    prediction, target, valid, confidence = maps((32, 40))
    valid[0, 0, 0, 0] = True
    prediction[0, 0, 0, 0] = torch.nan
    loss = regression_loss(prediction, target, valid, confidence)
    assert loss.error[0].isnan()
    assert loss.confidence[0].isnan()
    assert loss.error[1].isfinite()


def test_nothing_valid_is_zero_with_zero_gradients() -> None:
    prediction, target, valid, confidence = maps((32, 40))
    prediction.requires_grad_()
    confidence.requires_grad_()
    nowhere = torch.zeros_like(valid)
    loss = regression_loss(prediction, target * torch.nan, nowhere, confidence)
    gradient = gradient_loss(prediction, target * torch.nan, nowhere)
    total = loss.error + loss.confidence + gradient
    assert not total.any()
    total.sum().backward()
    for leaf in (prediction, confidence):
        assert leaf.grad is not None
        assert not leaf.grad.any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(4, 5), (16, 40)], ids=["whole", "trimmed"])
def test_gradients(size: tuple[int, int], channels: int) -> None:
    prediction, target, valid, confidence = maps(size, channels)
    if size == (16, 40):  # above 1000 valid pixels; check along random directions, the full Jacobian is too large
        valid[:] = True
    prediction.requires_grad_()
    confidence.requires_grad_()

    def total(p: Tensor, c: Tensor) -> Tensor:
        loss = regression_loss(p, target, valid, c)
        return torch.stack([loss.error, loss.confidence, gradient_loss(p, target, valid)])

    assert torch.autograd.gradcheck(total, (prediction, confidence), fast_mode=size == (16, 40))
