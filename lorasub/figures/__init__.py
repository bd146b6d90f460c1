"""Figures: functions that take results and return a matplotlib figure. Nothing here computes what it shows."""

from matplotlib.figure import Figure

from lorasub.figures.calibration import CalibrationCurves, calibration_figure
from lorasub.figures.fit_overlap import overlap_bars, usage_bars
from lorasub.figures.overlap import angle_histogram, depth_profile, explained_heatmap, overlap_heatmap
from lorasub.figures.spectra import spectra_figure, spectra_rows
from lorasub.figures.study import ablation_figure, learning_curves, overlap_variants, parameters_figure, pulls_figure
from lorasub.figures.style import save_figure
from lorasub.figures.trajectories import trajectory_figure

__all__ = [
    "CalibrationCurves",
    "Figure",
    "ablation_figure",
    "angle_histogram",
    "calibration_figure",
    "depth_profile",
    "explained_heatmap",
    "learning_curves",
    "overlap_bars",
    "overlap_heatmap",
    "overlap_variants",
    "parameters_figure",
    "pulls_figure",
    "save_figure",
    "spectra_figure",
    "spectra_rows",
    "trajectory_figure",
    "usage_bars",
]
