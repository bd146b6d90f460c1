"""Cut a window out of a frame and resize it: image, depth and intrinsics together.

Pixel centres are at half integers, so a window with its corner at (left, top) that is resized by s takes the image
point (x, y) to

    x' = (x - left) * s        y' = (y - top) * s

with no half-pixel corrections anywhere, and therefore fx' = fx * s, cx' = (cx - left) * s (y alike). The window is
real-valued and has exactly the target's aspect ratio, so s is the same in both directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lorasub.errors import DataError


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of an image, in its pixels.

    Attributes:
        left: distance of its left edge from the image's left edge.
        top: distance of its top edge from the image's top edge.
        width: its width.
        height: its height.
    """

    left: float
    top: float
    width: float
    height: float

    def scaled(self, factor_x: float, factor_y: float) -> Window:
        """Returns the rectangle in the pixels of an image of another resolution."""
        return Window(self.left * factor_x, self.top * factor_y, self.width * factor_x, self.height * factor_y)


def largest_window(
    image_size: tuple[int, int], target_size: tuple[int, int], center: tuple[float, float] | None = None
) -> Window:
    """The largest window with the target's aspect ratio, centred on a point.

    Args:
        image_size: (H, W) of the image.
        target_size: (H, W) to which the window will be resized.
        center: (x, y) in the image; None for the image's centre.

    Raises:
        DataError: the centre is outside the image.
    """
    height, width = image_size
    x, y = center if center is not None else (width / 2, height / 2)
    if not (0 < x < width and 0 < y < height):
        raise DataError(f"the window's centre ({x:g}, {y:g}) is outside the image of {width} x {height}")
    half_width, half_height = min(x, width - x), min(y, height - y)
    scale = min(2 * half_width / target_size[1], 2 * half_height / target_size[0])  # image pixels per target pixel
    wide, high = target_size[1] * scale, target_size[0] * scale
    # rounding must not push the window over the edge by an ulp: Pillow refuses that
    left, top = max(x - wide / 2, 0.0), max(y - high / 2, 0.0)
    return Window(left, top, min(wide, width - left), min(high, height - top))


def resize_image(image: npt.NDArray[np.uint8], window: Window, size: tuple[int, int]) -> Tensor:
    """Cut and resize an image with an antialiasing bicubic filter.

    Args:
        image: ``[H, W, 3]``.
        window: what to keep.
        size: (H, W) of the result.

    Returns:
        ``[3, *size]`` uint8.
    """
    box = (window.left, window.top, window.left + window.width, window.top + window.height)
    resized = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def resize_intrinsics(intrinsics: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """Intrinsics ``[..., 3, 3]`` of the resized window (see the module's formula)."""
    scale_x, scale_y = size[1] / window.width, size[0] / window.height
    change = intrinsics.new_tensor(
        [[scale_x, 0.0, -window.left * scale_x], [0.0, scale_y, -window.top * scale_y], [0.0, 0.0, 1.0]]
    )
    return change @ intrinsics


def resize_depth(depth: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """Cut and resize depth without ever mixing two values, so that no depth appears between object and background.

    Each target pixel takes the known value nearest to its centre among the source pixels that it covers (always at
    least the one below its centre), and stays unknown if none of them is known.

    Args:
        depth: ``[H, W]``, 0 where unknown.
        window: what to keep, in pixels of ``depth``.
        size: (H, W) of the result.

    Returns:
        ``[*size]``, 0 where unknown.
    """
    height, width = depth.shape
    step_x, step_y = window.width / size[1], window.height / size[0]
    center_x, center_y = _pixel_centers(window, size)
    column, row = center_x.floor().long(), center_y.floor().long()
    reach_x, reach_y = math.ceil(max(step_x - 1, 0) / 2), math.ceil(max(step_y - 1, 0) / 2)

    best = torch.zeros(size, dtype=depth.dtype)
    best_distance = torch.full(size, torch.inf, dtype=torch.float64)
    for dy in range(-reach_y, reach_y + 1):
        for dx in range(-reach_x, reach_x + 1):
            x, y = column + dx, row + dy
            # how far the source pixel's centre is from the target pixel's, and whether the target pixel covers it
            off_x, off_y = (x + 0.5 - center_x).abs(), (y + 0.5 - center_y).abs()
            covered_x = ((off_x <= step_x / 2) | (dx == 0)) & (x >= 0) & (x < width)
            covered_y = ((off_y <= step_y / 2) | (dy == 0)) & (y >= 0) & (y < height)
            value = depth[y.clamp(0, height - 1)[:, None], x.clamp(0, width - 1)[None, :]]
            distance = off_x[None, :] ** 2 + off_y[:, None] ** 2
            nearer = covered_y[:, None] & covered_x[None, :] & (value > 0) & (distance < best_distance)
            best = torch.where(nearer, value, best)
            best_distance = torch.where(nearer, distance, best_distance)
    return best


def resize_mask(mask: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """Cut and resize a mask: each target pixel takes the value of the source pixel below its centre.

    Args:
        mask: ``[H, W]``.
        window: what to keep, in pixels of ``mask``.
        size: (H, W) of the result.

    Returns:
        ``[*size]``.
    """
    center_x, center_y = _pixel_centers(window, size)
    column = center_x.floor().long().clamp(0, mask.shape[1] - 1)
    row = center_y.floor().long().clamp(0, mask.shape[0] - 1)
    return mask[row[:, None], column[None, :]]


def _pixel_centers(window: Window, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Columns ``[W]`` and rows ``[H]`` of the target's pixel centres, in pixels of the source."""
    x = (torch.arange(size[1], dtype=torch.float64) + 0.5) * (window.width / size[1])
    y = (torch.arange(size[0], dtype=torch.float64) + 0.5) * (window.height / size[0])
    return window.left + x, window.top + y
