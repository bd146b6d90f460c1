"""Figures of calibration: sparsification curves, and error against confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from lorasub.errors import DataError
from lorasub.figures.style import COLORS, MARKERS, NULL_COLOR, new_figure


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationCurves:
    """Curves of :func:`lorasub.metrics.functional.sparsification` and ``error_by_confidence``, to draw.

    Attributes:
        title: what it is of.
        removed: ``[K]`` shares of the pixels taken away.
        by_confidence: ``[K]`` relative mean error of the rest, the least confident gone first.
        by_error: ``[K]`` the same with the largest errors gone first.
        confidence: ``[bins]`` mean confidence of equally large groups, rising.
        error: ``[bins]`` their mean errors.
    """

    title: str
    removed: Tensor
    by_confidence: Tensor
    by_error: Tensor
    confidence: Tensor
    error: Tensor


def calibration_figure(curves: Sequence[CalibrationCurves]) -> Figure:
    """Draw sparsification (left) and error against confidence (right).

    Left: the solid line falls as far as confidence finds the errors; the dashed one is the best that any order could
    do, the level line a useless one. The area between solid and dashed is AUSE. Right: where confidence is of use, the
    line falls.

    Raises:
        DataError: there is nothing to draw.
    """
    if not curves:
        raise DataError("there is no calibration curve to draw")
    figure, (left, right) = new_figure(8, 3.4, 1, 2)
    left.axhline(1.0, color=NULL_COLOR, linewidth=1, linestyle=":")
    for index, curve in enumerate(curves):
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        removed, by_confidence, by_error, confidence, error = (
            values.detach().double().cpu().numpy()
            for values in (curve.removed, curve.by_confidence, curve.by_error, curve.confidence, curve.error)
        )
        area = np.trapezoid(by_confidence - by_error, removed)
        left.plot(removed, by_confidence, color=color, label=f"{curve.title}, AUSE {area:.3f}")
        left.plot(removed, by_error, color=color, linestyle="--", linewidth=1)
        left.fill_between(removed, by_error, by_confidence, color=color, alpha=0.12, linewidth=0)
        right.plot(confidence, error, color=color, marker=marker, markersize=4, label=curve.title)
    left.set_xlabel("share of pixels taken away", fontsize=8)
    left.set_ylabel("mean error of the rest, relative", fontsize=8)
    left.set_ylim(bottom=0)
    left.legend(fontsize=7, frameon=False)
    right.set_xlabel("confidence", fontsize=8)
    right.set_ylabel("mean relative depth error", fontsize=8)
    right.set_ylim(bottom=0)
    for axis in (left, right):
        axis.tick_params(labelsize=7)
    return figure
