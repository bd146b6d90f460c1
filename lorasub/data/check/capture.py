"""Check one capture: the core of ``lorasub data check``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from lorasub.data.check.judging import judge
from lorasub.data.check.observations import (
    MAX_VIEWS,
    SIZE,
    FeatureFinder,
    chosen_frames,
    decode,
    features_of,
    observe,
)
from lorasub.data.check.report import CaptureReport
from lorasub.data.decoding import View, frame_size
from lorasub.data.frames import Capture
from lorasub.errors import DataError

#: Frames that are only read, to find damage and the range of depth, are made this small.
READ_SIZE = 128
#: Median depths outside of these are no rooms, streets or things on a table, in metres.
LIKELY_DEPTH = (0.02, 500.0)
#: Depth with no more different values was probably stored in 8 bits.
FEW_VALUES = 256


def check_capture(
    capture: Capture, on_step: Callable[[], object] | None = None, find: FeatureFinder = features_of
) -> CaptureReport:
    """Decode every frame of a capture and judge what it claims.

    Args:
        capture: what a reader made of the folder.
        on_step: called :func:`steps` times, for a progress bar.
        find: finds features; replaced where those of the frames are known already.

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
    views = _decode_all(capture, report, on_step)
    report.observations = observe(capture, views, find, on_step)
    verdicts = judge(report.observations, metric=capture.metric)
    report.findings, report.errors, report.better = verdicts.findings, verdicts.errors, verdicts.better
    report.unexplained = None if math.isnan(verdicts.unexplained) else verdicts.unexplained
    report.notes += verdicts.notes
    for finding in report.findings.with_verdict("contradicted"):
        report.problems.append(f"{finding.claim.value}: {finding.measured}")
    if report.with_pose > 1 and (unproved := report.findings.with_verdict("not provable")):
        claims = [finding.claim.value for finding in unproved if report.with_depth or not finding.claim.about_depth]
        if claims:
            report.notes.append(f"these frames would look the same if one of these were wrong: {', '.join(claims)}")
    return report


def steps(capture: Capture) -> int:
    """Number of steps of a check of this capture, for a progress bar."""
    return len(capture) + len(chosen_frames(len(capture), MAX_VIEWS))


def _decode_all(capture: Capture, report: CaptureReport, on_step: Callable[[], object] | None) -> dict[int, View]:
    """Read every frame; those that are compared are kept. Damage goes into the report."""
    compared = set(chosen_frames(len(capture), MAX_VIEWS))
    views, depths = {}, []
    for index, frame in enumerate(capture.frames):
        try:
            if index in compared:
                view = views[index] = decode(frame, SIZE)
            else:  # to see that it can be read; taking its distortion out would take longest and show no damage
                view = decode(dataclasses.replace(frame, distortion=()), READ_SIZE)
            if frame.depth is not None:
                depths.append(view.depth)
            size = frame_size(frame)
            report.resolutions[size] = report.resolutions.get(size, 0) + 1
        except DataError as error:
            report.problems.append(str(error))
        if on_step is not None:
            on_step()
    if len(report.resolutions) > 1:
        report.notes.append(f"images come in {len(report.resolutions)} sizes")
    if depths:
        _describe_depth(depths, report)
    return views


def _describe_depth(depths: list[Tensor], report: CaptureReport) -> None:
    if not any(bool((depth > 0).any()) for depth in depths):
        report.problems.append("no frame has any known depth; are unit and invalid values right?")
        return
    pixels = torch.cat([depth.flatten() for depth in depths])
    known = pixels[pixels > 0].sort().values
    low, middle, high = (float(known[int(q * (len(known) - 1))]) for q in (0.02, 0.5, 0.98))
    different = 1 + int((known[1:] != known[:-1]).sum())
    if different <= FEW_VALUES < len(known) / 10:
        report.notes.append(
            f"depth takes only {different} different values: was it stored in 8 bits, to look at? Then its unit is "
            "lost, and nearer and farther may be reversed"
        )
    report.depth_range = (low, middle, high)
    report.unknown_depth = 1 - len(known) / len(pixels)
    if report.metric and not LIKELY_DEPTH[0] < middle < LIKELY_DEPTH[1]:
        report.problems.append(f"a median depth of {middle:.3g} m is unlikely; is the depth unit right?")
