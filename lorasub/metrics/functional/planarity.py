"""How flat is what a camera sees? From predicted geometry: the spread of points about their best plane."""

from __future__ import annotations

import torch
from torch import Tensor

from lorasub.geometry import full_precision


@full_precision
def plane_residual(points: Tensor, valid: Tensor) -> Tensor:
    """Root mean squared distance to the best plane, relative to the extent along it.

    The square root of the ratio of the smallest to the largest eigenvalue of the points' covariance: 0 for points on a
    plane, whatever its distance, tilt and size, and 1 at most.

    Args:
        points: ``[..., N, 3]``.
        valid: ``[..., N]`` bool.

    Returns:
        ``[...]`` in [0, 1]; NaN where fewer than 4 points are valid (3 always lie on a plane), where they lie on a line
        or in one spot, or where one is not finite.
    """
    count = valid.sum(-1)
    # Apple's GPUs know no float64
    precise = torch.float32 if points.device.type == "mps" else torch.float64
    p = torch.where(valid[..., None], points, 0.0).to(precise)
    usable = (count > 3) & p.isfinite().all(-1).all(-1)
    p = torch.where(usable[..., None, None], p, 0.0)
    weights = valid[..., None].to(p) / count.clamp(min=1)[..., None, None]
    centred = torch.where(valid[..., None], p - (weights * p).sum(-2, keepdim=True), 0.0)
    spread = torch.linalg.eigvalsh((weights * centred).mT @ centred).clamp(min=0)
    usable = usable & (spread[..., 1] > 1e-12 * spread[..., 2])
    return torch.where(usable, (spread[..., 0] / spread[..., 2]).sqrt(), torch.nan).to(points.dtype)


def best_threshold(scores: Tensor, labels: Tensor) -> Tensor:
    """The threshold with the best balanced accuracy for "label 1 where the score is above".

    Half way between two neighbouring scores; the middle one where several are equally good.

    Args:
        scores: ``[N]``.
        labels: ``[N]`` 0 or 1.

    Returns:
        ``[]``; NaN unless both labels occur.
    """
    positive = labels == 1
    if not positive.any() or positive.all():
        return scores.new_tensor(torch.nan)
    ordered, order = scores.sort()
    positive = positive[order].to(scores)
    # below[i]: share of each class among the i smallest scores
    below = torch.cat([positive.new_zeros(1), positive.cumsum(0)]) / positive.sum()
    below_negative = torch.cat([positive.new_zeros(1), (1 - positive).cumsum(0)]) / (1 - positive).sum()
    balanced = below_negative + (1 - below)
    distinct = torch.ones_like(balanced, dtype=torch.bool)
    distinct[1:-1] = ordered[1:] > ordered[:-1]  # equal scores cannot be told apart
    balanced = torch.where(distinct, balanced, -1.0)
    best = (balanced == balanced.max()).nonzero().flatten()
    cut = int(best[len(best) // 2])
    around = torch.cat([ordered[:1], ordered, ordered[-1:]])
    return (around[cut] + around[cut + 1]) / 2
