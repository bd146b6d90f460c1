"""Descriptions of captures and their frames, as readers make them, before any pixel is decoded.

A :class:`Frame` names an image and what is known about it; a :class:`Capture` is a named list of them. Readers make
them (:mod:`lorasub.data.readers`), :func:`lorasub.data.decoding.load_view` decodes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from lorasub.data.masks import MaskFile
from lorasub.errors import DataError

#: How far the rows of a stored rotation may be from orthonormal. Text files carry as few as four digits.
ROTATION_TOLERANCE = 1e-2
#: Focal lengths below this are no pixels.
LEAST_FOCAL = 2.0


class DepthSource(Protocol):
    """Anything that yields the z-depth of one frame on the pixel grid of its image (see :mod:`lorasub.data.depth`)."""

    def load(self, image_size: tuple[int, int]) -> Tensor:
        """Decode the depth.

        Args:
            image_size: (H, W) of the frame's image before any resizing.

        Returns:
            ``[h, w]`` float32 z-depth in the capture's world unit, 0 where unknown. It covers the same field of view
            as the image; its resolution may differ.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One image of a capture.

    Attributes:
        name: unique in its capture; used in messages and result files.
        image: path of the colour image.
        intrinsics: ``[3, 3]`` float64 in pixels of that image, **pixel centres at half integers** (the centre of the
            first pixel is (0.5, 0.5)). None if unknown. Sources that count pixel centres from 0 need 0.5 added to their
            principal point: :func:`pinhole`.
        cam_from_world: ``[3, 4]`` float64, OpenCV axes. None if the frame has no pose.
        depth: where its depth comes from, None if there is none.
        object_mask: where in the image the objects are that the data set is about, None if nobody says.
        distortion: OpenCV's coefficients (k1, k2, p1, p2[, k3]); the image is undistorted when it is loaded, so that
            ``intrinsics`` hold exactly. Empty for a pinhole camera.
        camera_size: (width, height) of the images that ``intrinsics`` were stated for; None where the source does not
            say. An image of another size is turned upright if that makes it fit, and ``intrinsics`` are scaled to it
            when it is loaded; a source of depth is asked for depth on the grid of this size.
        camera_assumed: nothing in the source states the camera; the reader took one that is usual for the layout. An
            image of another size than ``camera_size`` is then an error.
    """

    name: str
    image: Path
    intrinsics: Tensor | None = None
    cam_from_world: Tensor | None = None
    depth: DepthSource | None = None
    object_mask: MaskFile | None = None
    distortion: tuple[float, ...] = ()
    camera_size: tuple[int, int] | None = None
    camera_assumed: bool = False

    def __post_init__(self) -> None:
        if self.intrinsics is not None:
            _check_intrinsics(self.intrinsics, self.image)
        if self.cam_from_world is not None:
            _check_pose(self.cam_from_world, self.image)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Capture:
    """Frames of one scene that share a world.

    Attributes:
        name: used as scene id.
        root: the folder; no file of the capture lies outside.
        frames: in the order of the source, which is time order for videos.
        metric: whether the world unit is the metre.
        format: name of the reader.
        label: class of the scene, from 0, for tasks that classify; None where it has none.
        notes: what the reader left out or assumed, in words for people.
    """

    name: str
    root: Path
    frames: tuple[Frame, ...]
    metric: bool
    format: str
    label: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.frames:
            why = f" ({'; '.join(self.notes)})" if self.notes else ""
            raise DataError(f"{self.root}: the folder looks like '{self.format}' but holds no frame with an image{why}")
        if self.label is not None and self.label < 0:
            raise DataError(f"{self.root}: its label is {self.label}; classes count from 0, and no label means unknown")
        names = [frame.name for frame in self.frames]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise DataError(f"{self.root}: several frames are called {twice[:3]}; frame names must be unique")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def has_poses(self) -> bool:
        """True if at least one frame has a pose."""
        return any(frame.cam_from_world is not None for frame in self.frames)

    @property
    def has_depth(self) -> bool:
        """True if at least one frame has depth."""
        return any(frame.depth is not None for frame in self.frames)


def pinhole(fx: float, fy: float, cx: float, cy: float, *, centres: float = 0.5) -> Tensor:
    """Intrinsics in lorasub's convention.

    Args:
        fx: horizontal focal length in pixels.
        fy: vertical focal length in pixels.
        cx: principal point, from the left.
        cy: principal point, from the top.
        centres: where the source puts the centre of its first pixel: 0.5 (COLMAP, nerfstudio, "half the width") or
            0.0 (OpenCV calibrations, RealSense, ROS, TUM, Open3D).

    Returns:
        ``[3, 3]`` float64 with pixel centres at half integers.
    """
    shift = 0.5 - centres
    return torch.tensor([[fx, 0.0, cx + shift], [0.0, fy, cy + shift], [0.0, 0.0, 1.0]], dtype=torch.float64)


def _check_intrinsics(intrinsics: Tensor, where: Path) -> None:
    if intrinsics.shape != (3, 3) or not torch.isfinite(intrinsics).all():
        raise DataError(f"{where}: intrinsics must be a finite 3 x 3 matrix, got {intrinsics.tolist()}")
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
        raise DataError(
            f"{where}: focal lengths must be positive, got fx={intrinsics[0, 0]:g}, fy={intrinsics[1, 1]:g}. "
            "A negative fy means that the source's camera looks along y up: its reader has to turn the axes"
        )
    if float(intrinsics[:2, :2].diagonal().min()) < LEAST_FOCAL:
        raise DataError(
            f"{where}: focal lengths are in pixels, got fx={intrinsics[0, 0]:g}, fy={intrinsics[1, 1]:g}; are they "
            "parts of the image's size?"
        )
    if abs(float(intrinsics[0, 1])) > 1e-6:
        raise DataError(f"{where}: intrinsics with skew ({intrinsics[0, 1]:g}) are not supported")


def _check_pose(pose: Tensor, where: Path) -> None:
    if pose.shape != (3, 4) or not torch.isfinite(pose).all():
        raise DataError(f"{where}: its pose must be a finite 3 x 4 matrix, got {pose.tolist()}")
    rotation = pose[:, :3]
    error = float((rotation @ rotation.T - torch.eye(3, dtype=pose.dtype)).abs().max())
    if error > ROTATION_TOLERANCE or torch.linalg.det(rotation) < 0:
        raise DataError(
            f"{where}: the rotation of its pose is no rotation (R R^T is off by {error:.2g}, "
            f"det {float(torch.linalg.det(rotation)):.2f}); are axes swapped, or is a scale mixed in?"
        )
