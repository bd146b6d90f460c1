"""Point clouds from above and from the side, with the cameras that saw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from lorasub.errors import DataError
from lorasub.geometry import camera_centers, compose_poses, invert_pose, transform_points
from lorasub.geometry.projection import FRUSTUM_EDGES, frustum_corners

#: Range of the resolution of drawn clouds, which grows with the number of points so that surfaces look closed. Points
#: are drawn into an image: a scatter plot of 100,000 takes seconds.
PIXELS = (100, 420)
CAMERA_COLORS = ("#d55e00", "#0072b2")  # first camera, others: told apart with every kind of colour vision
#: Part of the points to fit into the picture; the rest are strays of a depth map's edges.
SHOWN = 0.98


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CloudView:
    """A cloud to draw and the cameras around it, in OpenCV axes (y down).

    Attributes:
        title: what it is.
        points: ``[N, 3]``.
        colors: ``[N, 3]`` uint8.
        cam_from_world: ``[S, 3, 4]``, S may be 0.
        intrinsics: ``[S, 3, 3]``.
        image_size: (H, W) of the cameras.
    """

    title: str
    points: Tensor
    colors: Tensor
    cam_from_world: Tensor
    intrinsics: Tensor
    image_size: tuple[int, int]


def point_cloud_panels(clouds: Sequence[CloudView]) -> Figure:
    """Draw clouds from above (x against z) and from the side (z against y), one row a cloud, all to one scale.

    Seen in the first camera's frame, whose y axis is taken for "down"; the first camera is drawn in orange.

    Raises:
        DataError: there is no cloud, or one has no finite point.
    """
    if not clouds:
        raise DataError("there is no point cloud to draw")
    turned = [_in_first_camera(cloud) for cloud in clouds]
    low, high = _bounds(turned)
    # each view: horizontal axis, vertical axis, the axis along which nearer points hide others (from its low end)
    views = (("from above", 0, 2, 1), ("from the side", 2, 1, 0))
    spans = [(high[across] - low[across], high[up] - low[up]) for _, across, up, _ in views]
    widths = [width / tall for width, tall in spans]
    figure = Figure(figsize=(min(3 * sum(widths) + 0.8, 11), 3.1 * len(clouds)), layout="constrained")
    axes = figure.subplots(len(clouds), 2, squeeze=False, width_ratios=widths)
    for row, cloud in zip(axes, turned, strict=True):
        for axis, (name, across, up, along) in zip(row, views, strict=True):
            limits = (low[across], high[across], low[up], high[up])
            image = _draw(cloud, (across, up, along), limits)
            axis.imshow(image, extent=limits, origin="lower", interpolation="nearest", aspect="equal")
            for lines, color, order in _frusta(cloud, float(np.max(high - low)), (across, up)):
                axis.add_collection(LineCollection(list(lines), colors=color, linewidths=1.0, zorder=order))
            axis.set_xlim(limits[0], limits[1])
            axis.set_ylim(limits[2], limits[3])
            if up == 1:
                axis.invert_yaxis()  # y points down
            axis.set_title(f"{cloud.title}, {name}", fontsize=9)
            axis.set_xlabel("xyz"[across], fontsize=8)
            axis.set_ylabel("xyz"[up], fontsize=8)
            axis.tick_params(labelsize=7)
    return figure


def _in_first_camera(cloud: CloudView) -> CloudView:
    finite = torch.isfinite(cloud.points).all(-1)
    if not finite.any():
        raise DataError(f"the point cloud '{cloud.title}' has no finite point")
    points, colors = cloud.points[finite].float().cpu(), cloud.colors[finite].cpu()
    poses = cloud.cam_from_world.float().cpu()
    if len(poses):
        first = poses[0]
        points, poses = transform_points(first, points), compose_poses(poses, invert_pose(first))
    return CloudView(
        title=cloud.title,
        points=points,
        colors=colors,
        cam_from_world=poses,
        intrinsics=cloud.intrinsics.float().cpu(),
        image_size=cloud.image_size,
    )


def _bounds(clouds: Sequence[CloudView]) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Common corners of what is shown: most points, and every camera, with a margin."""
    lows, highs = [], []
    for cloud in clouds:
        points = cloud.points.numpy()
        low, high = np.percentile(points, [50 * (1 - SHOWN), 50 * (1 + SHOWN)], axis=0)
        centers = camera_centers(cloud.cam_from_world).numpy().reshape(-1, 3)
        lows += [low, *centers]
        highs += [high, *centers]
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    margin = 0.05 * max(float(np.max(high - low)), 1e-6)
    return low - margin, high + margin


def _draw(
    cloud: CloudView, axes: tuple[int, int, int], limits: tuple[float, float, float, float]
) -> npt.NDArray[np.uint8]:
    """Image ``[h, w, 3]`` of the points on white, the first row at the low end of the vertical axis."""
    across, up, along = axes
    left, right, bottom, top = limits
    pixels = min(max(len(cloud.points) ** 0.5, PIXELS[0]), PIXELS[1])
    step = max(right - left, top - bottom) / pixels
    width, height = max(round((right - left) / step), 1), max(round((top - bottom) / step), 1)
    points = cloud.points.numpy()
    column = np.floor((points[:, across] - left) / (right - left) * width).astype(np.int64)
    row = np.floor((points[:, up] - bottom) / (top - bottom) * height).astype(np.int64)
    seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    # painted back to front: of several writes to a pixel numpy keeps the last
    order = np.argsort(-points[seen, along], kind="stable")
    image = np.full((height, width, 3), 255, np.uint8)
    image[row[seen][order], column[seen][order]] = cloud.colors.numpy()[seen][order]
    return image


def _frusta(cloud: CloudView, extent: float, axes: tuple[int, int]) -> list[tuple[npt.NDArray[np.floating], str, int]]:
    """Line segments of the first and of the other cameras, with their colour and drawing order."""
    if not len(cloud.cam_from_world):
        return []
    corners = frustum_corners(cloud.cam_from_world, cloud.intrinsics, cloud.image_size, 0.05 * extent).numpy()
    segments = corners[:, np.array(FRUSTUM_EDGES)][..., list(axes)]  # [S, 8, 2, 2]
    first, others = segments[0], segments[1:].reshape(-1, 2, 2)
    return [(others, CAMERA_COLORS[1], 2), (first, CAMERA_COLORS[0], 3)]
