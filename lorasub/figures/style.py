"""One look for all figures: readable in print, in grey, and by people who do not see all colours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorasub.files import atomic_path, write_csv

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


def save_figure(
    figure: Figure,
    path: str | os.PathLike[str],
    rows: Sequence[Mapping[str, Any]] | None = None,
    *,
    dpi: int = 200,
) -> None:
    """Write a figure, and the table behind it as CSV beside it, atomically.

    Args:
        figure: what to write.
        path: its suffix gives the format: ``.png``, ``.pdf`` or ``.svg``.
        rows: flat rows; written under the same name with the suffix ``.csv``.
        dpi: dots per inch of raster formats.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png", dpi=dpi)
    if rows:
        write_csv(path.with_suffix(".csv"), rows)
