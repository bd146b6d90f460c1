"""Depth panels: input, predicted depth, true depth and their difference, one row a view."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from lorasub.errors import DataError
from lorasub.structures import Predictions, SceneBatch

#: Both maps grow evenly in lightness and are read alike with every kind of colour vision.
DEPTH_MAP = "viridis"
ERROR_MAP = "magma"
UNKNOWN = "0.8"
#: Relative error at the top of the error scale.
LARGEST_ERROR = 0.25
INCHES_PER_PANEL = 1.9


def depth_panels(
    batch: SceneBatch,
    predictions: Predictions,
    *,
    scene: int = 0,
    max_views: int = 4,
    align: Literal["none", "median"] = "none",
) -> Figure:
    """Compare predicted with true depth for the views of one scene; without any truth, show the prediction alone.

    Predicted and true depth share one colour scale, over the 2 % to 98 % range of both. Pixels whose depth is not known
    are grey. The error is ``|predicted - true| / true``.

    Args:
        batch: scenes in the unit of the predictions (normalised).
        predictions: what a backbone said about them.
        scene: which scene of the batch.
        max_views: at most so many rows.
        align: ``"median"`` multiplies the prediction by the ratio of the medians over the known pixels of the scene.

    Raises:
        DataError: there is no predicted depth, or no such scene.
    """
    if predictions.depth is None:
        raise DataError("depth panels need a predicted depth; this backbone has no depth head")
    if not 0 <= scene < len(batch):
        raise DataError(f"scene {scene} was asked for, but the batch holds {len(batch)}")
    rows = min(max_views, batch.num_views)
    images = batch.images[scene].float().movedim(1, -1).cpu().numpy()
    valid = batch.valid[scene].cpu().numpy()
    truth = np.where(valid, batch.depth[scene].float().cpu().numpy(), np.nan)
    predicted = predictions.depth[scene].detach().float().cpu().numpy()
    if align == "median" and valid.any():
        predicted = predicted * (np.median(truth[valid]) / np.median(predicted[valid]))
    error = np.abs(predicted - truth) / truth

    height, width = batch.image_size
    panel = (INCHES_PER_PANEL * width / max(height, width), INCHES_PER_PANEL * height / max(height, width))
    columns = 4 if valid[:rows].any() else 2
    figure = Figure(figsize=(columns * panel[0] + 0.4, rows * panel[1] + 0.95), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    depth_scale = _range(truth[:rows], predicted[:rows])
    error_scale = Normalize(0, LARGEST_ERROR)
    depth_map = colormaps[DEPTH_MAP].with_extremes(bad=UNKNOWN)
    error_map = colormaps[ERROR_MAP].with_extremes(bad=UNKNOWN)
    for row in range(rows):
        axes[row, 0].imshow(images[row].clip(0, 1))
        _show(axes[row, 1], predicted[row], depth_map, depth_scale)
        if columns == 4:
            _show(axes[row, 2], truth[row], depth_map, depth_scale)
            _show(axes[row, 3], error[row], error_map, error_scale)
        if valid[row].any():
            axes[row, 3].set_xlabel(f"mean {np.nanmean(error[row]):.1%}", fontsize=7, labelpad=2)
        axes[row, 0].set_ylabel(batch.frame_ids[scene][row][-24:], fontsize=7)
    prediction_title = "predicted depth" if align == "none" else "predicted (median-aligned)"
    titles = ("input", prediction_title, "true depth", "relative error")
    for axis, title in zip(axes[0], titles[:columns], strict=True):
        axis.set_title(title, fontsize=9)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    # of two columns the bar goes below both: below one, its label would not fit
    below = axes[:, 1:3] if columns == 4 else axes
    _bar(figure, ScalarMappable(depth_scale, depth_map), below, "depth (grey: unknown)", aspect=30)
    if columns == 4:
        _bar(figure, ScalarMappable(error_scale, error_map), axes[:, 3], "error", aspect=15, extend="max")
    figure.suptitle(batch.scene_ids[scene], fontsize=9)
    return figure


def _show(axis: Axes, values: npt.NDArray[np.floating], cmap: Colormap, norm: Normalize) -> None:
    axis.imshow(np.ma.masked_invalid(values), cmap=cmap, norm=norm, interpolation="nearest")


def _bar(figure: Figure, colors: ScalarMappable, axes: npt.NDArray[np.object_], label: str, **options: Any) -> None:
    bar = figure.colorbar(colors, ax=axes, location="bottom", fraction=0.05, pad=0.02, **options)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _range(*depths: npt.NDArray[np.floating]) -> Normalize:
    known = np.concatenate([depth[np.isfinite(depth)] for depth in depths])
    if not known.size:
        return Normalize(0, 1)
    low, high = np.percentile(known, [2, 98])
    return Normalize(float(low), float(max(high, low + 1e-6)))
