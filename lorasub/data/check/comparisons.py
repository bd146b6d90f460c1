"""Every interpretation against what was read, by every kind of evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorasub.data.check.hypotheses import AS_READ, Interpretation
from lorasub.data.check.observations import Observations
from lorasub.data.check.registration import Outlines, edge_evidence
from lorasub.data.check.residuals import FLOORS, Kind, cameras_of
from lorasub.data.check.statistics import (
    LEAST_RESIDUALS,
    MOST,
    Estimate,
    PairEvidence,
    compare_residuals,
    median,
    over_pairs,
)

#: Another interpretation is ruled out at this one-sided confidence,
RULED_OUT = 0.975
#: if the evidence is more than rounding,
ROUNDING = 1e-3
#: and preferred at this one,
PREFERRED = 0.99
#: if errors fall by at least this part (a logarithm of their ratio), or edges grow stronger by this part of all edges.
CLEARLY = {"epipolar": 0.1, "points": 0.1, "depth": 0.1, "edges": 0.06}
#: Mean evidence above which no other kind can change anything: nearly all pairs say as much as they may.
BEYOND_DOUBT = 0.9 * MOST
#: Depth of which less than this part of a view falls on the other view says nothing.
LEAST_OVERLAP = 0.05
LEAST_POINTS = 30


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One interpretation against what was read, by one kind of evidence.

    Attributes:
        interpretation: the other one.
        kind: of residuals, or ``"edges"``.
        evidence: above 0 where the other one fits worse: a mean logarithm of the likelihood ratio, or a difference in
            the strength of edges.
    """

    interpretation: Interpretation
    kind: str
    evidence: Estimate

    @property
    def ruled_out(self) -> bool:
        """Whether the other interpretation fits worse, beyond chance."""
        return self.evidence.above(ROUNDING, RULED_OUT)

    @property
    def preferred(self) -> bool:
        """Whether the other interpretation fits clearly better, beyond chance."""
        return self.evidence.mean < -CLEARLY[self.kind] and self.evidence.below(0.0, PREFERRED)


@dataclass(slots=True, eq=False)
class Comparator:
    """Compares interpretations with what was read; residuals as read are computed once.

    Attributes:
        seen: observations of the capture.
        kinds: of residuals that may be used.
        outlines: of the views whose depth has steps.
    """

    seen: Observations
    kinds: Sequence[Kind]
    outlines: Sequence[Outlines] = ()
    _read: dict[Kind, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self._read = {kind: self.residuals(kind, AS_READ) for kind in self.kinds}

    def usable(self, kind: Kind) -> bool:
        """Whether there are enough residuals of this kind in any pair of views."""
        return kind in self.kinds and bool((self._read[kind].isfinite().sum(dim=1) >= LEAST_RESIDUALS).any())

    def medians(self, kind: Kind, interpretation: Interpretation = AS_READ) -> Tensor:
        """``[P]`` the median residual of each pair of views, NaN where it has none."""
        return median(self._read[kind] if interpretation is AS_READ else self.residuals(kind, interpretation))

    def compare(self, others: Iterable[Interpretation], kinds: Sequence[Kind]) -> list[Comparison]:
        """All interpretations by these kinds of residuals, in this order; what says nothing is left out.

        Kinds after one that leaves no doubt are not asked.
        """
        usable = [kind for kind in kinds if self.usable(kind)]
        found = []
        for other in others:
            for kind in usable:
                if kind == "epipolar" and other.depth_factor != 1:
                    continue
                comparison = Comparison(other, kind, self._evidence(kind, other))
                if comparison.evidence.freedom:
                    found.append(comparison)
                if comparison.ruled_out and comparison.evidence.mean > BEYOND_DOUBT:
                    break
        return found

    def compare_edges(self, others: Iterable[Interpretation]) -> list[Comparison]:
        """Interpretations with another depth camera, by image edges at steps of depth."""
        found = [Comparison(other, "edges", edge_evidence(self.outlines, other)) for other in others]
        return [comparison for comparison in found if comparison.evidence.freedom]

    def gain(self, other: Interpretation) -> float:
        """By how much errors fall under another interpretation: the largest logarithm of their ratio of any kind."""
        ratios = [0.0]
        for kind in self.kinds:
            read, changed = (self.medians(kind, one).clamp(min=FLOORS[kind]).log() for one in (AS_READ, other))
            change = read - changed
            change = change[change.isfinite() & (change != 0)]  # some interpretations concern a few views alone
            if len(change):
                ratios.append(float(change.median()))
        return max(ratios)

    def residuals(self, kind: Kind, interpretation: Interpretation) -> Tensor:
        """``[P, N]`` for each pair of views; NaN where an interpretation says nothing or depth is unknown."""
        seen = self.seen
        if not seen.views:
            return torch.zeros(0, 0, dtype=torch.float64)
        cameras = cameras_of(seen.views, seen.frames, seen.poses, interpretation)
        if kind == "depth":
            return seen.depth_pairs.errors(cameras)
        if kind == "epipolar":
            return seen.pairs.epipolar(cameras)
        pairs = seen.pairs
        if interpretation.depth_camera != AS_READ.depth_camera:
            pairs = pairs.with_depth_of(interpretation.depth_camera, seen.views)
        return pairs.points(cameras)

    def _evidence(self, kind: Kind, other: Interpretation) -> Estimate:
        read, changed = self._read[kind], self.residuals(kind, other)
        if kind == "depth":
            return over_pairs(_compare_overlaps(read, changed), self.seen.depth_pairs.views)
        return over_pairs(compare_residuals(read, changed, FLOORS[kind]), self.seen.pairs.views)


def _compare_overlaps(read: Tensor, other: Tensor) -> PairEvidence:
    """Compares residuals where both interpretations see depth, as :func:`compare_residuals` does.

    A pair that overlaps under one of them only counts against the other one.
    """
    least = (LEAST_OVERLAP * (~read.isnan()).sum(dim=1)).clamp(min=LEAST_POINTS)
    overlaps = [(~r.isnan()).sum(dim=1) >= least for r in (read, other)]
    evidence = compare_residuals(read, other, FLOORS["depth"])
    both = overlaps[0] & overlaps[1] & ((~(read.isnan() | other.isnan())).sum(dim=1) >= LEAST_POINTS)
    lost = torch.where(overlaps[0], MOST, -MOST).to(evidence.mean)
    mean = torch.where(both, evidence.mean, torch.where(overlaps[0] | overlaps[1], lost, torch.nan))
    # a pair that says only that it overlaps says so with its whole weight
    weight = torch.where(both, evidence.weight, 1.0)
    ratios = torch.where(both[:, None], evidence.ratios, mean[:, None])
    return PairEvidence(ratios, mean, weight)
