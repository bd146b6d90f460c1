"""Overlaps between subspaces: heat maps, profiles over depth, and angles against chance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from lorasub.errors import ConfigError
from lorasub.figures.style import COLORS, MARKERS, NULL_COLOR, SEQUENTIAL, new_figure
from lorasub.subspaces import (
    HeldOutExplained,
    Measurement,
    OverlapMatrix,
    OverlapReport,
    Side,
    layer_kind,
    random_angles,
)

_TITLES: dict[Side, str] = {"output": "output side (U)", "input": "input side (V)"}
_SIDES: tuple[Side, Side] = ("output", "input")
#: Panels beside each other.
_COLUMNS = 4


def overlap_heatmap(matrix: OverlapMatrix, *, measure: str = "phi") -> Figure:
    """One measure between all attributes, on both sides, with the within-attribute overlap on the diagonal.

    Every cell has the value and, below it in brackets, what chance gives. Cells without a measurement stay white, such
    as the diagonal where no halves were compared.

    Args:
        matrix: overlaps of all pairs.
        measure: ``phi``, ``distance`` or ``grassmann``.
    """
    count = len(matrix.names)
    figure, axes = new_figure(2 * (0.95 * count + 1.4), 0.85 * count + 2.1, 1, 2)
    values = [matrix.matrix(measure, side) for side in _SIDES]
    nulls = [matrix.null(measure, side) for side in _SIDES]
    # chance belongs on the scale: small differences far below it are nothing
    known = torch.stack([*values, *nulls])
    known = known[~known.isnan()]
    if not len(known):
        raise ConfigError(f"no pair of {', '.join(matrix.names)} has a measurement of {measure!r}")
    top = float(known.max())
    image = None
    for axis, side, value, null in zip(axes, _SIDES, values, nulls, strict=True):
        image = _annotated(axis, matrix.names, value.tolist(), null.tolist(), top)
        axis.set_title(_TITLES[side], fontsize="medium")
    assert image is not None
    figure.colorbar(image, ax=axes, shrink=0.8, label=measure)
    within = any(first == second for first, second in matrix.reports)
    diagonal = "\non the diagonal: halves of one attribute" if within else ""
    figure.suptitle(f"{measure} between attributes\nin brackets: chance{diagonal}", fontsize="medium")
    return figure


def explained_heatmap(rows: Sequence[HeldOutExplained], *, layers: str = "all") -> Figure:
    """Draws the share of each attribute's adapters (columns) in subspaces mined from others' (rows).

    Every cell has the share and, below it in brackets, what chance gives.

    Args:
        rows: of :func:`lorasub.subspaces.held_out_explained`.
        layers: which kind of layer is shown.

    Raises:
        ConfigError: there is no row of that kind of layer.
    """
    shown = {(row.basis, row.adapters): row for row in rows if row.layers == layers}
    if not shown:
        raise ConfigError(f"no row is of the layers '{layers}'; there are {', '.join({row.layers for row in rows})}")
    names = list(dict.fromkeys(basis for basis, _ in shown))
    figure, (axis,) = new_figure(1.0 * len(names) + 2.4, 0.85 * len(names) + 1.6)
    values, chance = (
        [[getattr(shown[basis, adapters], field) for adapters in names] for basis in names]
        for field in ("explained", "chance")
    )
    image = _annotated(axis, names, values, chance, max(map(max, values)))
    axis.set_xlabel("held-out adapters of")
    axis.set_ylabel("subspace of")
    figure.colorbar(image, ax=axis, shrink=0.8, label="explained share")
    return figure


def _annotated(
    axis: Axes, names: Sequence[str], values: Sequence[Sequence[float]], chance: Sequence[Sequence[float]], top: float
) -> AxesImage:
    """A coloured square matrix; each cell has its value and, below it in brackets, chance. NaN stays white."""
    image = axis.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=top)
    axis.grid(False)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_yticks(range(len(names)), names)
    for row, column in itertools.product(range(len(names)), repeat=2):
        value = values[row][column]
        if not math.isnan(value):
            axis.text(
                column,
                row,
                f"{value:.3f}\n({chance[row][column]:.3f})",
                ha="center",
                va="center",
                fontsize="small",
                color="white" if value < 0.55 * top else "black",
            )
    return image


def depth_profile(matrix: OverlapMatrix, *, measure: str = "phi") -> Figure:
    """One measure over the depth of the blocks: within attributes, between attributes, and chance.

    One panel for every stage (frame and global blocks) of at least two blocks, and side; four stages in a row. Lines
    are means over attributes or pairs and over the layers of a block; the grey band is chance plus and minus two
    standard deviations of a single pair.

    Args:
        matrix: overlaps of all pairs.
        measure: ``phi``, ``distance`` or ``grassmann``.
    """
    depths: dict[str, set[int]] = {}
    for report in matrix.reports.values():
        for layer in report.layers:
            kind = layer_kind(layer.path)
            if kind.depth is not None and layer.measurements():
                depths.setdefault(kind.stage, set()).add(kind.depth)
    # a single block has no depth to draw over, unless it is all that there is
    stages = sorted(stage for stage, found in depths.items() if len(found) > 1) or sorted(depths)
    if not stages:
        raise ConfigError("no layer is in a list of blocks, so there is no depth to draw over")
    columns = min(_COLUMNS, len(stages))
    bands = math.ceil(len(stages) / columns)
    figure, axes = new_figure(3.0 * columns + 0.6, 4.4 * bands + 0.3, 2 * bands, columns, sharey=True)
    for axis in axes:
        axis.set_visible(False)
    for number, stage in enumerate(stages):
        band, column = divmod(number, columns)
        for row, side in enumerate(_SIDES):
            axis = axes[(2 * band + row) * columns + column]
            axis.set_visible(True)
            _draw_profile(axis, matrix, measure, side, stage)
            axis.set_title(f"{stage}\n{_TITLES[side]}", fontsize="small")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            if column == 0:
                axis.set_ylabel(measure)
            if row == 1:
                axis.set_xlabel("block")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize="small")
    return figure


def angle_histogram(report: OverlapReport, *, bins: int = 30, draws: int = 1000, seed: int = 0) -> Figure:
    """All principal angles of two bases against those of random subspaces of the same dimensions.

    Args:
        report: overlap of two bases.
        bins: from 0 to 90 degrees.
        draws: random pairs per shape of layer.
        seed: of these.
    """
    figure, axes = new_figure(7.2, 3.2, 1, 2, sharey=True)
    edges = [90 * i / bins for i in range(bins + 1)]
    for axis, side in zip(axes, _SIDES, strict=True):
        overlaps = [overlap for layer in report.layers if (overlap := getattr(layer, side)) is not None]
        if not overlaps:
            axis.text(0.5, 0.5, "no dimensions", ha="center", transform=axis.transAxes)
            continue
        found = torch.cat([overlap.angles for overlap in overlaps]).rad2deg()
        chance = torch.cat(
            [random_angles(o.n, *sorted((o.d_first, o.d_second)), draws, seed).flatten() for o in overlaps]
        ).rad2deg()
        axis.hist(chance, edges, density=True, color=NULL_COLOR, alpha=0.45, label="chance")
        axis.hist(found, edges, density=True, histtype="step", color=COLORS[0], linewidth=1.6, label="found")
        axis.set_title(_TITLES[side], fontsize="medium")
        axis.set_xlabel("principal angle (degrees)")
        axis.set_xticks(range(0, 91, 15))
    axes[0].set_ylabel("density")
    axes[0].legend(frameon=False, loc="upper left")
    figure.suptitle(f"{report.first} and {report.second}: {len(report.layers)} layers\n", fontsize="medium")
    return figure


def _draw_profile(axis: Axes, matrix: OverlapMatrix, measure: str, side: Side, stage: str) -> None:
    lines = {"within an attribute": True, "between attributes": False}
    chance: dict[int, Measurement] = {}
    for number, (label, within) in enumerate(lines.items()):
        values: dict[int, list[float]] = {}
        for (first, second), report in matrix.reports.items():
            if (first == second) != within:
                continue
            for depth, mean in _over_depth(report, measure, side, stage).items():
                values.setdefault(depth, []).append(mean.value)
                chance.setdefault(depth, mean)
        if values:
            depths = sorted(values)
            means = [sum(values[depth]) / len(values[depth]) for depth in depths]
            axis.plot(depths, means, color=COLORS[number], marker=MARKERS[number], markersize=3.5, label=label)
    depths = sorted(chance)
    low = [max(0.0, chance[depth].null_mean - 2 * chance[depth].null_std) for depth in depths]
    high = [chance[depth].null_mean + 2 * chance[depth].null_std for depth in depths]
    places: list[float] = list(depths)
    if len(depths) == 1:  # a band of some width, between whole numbers
        places, low, high = [depths[0] - 0.4, depths[0] + 0.4], low * 2, high * 2
        axis.set_xlim(depths[0] - 1, depths[0] + 1)
    axis.fill_between(places, low, high, color=NULL_COLOR, alpha=0.45, linewidth=0, label="chance, 2 deviations")


def _over_depth(report: OverlapReport, measure: str, side: Side, stage: str) -> dict[int, Measurement]:
    of_stage = tuple(layer for layer in report.layers if layer_kind(layer.path).stage == stage)
    summary = OverlapReport(first=report.first, second=report.second, layers=of_stage).summary("depth")
    return {int(s.group): s.mean for s in summary if s.side == side and s.measure == measure and s.group.isdigit()}
