"""Figures: functions that take results and return a matplotlib figure. Nothing here computes what it shows."""

from lorasub.figures.calibration import CalibrationCurves, calibration_figure
from lorasub.figures.overlap import angle_histogram, depth_profile, overlap_heatmap
from lorasub.figures.saving import save_figure
from lorasub.figures.spectra import spectra_figure, spectra_rows
from lorasub.figures.trajectories import trajectory_figure

__all__ = [
    "CalibrationCurves",
    "angle_histogram",
    "calibration_figure",
    "depth_profile",
    "overlap_heatmap",
    "save_figure",
    "spectra_figure",
    "spectra_rows",
    "trajectory_figure",
]
