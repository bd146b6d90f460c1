"""Figures: functions that take results and return a matplotlib figure. Nothing here computes what it shows."""

from lorasub.figures.overlap import angle_histogram, depth_profile, overlap_heatmap
from lorasub.figures.saving import save_figure
from lorasub.figures.spectra import spectra_figure, spectra_rows

__all__ = [
    "angle_histogram",
    "depth_profile",
    "overlap_heatmap",
    "save_figure",
    "spectra_figure",
    "spectra_rows",
]
