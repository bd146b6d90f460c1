"""Camera paths: estimated against true, from above and from the side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from lorasub.errors import DataError
from lorasub.figures.style import COLORS, MARKERS, new_figure
from lorasub.geometry import camera_centers, transform_points


def trajectory_figure(paths: Mapping[str, Tensor], *, title: str = "", unit: str = "") -> Figure:
    """Draw camera paths that share a world, from above (x against z) and from the side (z against y), to one scale.

    Seen in the frame of the first camera of the first path, whose y axis is taken for "down". Each path begins at its
    filled marker. Where two paths have as many views, thin lines join the views that belong together.

    Args:
        paths: name -> ``[S, 3, 4]`` camera-from-world, the true path first. Estimated paths must have been aligned
            (:func:`lorasub.metrics.functional.align_trajectory`).
        title: above the figure.
        unit: of the axes, such as "m".

    Raises:
        DataError: there is no path, or one that is not finite.
    """
    if not paths:
        raise DataError("there is no camera path to draw")
    for name, poses in paths.items():
        if not len(poses) or not poses.isfinite().all():
            raise DataError(f"the camera path '{name}' has no views, or poses that are not finite")
    first_camera = next(iter(paths.values()))[0].double().cpu()
    # poses come normalised or in metres, and from anywhere: only their own frame can be drawn
    centers = {
        name: transform_points(first_camera, camera_centers(poses.double().cpu())).numpy()
        for name, poses in paths.items()
    }
    figure, axes = new_figure(8, 3.8, 1, 2)
    reference, *others = centers.values()
    for axis, (name, across, up) in zip(axes, (("from above", 0, 2), ("from the side", 2, 1)), strict=True):
        for other in others:
            if len(other) == len(reference):
                pairs = np.stack([reference, other])
                axis.plot(pairs[..., across], pairs[..., up], color="0.75", linewidth=0.7, zorder=1)
        for index, (label, path) in enumerate(centers.items()):
            color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
            style = "-" if index == 0 else "--"
            options: dict[str, Any] = {"color": color, "marker": marker, "markersize": 4, "markerfacecolor": "white"}
            axis.plot(path[:, across], path[:, up], style, label=label, linewidth=1.3, zorder=2, **options)
            axis.plot(path[:1, across], path[:1, up], marker=marker, color=color, markersize=6, zorder=3)
        axis.set_aspect("equal", adjustable="datalim")
        if up == 1:
            axis.invert_yaxis()  # y points down
        suffix = f" ({unit})" if unit else ""
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("xyz"[across] + suffix, fontsize=8)
        axis.set_ylabel("xyz"[up] + suffix, fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].legend(fontsize=8, frameon=False)
    if title:
        figure.suptitle(title, fontsize=9)
    return figure
