"""Figures into files."""

from __future__ import annotations

import os

from matplotlib.figure import Figure

from lorasub.files import atomic_path


def save_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 120) -> None:
    """Write a figure as PNG, atomically; folders are made."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)
