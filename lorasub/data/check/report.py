"""The report on a capture: what was found, for people and as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from lorasub.data.check.claims import Findings, Verdict
from lorasub.data.check.hypotheses import Interpretation
from lorasub.data.check.observations import Observations
from lorasub.data.check.residuals import Kind

#: How each verdict stands in the report, in the order in which claims are listed.
MARKS: dict[Verdict, str] = {"contradicted": "CONTRADICTED", "proved": "proved", "not provable": "not provable"}


@dataclass(slots=True, kw_only=True)
class CaptureReport:
    """Findings about a capture.

    Attributes:
        name: the capture's name.
        format: of the reader.
        metric: whether the world unit is the metre.
        frames: number of frames.
        with_pose: how many have a pose.
        with_depth: how many have depth.
        resolutions: (width, height) of the images and how often each occurs.
        depth_range: 2 %, 50 % and 98 % quantile of the known depth, in world units; None without depth.
        unknown_depth: part of the pixels without depth, over the frames with depth; None without depth.
        findings: the verdict on each claim.
        errors: median residual as read: ``"epipolar"`` and ``"points"`` in pixels of the compared images, ``"depth"``
            relative.
        unexplained: part of the images' motion that the cameras leave unexplained; None without matched points.
        better: the interpretation that the frames prefer most; None if there is none.
        problems: what has to be repaired.
        notes: what to know.
        observations: what was looked at; None before.
    """

    name: str
    format: str
    metric: bool
    frames: int
    with_pose: int
    with_depth: int
    resolutions: dict[tuple[int, int], int] = field(default_factory=dict)
    depth_range: tuple[float, float, float] | None = None
    unknown_depth: float | None = None
    findings: Findings = field(default_factory=Findings)
    errors: dict[Kind, float] = field(default_factory=dict)
    unexplained: float | None = None
    better: Interpretation | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    observations: Observations | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing has to be repaired."""
        return not self.problems

    @property
    def verdict(self) -> Literal["contradicted", "proved", "partly proved", "not provable"]:
        """Of the claims together: one that is contradicted decides."""
        if self.findings.with_verdict("contradicted"):
            return "contradicted"
        proved, open_ = self.findings.with_verdict("proved"), self.findings.with_verdict("not provable")
        if proved and not open_:
            return "proved"
        return "partly proved" if proved else "not provable"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "format": self.format,
            "metric": self.metric,
            "frames": self.frames,
            "with_pose": self.with_pose,
            "with_depth": self.with_depth,
            "resolutions": [{"width": w, "height": h, "images": n} for (w, h), n in self.resolutions.items()],
            "depth_range": self.depth_range,
            "unknown_depth": self.unknown_depth,
            "claims": {finding.claim.value: finding.to_dict() for finding in self.findings.items},
            "verdict": self.verdict,
            "errors": self.errors,
            "unexplained": self.unexplained,
            "better": None if self.better is None else self.better.words,
            "problems": self.problems,
            "notes": self.notes,
            "ok": self.ok,
        }

    def words(self) -> str:
        """For people, several lines; the last one sums up."""
        unit = "m" if self.metric else "units of an open scale"
        sizes = ", ".join(f"{width} x {height}" for width, height in self.resolutions)
        lines = [
            f"{self.name}: {self.format}, {self.frames} frames ({sizes}), {self.with_pose} with a pose, "
            f"{self.with_depth} with depth"
        ]
        if self.depth_range is not None and self.unknown_depth is not None:
            low, middle, high = self.depth_range
            lines.append(
                f"  depth {low:.3g} to {high:.3g} {unit}, median {middle:.3g}; {self.unknown_depth:.0%} unknown"
            )
        if measured := self._measured():
            lines.append(f"  {measured}")
        width = max(map(len, MARKS.values()))
        for verdict, mark in MARKS.items():
            for finding in self.findings.with_verdict(verdict):
                lines.append(f"  {mark:{width}}  {finding.claim.value}: {finding.measured}")
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  PROBLEM: {problem}" for problem in self.problems]
        lines.append(f"  {self.summary()}")
        return "\n".join(lines)

    def summary(self) -> str:
        """One line: which claims came out how."""
        parts = []
        for verdict in MARKS:
            if claims := [finding.claim.value for finding in self.findings.with_verdict(verdict)]:
                parts.append(f"{verdict}: {', '.join(claims)}")
        return "; ".join(parts) or "nothing to compare"

    def _measured(self) -> str:
        """The median residuals, in words."""
        patterns: dict[Kind, str] = {
            "epipolar": "matched points {:.2g} px off their epipolar lines",
            "points": "{:.2g} px off if moved by their depth",
            "depth": "depth moved between views {:.2%} off",
        }
        parts = [patterns[kind].format(error) for kind, error in self.errors.items()]
        return f"measured as read (medians): {', '.join(parts)}" if parts else ""
