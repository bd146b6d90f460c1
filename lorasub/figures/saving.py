"""Writing a figure, with the numbers behind it beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lorasub.files import atomic_path, write_csv


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
