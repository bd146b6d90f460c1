"""Depth errors, and the alignments under which they are measured.

The alignments without a project's name are closed forms or converged; those with one repeat what that project's code
computes, for numbers that are to stand beside its published ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.geometry import full_precision
from lorasub.metrics.functional.published_alignments import (
    lad2_line,
    lower_median,
    recons_eval_scale,
    submining_truth,
)

DepthAlignment = Literal[
    "none",
    "median",
    "scale",
    "scale_shift",
    "scale_shift_lstsq",
    "recons_eval_median",
    "recons_eval_scale",
    "cut3r_lad2",
    "cut3r_lad2_nyu",
    "submining_lad2",
]

#: Iterations of the re-weighted least squares of ``scale_shift``; it settles within a few dozen.
_IRLS_ITERATIONS = 50
#: Numbers that an alignment fits. As many pixels as that are met exactly, whatever the prediction.
_FITTED = {"none": 0, "median": 1, "scale": 1, "recons_eval_median": 1, "recons_eval_scale": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthErrors:
    """Errors of each depth map; NaN where nothing was valid.

    Attributes:
        abs_rel: mean of ``|p - g| / g``.
        sq_rel: mean of (p - g)^2 / g, in the unit of the depth.
        delta1: share of pixels with max(p / g, g / p) < 1.25.
        mae: mean of ``|p - g|``, in the unit of the depth.
        rmse: root of the mean squared error, in the unit of the depth.
        log_rmse: root of the mean squared difference of logarithms, p held above 1e-5.
    """

    abs_rel: Tensor
    sq_rel: Tensor
    delta1: Tensor
    mae: Tensor
    rmse: Tensor
    log_rmse: Tensor


@full_precision
def align_depth(prediction: Tensor, target: Tensor, valid: Tensor, alignment: DepthAlignment) -> Tensor:
    """Move predicted depth onto the true depth, each row by itself.

    - ``none``: as it is (metric evaluation);
    - ``median``: times median(g) / median(p);
    - ``scale``: times the s that minimises ``sum |s p - g|``, exactly (a weighted median of the ratios);
    - ``scale_shift``: s p + t with the least sum of absolute errors, by iteratively re-weighted least squares;
    - ``scale_shift_lstsq``: s p + t with the least sum of squared errors;
    - ``recons_eval_median``: ``median`` with the lower of the two middle values, as torch's;
    - ``recons_eval_scale``: ``scale`` by ten steps of re-weighted least squares, as recons_eval and CUT3R;
    - ``cut3r_lad2``, ``cut3r_lad2_nyu``: ``scale_shift`` by 1,000 steps of Adam with learning rate 1e-4, or 1e-3, as
      recons_eval and CUT3R. It cannot move s and t by more than about 0.1, or 1, from where it starts (the ratio of
      medians, and 0), and so often falls short of the minimum: for comparison with published numbers only.

    Args:
        prediction: ``[..., N]`` positive depth.
        target: ``[..., N]`` positive depth.
        valid: ``[..., N]`` bool; only these pixels are read for the fit.
        alignment: one of the above.

    Returns:
        ``[..., N]``. NaN in rows where :func:`alignment_determined` is false.

    Raises:
        ConfigError: an unknown alignment.
    """
    if alignment not in get_args(DepthAlignment) or alignment == "submining_lad2":
        raise ConfigError(
            f"predicted depth cannot be moved by alignment {alignment!r}; choose from "
            f"{', '.join(name for name in get_args(DepthAlignment) if name != 'submining_lad2')}"
        )
    if alignment == "none":
        return prediction
    p, g = torch.where(valid, prediction, 0.0), torch.where(valid, target, 0.0)
    shift = p.new_zeros(p.shape[:-1])
    if alignment == "median":
        scale = masked_median(target, valid) / masked_median(prediction, valid)
    elif alignment == "recons_eval_median":
        scale = lower_median(target, valid) / lower_median(prediction, valid)
    elif alignment == "scale":
        scale = _least_absolute_scale(p, g, valid)
    elif alignment == "recons_eval_scale":
        scale = recons_eval_scale(p, g, valid)
    elif alignment in ("cut3r_lad2", "cut3r_lad2_nyu"):
        start = lower_median(target, valid) / lower_median(prediction, valid)
        scale, shift = lad2_line(p, g, valid, start, learning_rate=1e-4 if alignment == "cut3r_lad2" else 1e-3)
    else:
        weights = valid.to(p.dtype)
        scale, shift = _weighted_line(p, g, weights)
        if alignment == "scale_shift":
            scale, shift = _least_absolute_line(p, g, weights, scale, shift)
    aligned = scale[..., None] * prediction + shift[..., None]
    return torch.where(alignment_determined(valid, alignment)[..., None], aligned, torch.nan)


def matched_depths(
    prediction: Tensor, target: Tensor, valid: Tensor, alignment: DepthAlignment
) -> tuple[Tensor, Tensor]:
    """Prediction and truth as they are to be compared.

    All alignments move the prediction (:func:`align_depth`) but ``submining_lad2``, that of the released evaluation of
    "Mining Attribute Subspaces": it moves the truth onto the prediction, and errors are then in the prediction's unit.

    Args:
        prediction: ``[..., N]`` positive depth.
        target: ``[..., N]`` positive depth, 0 where not valid.
        valid: ``[..., N]`` bool.
        alignment: any.

    Returns:
        Both, ``[..., N]``.
    """
    if alignment == "submining_lad2":
        moved = submining_truth(prediction, target, valid)
        return prediction, torch.where(alignment_determined(valid, alignment)[..., None], moved, torch.nan)
    return align_depth(prediction, target, valid, alignment), target


def alignment_determined(valid: Tensor, alignment: DepthAlignment) -> Tensor:
    """Whether there are more pixels than an alignment has numbers to fit, so that an error means something.

    One pixel is met exactly by any scale, and two by scale and shift: their error of 0 would say nothing.

    Args:
        valid: ``[..., N]`` bool.
        alignment: see :func:`align_depth`.

    Returns:
        ``[...]`` bool.
    """
    return valid.sum(-1) > _FITTED.get(alignment, 2)


@full_precision
def depth_errors(prediction: Tensor, target: Tensor, valid: Tensor) -> DepthErrors:
    """AbsRel, SqRel, delta < 1.25, MAE, RMSE and LogRMSE over the valid pixels of each row.

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
    logs = p.clamp(min=1e-5).log() - g.log()
    return DepthErrors(
        abs_rel=(difference.abs() / g).sum(-1) / count,
        sq_rel=(difference.square() / g).sum(-1) / count,
        delta1=depth_within(prediction, target, valid, 1.25),
        mae=difference.abs().sum(-1) / count,
        rmse=(difference.square().sum(-1) / count).sqrt(),
        log_rmse=(logs.square().sum(-1) / count).sqrt(),
    )


@full_precision
def depth_within(prediction: Tensor, target: Tensor, valid: Tensor, ratio: float) -> Tensor:
    """Share of the valid pixels of each row with max(p / g, g / p) below a ratio; shapes as :func:`depth_errors`."""
    p, g = torch.where(valid, prediction, 1.0), torch.where(valid, target, 1.0)
    within = (torch.maximum(p / g, g / p) < ratio) & (p > 0) & valid
    return torch.where(p.isnan().any(-1), torch.nan, within.sum(-1) / valid.sum(-1))


def masked_median(values: Tensor, valid: Tensor) -> Tensor:
    """Median ``[...]`` of the valid ``[..., N]``, the mean of the two middle values for even counts, as numpy's."""
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
