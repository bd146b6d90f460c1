"""Prove that a capture was read right, or say in words what is wrong with it: the core of ``lorasub data check``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from lorasub.data.decoding import View, frame_size, load_view
from lorasub.data.epipolar import (
    LEAST_MATCHES,
    Matches,
    epipolar_error,
    find_features,
    match_features,
    neighbour_pairs,
)
from lorasub.data.frames import Capture, Frame
from lorasub.data.readings import FINE_FACTORS, Reading
from lorasub.data.reprojection import (
    CLEARLY,
    choose_pairs,
    median_or_infinity,
    relative_baseline,
    search_readings,
    typical_error,
)
from lorasub.errors import DataError

#: Above this error no reading is believed, even the best: relative depth, or pixels of an image of ``EPIPOLAR_SIZE``.
LARGEST_ERROR = {"reprojection": 0.05, "epipolar": 2.5}
#: Differences between readings below this are noise: resampled depth is a fraction of a pixel off.
NOISE = {"reprojection": 0.001, "epipolar": 0.3}
#: Views are compared at about this many pixels; more changes nothing but the time it takes.
REPROJECTION_SIZE = 128
EPIPOLAR_SIZE = 480
MAX_VIEWS = 16
MAX_PAIRS = {"reprojection": 16, "epipolar": 8}

Verdict = Literal["confirmed", "contradicted", "unproven"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What the geometry was tested with, for people who want to see it.

    Attributes:
        views: decoded frames, small.
        pairs: indices of the views that were compared.
        matches: matched points of each pair, where there is no depth.
    """

    views: Sequence[View]
    pairs: Sequence[tuple[int, int]]
    matches: Mapping[tuple[int, int], Matches] = field(default_factory=dict)


@dataclass(slots=True)
class CaptureReport:
    """What is known about a capture after looking at it.

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
        method: what the geometry was tested with: ``"reprojection"`` of depth, ``"epipolar"`` lines or ``"none"``.
        error: the test's error as read: relative depth, or pixels.
        best: the reading with the smallest error.
        best_error: that error.
        verdict: whether the test confirms what was read.
        problems: what has to be repaired.
        notes: what to know.
        evidence: the views behind it.
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
    method: Literal["reprojection", "epipolar", "none"] = "none"
    error: float = math.nan
    best: Reading = field(default_factory=Reading)
    best_error: float = math.nan
    verdict: Verdict = "unproven"
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    evidence: Evidence = field(default_factory=lambda: Evidence(views=(), pairs=()))

    @property
    def ok(self) -> bool:
        """Whether nothing has to be repaired."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        sizes = [{"width": w, "height": h, "images": n} for (w, h), n in self.resolutions.items()]
        plain = {
            name: getattr(self, name) for name in self.__slots__ if name not in ("resolutions", "best", "evidence")
        }
        return plain | {"resolutions": sizes, "best": self.best.words(), "ok": self.ok}

    def words(self) -> str:
        """For people, several lines."""
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
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  PROBLEM: {problem}" for problem in self.problems]
        lines.append(f"  {self._verdict()}")
        return "\n".join(lines)

    def _verdict(self) -> str:
        if self.method == "none":
            return "nothing to test the geometry with"
        pattern = "{:.2%}" if self.method == "reprojection" else "{:.2f} px"
        error, best = pattern.format(self.error), pattern.format(self.best_error)
        test = (
            "depth moved between views" if self.method == "reprojection" else "matched points off their epipolar lines"
        )
        if self.verdict == "confirmed":
            return f"confirmed: {test}, median error {error}"
        return f"{self.verdict}: {test}, median error {error} as read, at best {best} ({self.best.words()})"


def check_capture(capture: Capture, on_frame: Callable[[], None] | None = None) -> CaptureReport:
    """Decode every frame of a capture and test its geometry.

    Where views have poses and depth, depth is moved from view to view under what was read and under the mistakes that
    people make (:mod:`lorasub.data.readings`). Where there are poses only, matched points are held against their
    epipolar lines. A capture that was read right has a small error, and no other reading has a clearly smaller one.

    Args:
        capture: what a reader made of the folder.
        on_frame: called after each frame, for a progress bar.

    Returns:
        The report; unreadable files are problems in it, not exceptions.
    """
    report = CaptureReport(
        name=capture.name,
        format=capture.format,
        metric=capture.metric,
        frames=len(capture),
        with_pose=sum(frame.cam_from_world is not None for frame in capture.frames),
        with_depth=sum(frame.depth is not None for frame in capture.frames),
        notes=list(capture.notes),
    )
    views = _decode_all(capture, report, on_frame)
    if report.with_depth:
        _describe_depth(views, report)
    report.evidence = Evidence(views=_evenly(views, MAX_VIEWS), pairs=())
    posed = [view for view in views if view.cam_from_world is not None]
    if len(posed) >= 2 and report.with_depth:
        _test_reprojection(posed, report)
    elif len(posed) >= 2:
        _test_epipolar(capture, report)
    return report


def _decode_all(capture: Capture, report: CaptureReport, on_frame: Callable[[], None] | None) -> list[View]:
    """Every frame at a small size; damage goes into the report."""
    views = []
    for frame in capture.frames:
        try:
            views.append(_at_size(frame, REPROJECTION_SIZE))
            width, height = frame_size(frame)
            report.resolutions[width, height] = report.resolutions.get((width, height), 0) + 1
        except DataError as error:
            report.problems.append(str(error))
        if on_frame is not None:
            on_frame()
    if len(report.resolutions) > 1:
        report.notes.append(f"images come in {len(report.resolutions)} sizes")
    return views


def _describe_depth(views: list[View], report: CaptureReport) -> None:
    depths = [view.depth for view in views if bool((view.depth > 0).any())]
    if not depths:
        report.problems.append("no frame has any known depth; are unit and invalid values right?")
        return
    pixels = torch.cat([depth.flatten() for depth in depths])
    known = pixels[pixels > 0].sort().values
    low, middle, high = (float(known[int(q * (len(known) - 1))]) for q in (0.02, 0.5, 0.98))
    report.depth_range = (low, middle, high)
    report.unknown_depth = 1 - len(known) / len(pixels)
    if report.metric and not 0.02 < middle < 500:
        report.problems.append(f"a median depth of {middle:.3g} m is unlikely; is the depth unit right?")


def _test_reprojection(views: list[View], report: CaptureReport) -> None:
    chosen = _evenly(views, MAX_VIEWS)
    pairs = choose_pairs(chosen, MAX_PAIRS["reprojection"])
    if not pairs:
        report.notes.append("no two frames have both depth and pose: the geometry cannot be tested")
        return
    report.evidence = Evidence(views=chosen, pairs=pairs)
    report.method = "reprojection"
    errors = search_readings(lambda reading: typical_error(chosen, pairs, reading))
    if math.isinf(min(errors.values())):
        report.method = "none"
        report.notes.append("too few views overlap: the geometry cannot be tested")
        return
    _judge(errors, report)
    if report.verdict == "confirmed":
        least = errors[Reading()]
        for name, index in (("focal length", 2), ("depth unit", 1)):
            far = [_changed(index, factor) for factor in (FINE_FACTORS[2], FINE_FACTORS[-3])]
            if min(errors.get(reading, math.inf) for reading in far) < CLEARLY * least:
                report.notes.append(
                    f"the views do not prove the {name} to 20 %: cameras are at most "
                    f"{relative_baseline(chosen):.2g} median depths apart"
                )


def _test_epipolar(capture: Capture, report: CaptureReport) -> None:
    frames = [frame for frame in capture.frames if frame.cam_from_world is not None]
    views: list[View] = []
    for frame in _evenly(frames, MAX_VIEWS):
        try:
            views.append(_at_size(frame, EPIPOLAR_SIZE))
        except DataError:
            continue  # reported already
    pairs = neighbour_pairs(views, MAX_PAIRS["epipolar"])
    features = {i: find_features(views[i]) for i in sorted({i for pair in pairs for i in pair})}
    matches = {(i, j): match_features(features[i], features[j]) for i, j in pairs}
    pairs = [pair for pair in pairs if len(matches[pair].a) >= LEAST_MATCHES]
    report.evidence = Evidence(views=views, pairs=pairs, matches=matches)

    def error_of(reading: Reading) -> float:
        return median_or_infinity([epipolar_error(views[i], views[j], matches[i, j], reading) for i, j in pairs])

    errors = search_readings(error_of, with_depth=False)
    if math.isinf(min(errors.values())):
        report.notes.append("too few points of neighbouring images match: the poses cannot be tested")
        return
    report.method = "epipolar"
    _judge(errors, report)


def _judge(errors: dict[Reading, float], report: CaptureReport) -> None:
    assert report.method != "none"
    report.error = errors[Reading()]
    report.best = min(errors, key=errors.__getitem__)
    report.best_error = errors[report.best]
    if report.error <= max(CLEARLY * report.best_error, report.best_error + NOISE[report.method]):
        report.best, report.best_error = Reading(), report.error
    largest = LARGEST_ERROR[report.method]
    if report.best != Reading() and report.best_error <= largest:
        report.verdict = "contradicted"
        report.problems.append(f"the views fit together much better if read otherwise: {report.best.words()}")
    elif report.error > largest:
        report.verdict = "contradicted"
        report.problems.append(
            "the views do not fit together, under this reading or any other that was tried: poses, intrinsics, depth "
            "and images may belong to different frames or resolutions"
        )
    else:
        report.verdict = "confirmed"


def _at_size(frame: Frame, longer_side: int) -> View:
    width, height = frame_size(frame)
    scale = longer_side / max(height, width)
    return load_view(frame, (round(height * scale), round(width * scale)), crop="center")


def _changed(index: int, factor: float) -> Reading:
    return Reading(depth_factor=factor) if index == 1 else Reading(focal_factor=factor)


def _evenly(items: list[Any], count: int) -> list[Any]:
    return items if len(items) <= count else [items[i * len(items) // count] for i in range(count)]
