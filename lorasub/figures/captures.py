"""Draws a capture and the agreement of its views: the picture beside the verdict of ``lorasub data check``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from lorasub.errors import DataError
from lorasub.figures.panels import DEPTH_MAP, ERROR_MAP, UNKNOWN

INCHES = 2.4
#: So many epipolar lines can be told apart.
MAX_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShownView:
    """A frame.

    Attributes:
        name: its title.
        image: ``[3, H, W]`` in [0, 1].
        depth: ``[H, W]``, 0 where unknown.
    """

    name: str
    image: Tensor
    depth: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Agreement:
    """Agreement of one view with another.

    Attributes:
        title: which views, under which reading.
        image: ``[3, H, W]`` of the view, in [0, 1].
        points: ``[N, 2]`` (x, y) in its pixels, centres at half integers: depth that was moved here, or matched points.
        error: ``[N]`` how far off each is.
        lines: ``[N, 3]`` (l, m, n) with l x + m y + n = 0, on which the points must lie; None where there are none.
    """

    title: str
    image: Tensor
    points: Tensor
    error: Tensor
    lines: Tensor | None = None


def capture_figure(
    title: str,
    views: Sequence[ShownView],
    rows: Sequence[Sequence[Agreement]],
    *,
    error_label: str,
    largest_error: float,
) -> Figure:
    """Draw some views, their depth, and how others agree with them.

    Args:
        title: of the figure.
        views: one a column, at least one.
        rows: rows of agreements, for example one row for each reading of the poses; each at most as long as ``views``
            or four.
        error_label: of the colour bar of errors.
        largest_error: at its top.

    Raises:
        DataError: there is no view.
    """
    if not views:
        raise DataError(f"{title}: there is no view to draw")
    columns = max(len(views), *(len(row) for row in rows)) if rows else len(views)
    has_depth = any(bool((view.depth > 0).any()) for view in views)
    count = 1 + has_depth + len(rows)
    height, width = views[0].image.shape[-2:]
    panel = (INCHES * width / max(height, width), INCHES * height / max(height, width))
    figure = Figure(figsize=(columns * panel[0] + 1.0, count * (panel[1] + 0.3) + 0.4), layout="constrained")
    axes = figure.subplots(count, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, view in zip(axes[0], views, strict=False):
        axis.imshow(view.image.movedim(0, -1).clamp(0, 1).numpy())
        axis.set_title(view.name[-28:], fontsize=8)
    if has_depth:
        scale = _draw_depth(axes[1], views)
        bar = figure.colorbar(ScalarMappable(scale, DEPTH_MAP), ax=axes[1], fraction=0.03, pad=0.01)
        bar.set_label("depth (grey: unknown)", fontsize=7)
        bar.ax.tick_params(labelsize=7)
    errors = Normalize(0, largest_error)
    for line, agreements in zip(axes[1 + has_depth :], rows, strict=True):
        for axis, agreement in zip(line, agreements, strict=False):
            _draw_agreement(axis, agreement, errors)
        bar = figure.colorbar(ScalarMappable(errors, ERROR_MAP), ax=line, fraction=0.03, pad=0.01, extend="max")
        bar.set_label(error_label, fontsize=7)
        bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=9)
    return figure


def _draw_depth(axes: npt.NDArray[np.object_], views: Sequence[ShownView]) -> Normalize:
    known = np.concatenate([view.depth[view.depth > 0].numpy() for view in views])
    low, high = np.percentile(known, [2, 98])
    scale = Normalize(float(low), float(max(high, low * 1.001)))
    colors = colormaps[DEPTH_MAP].with_extremes(bad=UNKNOWN)
    for axis, view in zip(axes, views, strict=False):
        depth = view.depth.numpy()
        axis.imshow(np.ma.masked_where(depth <= 0, depth), cmap=colors, norm=scale, interpolation="nearest")
        axis.set_title(f"{np.mean(depth > 0):.0%} known", fontsize=8)
    return scale


def _draw_agreement(axis: Axes, agreement: Agreement, errors: Normalize) -> None:
    height, width = agreement.image.shape[-2:]
    # with this extent, pixel centres are at half integers, as in the points
    axis.imshow(
        agreement.image.mean(0).numpy(), cmap="gray", vmin=-0.5, vmax=1.2, extent=(0, width, height, 0), zorder=0
    )
    points, error = agreement.points.float().numpy(), agreement.error.float().numpy()
    axis.set_title(f"{agreement.title}\nmedian {np.median(error):.2g}" if len(error) else agreement.title, fontsize=8)
    if agreement.lines is not None and len(points):
        chosen = np.linspace(0, len(points) - 1, min(MAX_LINES, len(points))).round().astype(int)
        points, error = points[chosen], error[chosen]
        segments = [_segment(line, width, height) for line in agreement.lines.double().numpy()[chosen]]
        axis.add_collection(LineCollection(segments, array=error, cmap=ERROR_MAP, norm=errors, linewidths=0.8))
        axis.scatter(
            points[:, 0],
            points[:, 1],
            s=14,
            c=error,
            cmap=ERROR_MAP,
            norm=errors,
            edgecolors="white",
            linewidths=0.5,
            zorder=3,
        )
    else:
        axis.scatter(points[:, 0], points[:, 1], s=1.5, c=error, cmap=ERROR_MAP, norm=errors, linewidths=0)
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)


def _segment(line: npt.NDArray[np.float64], width: int, height: int) -> list[tuple[float, float]]:
    """Two points of a line, far enough apart to cross the image; what is outside is cut off by the axes."""
    normal, offset = line[:2] / np.linalg.norm(line[:2]), line[2] / np.linalg.norm(line[:2])
    middle = np.array([width / 2, height / 2])
    foot = middle - normal * (normal @ middle + offset)
    along = np.array([-normal[1], normal[0]]) * (width + height)
    start, end = foot - along, foot + along
    return [(float(start[0]), float(start[1])), (float(end[0]), float(end[1]))]
