"""The claims that a capture makes, and the verdicts on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

#: ``"not provable"``: these frames would look the same, within their noise, if the claim were wrong.
Verdict = Literal["proved", "contradicted", "not provable"]


class Claim(StrEnum):
    """A statement about a capture that can be right or wrong; its value is how it is called in reports."""

    POSES = "poses"
    AXES = "axes"
    FOCAL_LENGTH = "focal length"
    PRINCIPAL_POINT = "principal point"
    UNIT = "unit"
    DEPTH_ALONG_Z = "depth along z"
    IMAGES_BELONG_TO_POSES = "images belong to poses"
    DEPTH_REGISTERED = "depth registered to colour"

    @property
    def about_depth(self) -> bool:
        """Whether it means nothing without depth."""
        return self in (Claim.UNIT, Claim.DEPTH_ALONG_Z, Claim.DEPTH_REGISTERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The verdict on one claim.

    Attributes:
        claim: which.
        verdict: on it.
        measured: what was measured, in words, with its uncertainty.
        within: relative size of the smallest change that the frames rule out (0.02: to 2 %); None where the claim has
            no size or nothing was ruled out.
        better: the interpretation that explains the frames better, in words; empty if there is none.
    """

    claim: Claim
    verdict: Verdict
    measured: str
    within: float | None = None
    better: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "verdict": self.verdict,
            "measured": self.measured,
            "within": self.within,
            "better": self.better or None,
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """The verdicts on all claims of a capture, in the order of :class:`Claim`."""

    items: tuple[Finding, ...] = field(default=())

    def __getitem__(self, claim: Claim) -> Finding:
        return next(finding for finding in self.items if finding.claim == claim)

    def with_verdict(self, verdict: Verdict) -> list[Finding]:
        """Returns the findings with this verdict."""
        return [finding for finding in self.items if finding.verdict == verdict]
