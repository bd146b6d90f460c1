"""Take lens distortion out of an image, so that a pinhole camera with the same intrinsics describes it exactly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from lorasub.data.depth import intrinsics_on_grid
from lorasub.data.frames import DepthSource


def undistort(image: Tensor, intrinsics: Tensor, distortion: tuple[float, ...], *, nearest: bool = False) -> Tensor:
    """Resample an image as the pinhole camera of the same intrinsics would have seen it.

    Args:
        image: ``[C, H, W]``, any real dtype.
        intrinsics: ``[3, 3]`` of the image, pixel centres at half integers.
        distortion: OpenCV's k1, k2, p1, p2[, k3[, k4, k5, k6]].
        nearest: take the nearest pixel instead of mixing four (for depth), with 0 outside the image; colour is
            continued from the border.

    Returns:
        ``[C, H, W]`` float32.
    """
    from kornia.geometry import distort_points

    height, width = image.shape[-2:]
    rows = torch.arange(height, dtype=torch.float32) + 0.5
    columns = torch.arange(width, dtype=torch.float32) + 0.5
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).reshape(1, -1, 2)
    seen_at = distort_points(pixels, intrinsics[None].float(), torch.tensor([distortion], dtype=torch.float32))
    # without align_corners, grid_sample's -1 and 1 are the outer edges of the image: half-integer centres
    grid = seen_at.reshape(1, height, width, 2) / torch.tensor([width, height]) * 2 - 1
    mode, padding = ("nearest", "zeros") if nearest else ("bilinear", "border")
    return grid_sample(image[None].float(), grid, mode=mode, padding_mode=padding, align_corners=False)[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UndistortedDepth:
    """Depth that was measured through its image's lens: it is undistorted together with the image.

    Attributes:
        depth: depth on the distorted image's pixel grid.
        intrinsics: ``[3, 3]`` of the image.
        distortion: as for :func:`undistort`.
    """

    depth: DepthSource
    intrinsics: Tensor
    distortion: tuple[float, ...]

    def load(self, image_size: tuple[int, int]) -> Tensor:
        """Decode and undistort; see :class:`lorasub.data.frames.DepthSource`."""
        depth = self.depth.load(image_size)
        intrinsics = intrinsics_on_grid(self.intrinsics, image_size, (depth.shape[0], depth.shape[1]))
        return undistort(depth[None], intrinsics, self.distortion, nearest=True)[0]
