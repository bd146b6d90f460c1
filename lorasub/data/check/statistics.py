"""Tells a difference between two interpretations from chance: likelihood ratios, and their spread over the views.

Residuals have heavy tails: wrong matches, occlusions, moving things. They are taken as Cauchy-distributed, so that the
logarithm of the likelihood ratio of two interpretations is, for each residual r,

    log((r_other^2 + s^2) / (r_read^2 + s^2)) / 2

with a scale s (the smaller median of the two). A pair of views gives the mean over its residuals. The uncertainty comes
from the views themselves: leaving out each view in turn (the delete-one jackknife; Efron & Stein 1981) also covers what
all matches of a pair share, such as the error of its relative pose.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.stats import t as student
from torch import Tensor

#: A pair of views says at most this much (errors that grow by 65 % or more), so that all pairs are heard alike.
MOST = 0.5
#: What all points of a single pair may share (an error of its pose), as no other pair can tell.
SHARED_BY_A_PAIR = 0.15
#: Pairs of views with fewer residuals say nothing.
LEAST_RESIDUALS = 10


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over pairs of views.

    Attributes:
        mean: the value; NaN if there is no pair.
        error: its standard error.
        freedom: degrees of freedom of the error.
    """

    mean: float
    error: float
    freedom: int

    def above(self, value: float, confidence: float) -> bool:
        """Whether the true value is above another one, at this one-sided confidence (Student's t)."""
        if not math.isfinite(self.mean) or self.freedom < 1:
            return False
        return self.mean - _quantile(confidence, self.freedom) * self.error > value

    def below(self, value: float, confidence: float) -> bool:
        """Whether the true value is below another one."""
        return Estimate(-self.mean, self.error, self.freedom).above(-value, confidence)


@functools.cache  # scipy needs 0.1 ms for each, and there are few
def _quantile(confidence: float, freedom: int) -> float:
    return float(student.ppf(confidence, freedom))


@dataclass(frozen=True, slots=True, eq=False)
class PairEvidence:
    """Evidence of each of P pairs of views for another interpretation.

    Attributes:
        ratios: ``[P, N]`` logarithms of likelihood ratios, above 0 where the other interpretation fits worse; NaN where
            there is none.
        mean: ``[P]`` theirs, limited so that all pairs are heard alike; NaN where a pair says nothing.
        weight: ``[P]`` how much the interpretation changes the residuals, relative to their size, at most 1. A pair in
            which hardly anything changes says nothing, whatever its ratio.
    """

    ratios: Tensor
    mean: Tensor
    weight: Tensor


def compare_residuals(read: Tensor, other: Tensor, floor: float) -> PairEvidence:
    """Evidence of each pair of views against another interpretation.

    Args:
        read: ``[P, N]`` residuals as read; NaN where there is none.
        other: ``[P, N]`` residuals under the other interpretation; infinite where it is impossible.
        floor: residuals below this are noise.
    """
    known = ~(read.isnan() | other.isnan())
    read, other = (torch.where(known, r.clamp(max=1e6 * floor), torch.nan) for r in (read, other))
    scale = torch.minimum(median(read), median(other)).clamp(min=floor)[:, None]
    ratios = 0.5 * ((other.square() + scale.square()).log() - (read.square() + scale.square()).log())
    mean = torch.where(known.sum(dim=1) >= LEAST_RESIDUALS, ratios.nanmean(dim=1).clamp(-MOST, MOST), torch.nan)
    return PairEvidence(ratios, mean, median((other - read).abs() / scale).clamp(max=1.0))


def median(residuals: Tensor) -> Tensor:
    """``[P]`` medians of ``[P, N]`` along N without NaN; NaN where there is nothing."""
    if not residuals.shape[1]:
        return residuals.new_full((len(residuals),), torch.nan)
    return residuals.nanmedian(dim=1).values


def over_views(values: Sequence[float]) -> Estimate:
    """Mean over views that are independent of each other."""
    if len(values) < 2:
        return Estimate(values[0] if values else math.nan, math.nan, 0)
    spread = torch.tensor(values, dtype=torch.float64)
    return Estimate(float(spread.mean()), float(spread.std()) / math.sqrt(len(values)), len(values) - 1)


def over_pairs(evidence: PairEvidence, views: Tensor) -> Estimate:
    """Weighted mean over pairs of views, with the delete-one-view jackknife's standard error.

    A single pair is cut into eight parts along the image instead (its values come sorted along it).

    Args:
        evidence: of each pair.
        views: ``[P, 2]`` the views of each.
    """
    heard = evidence.mean.isfinite() & evidence.weight.isfinite()
    views, mean, weight = views[heard], evidence.mean[heard], evidence.weight[heard]
    if not len(mean) or float(weight.sum()) <= 0:
        return Estimate(math.nan, math.nan, 0)
    whole = float((weight * mean).sum() / weight.sum())
    if len(mean) == 1:
        ratios = evidence.ratios[heard][0]
        parts = torch.stack([part.mean() for part in ratios[ratios.isfinite()].tensor_split(8) if len(part)])
        if len(parts) < 2:
            return Estimate(whole, math.nan, 0)
        return Estimate(whole, math.hypot(float(parts.std()) / math.sqrt(len(parts)), SHARED_BY_A_PAIR), len(parts) - 1)
    # [V, P]: which pairs are left without a view
    kept = (
        (views[None] != torch.tensor(sorted(set(views.flatten().tolist())))[:, None, None]).all(dim=-1).to(weight.dtype)
    )
    totals = kept @ weight
    left = ((kept @ (weight * mean)) / totals)[totals > 0]
    if len(left) < 2:
        return Estimate(whole, math.nan, 0)
    error = math.sqrt((len(left) - 1) / len(left) * float((left - left.mean()).square().sum()))
    return Estimate(whole, error, len(left) - 1)
