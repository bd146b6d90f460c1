"""From comparisons to a verdict on one claim.

A claim is *proved* if every interpretation that would make it wrong is ruled out by at least one kind of evidence. It
is *contradicted* if one of them is preferred by one kind and ruled out by none. Otherwise it is *not provable* from
these frames: they would look the same if it were wrong. Claims that have a size (a focal length) are tested at many
sizes; the finding says down to which size the frames rule changes out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorasub.data.check.claims import Claim, Finding
from lorasub.data.check.comparisons import CLEARLY, Comparison
from lorasub.data.check.hypotheses import Interpretation

#: A claim with a size is proved only if all changes of this size are ruled out (relative, or parts of the longer side).
COARSEST = {
    Claim.FOCAL_LENGTH: 0.08,
    Claim.PRINCIPAL_POINT: 0.05,
    Claim.UNIT: 0.08,
    Claim.DEPTH_REGISTERED: 0.02,
}
#: Changes smaller than this never contradict what was read: calibrations of good captures are not better.
MATERIAL = {
    Claim.FOCAL_LENGTH: 0.02,
    Claim.PRINCIPAL_POINT: 0.015,
    Claim.UNIT: 0.02,
    Claim.DEPTH_REGISTERED: 0.0075,
}
#: How the kinds of evidence are called in reports.
KIND_WORDS = {
    "epipolar": "epipolar lines",
    "points": "matched points with depth",
    "depth": "depth moved between views",
    "edges": "image edges at steps of depth",
}
#: So many interpretations that fit as well are named.
NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """All comparisons for one claim, summed up.

    Attributes:
        claim: which.
        ruled_out: number of interpretations that are ruled out.
        unresolved: interpretations without a size that are neither ruled out nor preferred.
        preferred: those that fit better, the best one first.
        within: for each scale, the smallest size from which on all are ruled out; infinite if even the largest is not.
        kinds: of evidence that ruled something out.
    """

    claim: Claim
    ruled_out: int
    unresolved: tuple[Interpretation, ...]
    preferred: tuple[Interpretation, ...]
    within: dict[str, float]
    kinds: tuple[str, ...]

    @property
    def resolution(self) -> float:
        """The coarsest of ``within``; 0 for a claim without a size."""
        return max(self.within.values(), default=0.0)

    @property
    def proved(self) -> bool:
        """Whether nothing that would make the claim wrong is left."""
        fine_enough = self.resolution <= COARSEST.get(self.claim, 0.0) + 1e-6
        return self.ruled_out > 0 and not self.unresolved and not self.preferred and fine_enough

    def without_preference(self) -> Weighed:
        """Returns a copy in which interpretations that fit better count as fitting equally well."""
        plain = tuple(other for other in self.preferred if not other.scale)
        return replace(self, preferred=(), unresolved=(*self.unresolved, *plain))

    def blaming(self, cause: Interpretation) -> Weighed:
        """With one interpretation first among those that fit better."""
        return replace(self, preferred=(cause, *(other for other in self.preferred if other is not cause)))

    def preferring(self, others: Sequence[Interpretation]) -> Weighed:
        """With further interpretations that fit better."""
        return replace(self, preferred=(*self.preferred, *others))

    def finding(self, limit: str = "") -> Finding:
        """The verdict.

        Args:
            limit: why nothing can be proved, although alternatives are ruled out; empty if it can.
        """
        within = self.resolution if self.within and math.isfinite(self.resolution) else None
        if self.preferred:
            best = self.preferred[0].words
            return Finding(
                claim=self.claim, verdict="contradicted", measured=f"fits better: {best}", within=within, better=best
            )
        if self.proved and not limit:
            return Finding(claim=self.claim, verdict="proved", measured=self._proof(), within=within)
        measured = limit or self._what_is_open()
        return Finding(claim=self.claim, verdict="not provable", measured=measured, within=within)

    def _proof(self) -> str:
        by = ", ".join(KIND_WORDS[kind] for kind in self.kinds)
        if self.within:
            sizes = ", ".join(f"{scale} {size:.1%}" for scale, size in self.within.items())
            return f"changes from these sizes on are ruled out: {sizes} ({by})"
        return f"{self.ruled_out} other interpretations are ruled out ({by})"

    def _what_is_open(self) -> str:
        if not self.ruled_out and not self.unresolved and not self.within:
            return "nothing to compare with"
        parts = []
        if self.unresolved:
            names = list(dict.fromkeys(other.words for other in self.unresolved))
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            parts.append(f"fits as well: {'; '.join(names[:NAMED])}{more}")
        if self.within and self.resolution > COARSEST[self.claim] + 1e-6:
            sizes = ", ".join(
                f"{scale} {size:.1%}" if math.isfinite(size) else f"{scale} not at all"
                for scale, size in self.within.items()
            )
            parts.append(f"changes are ruled out only from these sizes on: {sizes}")
        return "; ".join(parts)


def weigh(claim: Claim, others: Sequence[Interpretation], found: Sequence[Comparison]) -> Weighed:
    """Sum up comparisons: ruled out by any kind, preferred by a kind while no kind rules it out."""
    comparisons: dict[Interpretation, list[Comparison]] = {other: [] for other in others}
    for comparison in found:
        comparisons[comparison.interpretation].append(comparison)
    out = {other for other, against in comparisons.items() if any(c.ruled_out for c in against)}
    better = [
        other
        for other, against in comparisons.items()
        if other not in out
        and any(c.preferred for c in against)
        and _is_material(other)
        and not _denied_by_depth(other, against)
    ]
    better.sort(key=lambda other: min(c.evidence.mean for c in comparisons[other]))
    # a kind that prefers what another kind rules out leaves the matter open
    contested = {other for other in out if any(c.preferred for c in comparisons[other])}
    unresolved = [other for other in others if other in contested or (other not in out and other not in better)]
    within = {}
    for scale in dict.fromkeys(other.scale for other in others if other.scale):
        largest = max((abs(o.size) for o in (*unresolved, *better) if o.scale == scale), default=0.0)
        sizes = (abs(other.size) for other in others if other.scale == scale)
        within[scale] = min((size for size in sizes if size > largest * 1.001), default=math.inf)
    return Weighed(
        claim=claim,
        ruled_out=len(out) - len(contested),
        unresolved=tuple(other for other in unresolved if not other.scale),
        preferred=tuple(better),
        within=within,
        kinds=tuple(dict.fromkeys(c.kind for c in found if c.ruled_out)),
    )


def _denied_by_depth(other: Interpretation, against: Sequence[Comparison]) -> bool:
    """Whether matched points with depth, which see more than their epipolar lines, do not gain from a change of size.

    Small errors of poses look like another focal length or principal point if nothing but lines is looked at.
    """
    gains = [-c.evidence.mean for c in against if c.kind == "points"]
    return bool(other.scale) and any(gain < CLEARLY["points"] / 2 for gain in gains)


def _is_material(other: Interpretation) -> bool:
    return not other.scale or other.claim is None or abs(other.size) >= MATERIAL[other.claim]
