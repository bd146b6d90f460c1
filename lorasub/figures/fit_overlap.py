"""Bar charts of one fit: its overlap with reference bases, and the columns of its basis that it uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from lorasub.figures.style import COLORS, NULL_COLOR, new_figure
from lorasub.subspaces import OverlapReport, Placebo, Side

_SIDES: tuple[Side, Side] = ("output", "input")


def overlap_bars(reports: Mapping[str, OverlapReport], placebos: Mapping[Side, Mapping[str, Placebo]]) -> Figure:
    """Draws the mean overlap phi of one fit with each reference, beside both of its nulls.

    Args:
        reports: name of the reference -> overlap with it.
        placebos: side -> name -> what a basis with shuffled labels gives; empty where there is none.
    """
    figure, axes = new_figure(7.2, 0.5 * len(reports) + 1.7, 1, 2, sharey=True)
    names = list(reports)
    for axis, side in zip(axes, _SIDES, strict=True):
        for row, name in enumerate(names):
            if (mean := reports[name].mean("phi", side)) is None:
                continue
            first = row == 0
            axis.barh(row, mean.value, color=COLORS[0], height=0.55, label="this fit" if first else None)
            axis.plot(
                [mean.null_mean] * 2, [row - 0.4, row + 0.4], color="black", ls=":", label="Haar" if first else None
            )
            if (placebo := placebos.get(side, {}).get(name)) is not None:
                axis.errorbar(
                    placebo.mean,
                    row,
                    xerr=2 * placebo.std,
                    color=COLORS[1],
                    marker="D",
                    markersize=4,
                    capsize=3,
                    label="shuffled labels, 2 deviations" if first else None,
                )
        axis.set_xlim(left=0)
        axis.set_xlabel(f"phi, {side} side")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    _legend(figure)
    return figure


def usage_bars(rows: Sequence[tuple[str, str, float, float]]) -> Figure:
    """Draws how much of a projected fit's update lies in columns of each origin, beside their share of the columns.

    Args:
        rows: (origin, side, share of the columns, share of the update).
    """
    origins = list(dict.fromkeys(origin for origin, _, _, _ in rows))
    figure, axes = new_figure(7.2, 0.5 * len(origins) + 1.7, 1, 2, sharey=True)
    for axis, side in zip(axes, _SIDES, strict=True):
        for origin, own, columns, used in rows:
            if own == side:
                row = origins.index(origin)
                axis.barh(row - 0.17, used, color=COLORS[0], height=0.32, label=None if row else "of the update")
                axis.barh(row + 0.17, columns, color=NULL_COLOR, height=0.32, label=None if row else "of the columns")
        axis.set_xlim(0, 1)
        axis.set_xlabel(f"share, {side} side")
    axes[0].set_yticks(range(len(origins)), origins)
    axes[0].invert_yaxis()
    _legend(figure)
    return figure


def _legend(figure: Figure) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize="small")
