"""VGGT's dense losses for depth and point maps: confidence-weighted regression and multi-scale gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.geometry import full_precision
from lorasub.losses.reduction import below_quantile, masked_mean

#: A difference of neighbouring errors counts at most this much (as in VGGT).
_MAX_GRADIENT = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionLoss:
    """Dense losses of each scene, all ``[B]``.

    Attributes:
        confidence: mean of gamma * error * confidence - alpha * log(confidence). It goes negative as the confidence
            grows, and says little about how good the prediction is.
        error: mean of the plain error, the number to look at.
    """

    confidence: Tensor
    error: Tensor


@full_precision
def regression_loss(
    prediction: Tensor,
    target: Tensor,
    valid: Tensor,
    confidence: Tensor,
    *,
    gamma: float = 1.0,
    alpha: float = 0.2,
    quantile: float = 0.98,
) -> RegressionLoss:
    """Euclidean error of every pixel, weighted by the predicted confidence and plain.

    As the released VGGT, but per scene instead of over the batch (see :mod:`lorasub.losses`), and without its cap of
    100 on the weighted error, beyond which there is no gradient: a diverging confidence could not come back.

    Args:
        prediction: ``[B, S, H, W, C]``; C = 1 for depth, 3 for points.
        target: ``[B, S, H, W, C]`` of a normalised scene.
        valid: ``[B, S, H, W]`` bool. Other pixels are not read at all.
        confidence: ``[B, S, H, W]`` at least 1.
        gamma: weight of the confident error.
        alpha: weight of the reward for confidence.
        quantile: in either mean, values above this quantile of their scene are dropped as outliers; 1 drops none.

    Returns:
        Both means, ``[B]``, 0 for scenes without a valid pixel.
    """
    error = torch.linalg.vector_norm(_errors(prediction, target, valid), dim=-1)
    confidence = torch.where(valid, confidence, 1.0)
    weighted = gamma * error * confidence - alpha * confidence.log()
    return RegressionLoss(
        confidence=masked_mean(weighted, below_quantile(weighted, valid, quantile)),
        error=masked_mean(error, below_quantile(error, valid, quantile)),
    )


@full_precision
def gradient_loss(prediction: Tensor, target: Tensor, valid: Tensor, *, scales: int = 4) -> Tensor:
    """Compares the gradients of prediction and target from pixel to pixel, at several scales.

    At scale k every 2^k-th pixel is taken; the absolute differences of the error between horizontal and vertical
    neighbours, both valid, are summed and divided by the number of valid values, as in the released VGGT, but per scene
    instead of over the batch. The scales are averaged.

    Args:
        prediction: ``[B, S, H, W, C]``.
        target: ``[B, S, H, W, C]``.
        valid: ``[B, S, H, W]`` bool.
        scales: number of scales.

    Returns:
        ``[B]``, 0 for scenes without a pair of valid neighbours.
    """
    errors = _errors(prediction, target, valid)
    total = torch.zeros_like(errors[:, 0, 0, 0, 0])
    for scale in range(scales):
        step = 2**scale
        error, mask = errors[:, :, ::step, ::step], valid[:, :, ::step, ::step]
        horizontal = _neighbour_differences(error, mask, dim=3)
        vertical = _neighbour_differences(error, mask, dim=2)
        count = (mask.flatten(1).sum(1) * error.shape[-1]).clamp(min=1)
        total = total + (horizontal + vertical) / count
    return total / scales


def _errors(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Prediction minus target, 0 at invalid pixels: both sides are masked, so that no NaN reaches a gradient."""
    mask = valid[..., None]
    return torch.where(mask, prediction, 0.0) - torch.where(mask, target, 0.0)


def _neighbour_differences(error: Tensor, mask: Tensor, dim: int) -> Tensor:
    size = error.shape[dim] - 1
    difference = error.narrow(dim, 1, size) - error.narrow(dim, 0, size)
    both = mask.narrow(dim, 1, size) & mask.narrow(dim, 0, size)
    counted = torch.where(both[..., None], difference, 0.0)
    return counted.abs().clamp(max=_MAX_GRADIENT).flatten(1).sum(1)
