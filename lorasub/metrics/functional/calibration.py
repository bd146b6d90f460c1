"""Calibration of confidence: sparsification and the area under its error (Ilg et al., ECCV 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.geometry import full_precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsification:
    """Mean error of what is left when the least trusted pixels are taken away.

    Attributes:
        removed: ``[K]`` shares of the pixels that are taken away, from 0 to below 1.
        by_confidence: ``[K]`` mean error of the rest, the least confident gone first, relative to that of all.
        by_error: ``[K]`` the same with the largest errors gone first: the best that any confidence could do.
    """

    removed: Tensor
    by_confidence: Tensor
    by_error: Tensor

    @property
    def ause(self) -> Tensor:
        """``[]`` area between the two curves: 0 for a perfect order, about 0.5 and more for a useless one."""
        return torch.trapezoid(self.by_confidence - self.by_error, self.removed)


@full_precision
def sparsification(errors: Tensor, confidence: Tensor, steps: int = 50) -> Sparsification:
    """Sparsification curves of one image or scene.

    Pixels of equal confidence are taken away together, each for its share, so that the order in which they come does
    not matter: a constant confidence gives a flat curve.

    Args:
        errors: ``[N]`` not negative.
        confidence: ``[N]``, larger where smaller errors are expected; only its order matters.
        steps: K, evenly spaced shares 0, 1 / K, ... (K - 1) / K.

    Returns:
        The curves; NaN if there are fewer than two pixels, or if all errors are 0.

    Raises:
        ConfigError: ``steps`` is below 2.
    """
    if steps < 2:
        raise ConfigError(f"a sparsification curve needs at least 2 steps, not {steps}")
    removed = torch.arange(steps, device=errors.device, dtype=errors.dtype) / steps
    if len(errors) < 2 or not errors.sum() > 0:
        unknown = torch.full_like(removed, torch.nan)
        return Sparsification(removed=removed, by_confidence=unknown, by_error=unknown)
    return Sparsification(
        removed=removed,
        by_confidence=_mean_of_rest(errors, confidence, removed) / errors.mean(),
        by_error=_mean_of_rest(errors, -errors, removed) / errors.mean(),
    )


@full_precision
def error_by_confidence(errors: Tensor, confidence: Tensor, bins: int = 10) -> tuple[Tensor, Tensor]:
    """Mean confidence and mean error of equally large groups of pixels, from the least to the most confident.

    Args:
        errors: ``[N]``.
        confidence: ``[N]``.
        bins: number of groups; fewer if there are fewer pixels.

    Returns:
        Confidence and error, ``[bins]`` each.
    """
    order = confidence.argsort(stable=True)
    groups = order.tensor_split(min(bins, max(len(order), 1)))
    return (
        torch.stack([confidence[group].mean() for group in groups]),
        torch.stack([errors[group].mean() for group in groups]),
    )


@full_precision
def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation ``[]`` of two ``[N]``, with mean ranks for ties; NaN where one is constant."""
    ranks = torch.stack([_mean_ranks(a), _mean_ranks(b)])
    return torch.corrcoef(ranks)[0, 1] if ranks.shape[1] > 1 else ranks.new_tensor(torch.nan)


def _mean_of_rest(errors: Tensor, confidence: Tensor, removed: Tensor) -> Tensor:
    """Mean error after the least confident share is taken away, with ties at their mean error."""
    _, group, counts = torch.unique(
        confidence, return_inverse=True, return_counts=True
    )  # sorted, least confident first
    sums = torch.zeros(len(counts), dtype=errors.dtype, device=errors.device).index_add_(0, group, errors)
    # the cumulated error is piecewise linear in the number of pixels taken away: mean error within a tie
    number = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(errors)
    gone = torch.cat([sums.new_zeros(1), sums.cumsum(0)])
    taken = removed * len(errors)
    right = torch.searchsorted(number, taken, right=True).clamp(max=len(number) - 1)
    share = (taken - number[right - 1]) / (number[right] - number[right - 1])
    left_error = gone[-1] - torch.lerp(gone[right - 1], gone[right], share)
    return left_error / (len(errors) - taken)


def _mean_ranks(values: Tensor) -> Tensor:
    _, group, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ranks: Tensor = counts.cumsum(0).double() - (counts - 1) / 2
    return ranks[group]
