"""One look for all figures: readable in print, in grey, and by people who do not see all colours."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Okabe and Ito's palette without its yellow, which is faint on white. Lines also differ in dash and marker.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: What chance would give.
NULL_COLOR = "#888888"
#: Perceptually uniform, rises in lightness, and made for colour-blind readers.
SEQUENTIAL = "cividis"


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of its own, not pyplot's: nothing global is touched, so any thread may draw.

    Args:
        width: inches.
        height: inches.
        rows: of axes.
        columns: of axes.
        options: passed on to ``Figure.subplots``, such as ``sharey=True``.

    Returns:
        The figure and its axes, row by row.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    flat: list[Axes] = list(axes.flat)
    for axis in flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, flat
