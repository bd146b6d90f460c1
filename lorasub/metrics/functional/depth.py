"""Depth errors, and the alignments under which they are measured. All solutions are closed forms or converged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.geometry import full_precision

DepthAlignment = Literal["none", "median", "scale", "scale_shift", "scale_shift_lstsq"]

#: Iterations of the re-weighted least squares of ``scale_shift``; it settles within a few dozen.
_IRLS_ITERATIONS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthErrors:
    """Errors of each depth map; NaN where nothing was valid.

    Attributes:
        abs_rel: mean of |p - g| / g.
        delta1: share of pixels with max(p / g, g / p) < 1.25.
        rmse: root of the mean squared error, in the unit of the depth.
    """

    abs_rel: Tensor
    delta1: Tensor
    rmse: Tensor


@full_precision
def align_depth(prediction: Tensor, target: Tensor, valid: Tensor, alignment: DepthAlignment) -> Tensor:
    """Move predicted depth onto the true depth, each row by itself.

    - ``none``: as it is (metric evaluation);
    - ``median``: times median(g) / median(p);
    - ``scale``: times the s that minimises sum |s p - g|, exactly (a weighted median of the ratios);
    - ``scale_shift``: s p + t with the least sum of absolute errors, by iteratively re-weighted least squares;
    - ``scale_shift_lstsq``: s p + t with the least sum of squared errors.

    Args:
        prediction: ``[..., N]`` positive depth.
        target: ``[..., N]`` positive depth.
        valid: ``[..., N]`` bool; only these pixels are read for the fit.
        alignment: one of the above.

    Returns:
        ``[..., N]``. A row without valid pixels is unspecified but for its shape.

    Raises:
        ConfigError: an unknown alignment.
    """
    if alignment not in get_args(DepthAlignment):
        raise ConfigError(f"unknown depth alignment {alignment!r}; choose from {', '.join(get_args(DepthAlignment))}")
    if alignment == "none":
        return prediction
    p, g = torch.where(valid, prediction, 0.0), torch.where(valid, target, 0.0)
    if alignment == "median":
        return prediction * (_masked_median(target, valid) / _masked_median(prediction, valid))[..., None]
    if alignment == "scale":
        return prediction * _least_absolute_scale(p, g, valid)[..., None]
    weights = valid.to(p.dtype)
    scale, shift = _weighted_line(p, g, weights)
    if alignment == "scale_shift":
        scale, shift = _least_absolute_line(p, g, weights, scale, shift)
    return scale[..., None] * prediction + shift[..., None]


@full_precision
def depth_errors(prediction: Tensor, target: Tensor, valid: Tensor) -> DepthErrors:
    """AbsRel, delta < 1.25 and RMSE over the valid pixels of each row.

    Args:
        prediction: ``[..., N]``, already aligned. A depth of 0 or below is an outlier for delta, whatever its size.
        target: ``[..., N]`` positive depth.
        valid: ``[..., N]`` bool.

    Returns:
        One value per row, ``[...]`` each.
    """
    p, g = torch.where(valid, prediction, 1.0), torch.where(valid, target, 1.0)
    count = valid.sum(-1)
    difference = p - g
    within = (torch.maximum(p / g, g / p) < 1.25) & (p > 0) & valid
    return DepthErrors(
        abs_rel=(difference.abs() / g).sum(-1) / count,
        delta1=within.sum(-1) / count,
        rmse=(difference.square().sum(-1) / count).sqrt(),
    )


def _masked_median(values: Tensor, valid: Tensor) -> Tensor:
    """Median with the mean of the two middle values for even counts, as ``numpy.median``."""
    ordered = torch.where(valid, values, torch.inf).sort(dim=-1).values
    count = valid.sum(-1, keepdim=True)
    low = ordered.gather(-1, ((count - 1) // 2).clamp(min=0))
    high = ordered.gather(-1, (count // 2).clamp(max=values.shape[-1] - 1))
    return ((low + high) / 2).squeeze(-1)


def _least_absolute_scale(p: Tensor, g: Tensor, valid: Tensor) -> Tensor:
    """argmin_s sum |s p - g|: the median of the ratios g / p, each with the weight |p|."""
    weights = torch.where(valid, p.abs(), 0.0)
    ratios = torch.where(weights > 0, g / p, torch.inf)
    ratios, order = ratios.sort(dim=-1)
    cumulated = weights.gather(-1, order).cumsum(-1)
    middle = (cumulated < cumulated[..., -1:] / 2).sum(-1, keepdim=True)
    return ratios.gather(-1, middle.clamp(max=p.shape[-1] - 1)).squeeze(-1)


def _weighted_line(p: Tensor, g: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """argmin_{s,t} sum w (s p + t - g)^2; s = 0 where p is constant."""
    total = weights.sum(-1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)
    p_mean = (weights * p).sum(-1, keepdim=True) / total
    g_mean = (weights * g).sum(-1, keepdim=True) / total
    variance = (weights * (p - p_mean).square()).sum(-1)
    covariance = (weights * (p - p_mean) * (g - g_mean)).sum(-1)
    scale = torch.where(variance > 0, covariance / variance, 0.0)
    return scale, g_mean.squeeze(-1) - scale * p_mean.squeeze(-1)


def _least_absolute_line(p: Tensor, g: Tensor, weights: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """argmin_{s,t} sum |s p + t - g|, from the least-squares line."""
    # Residuals below this are as good as 0; without the floor one pixel that is met exactly would hold the line.
    mean_depth = (weights * g).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True).clamp(min=1)
    floor = (1e-5 * mean_depth).clamp(min=torch.finfo(p.dtype).tiny ** 0.5)
    for _ in range(_IRLS_ITERATIONS):
        residual = (scale[..., None] * p + shift[..., None] - g).abs()
        scale, shift = _weighted_line(p, g, weights / torch.maximum(residual, floor))
    return scale, shift
