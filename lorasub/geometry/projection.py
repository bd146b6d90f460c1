"""Between pixels with depth and points: the pinhole camera, with pixel centres at half integers.

Pixel (i, j), row i and column j, is sampled at (x, y) = (j + 0.5, i + 0.5). kornia and OpenCV put pixel centres at
whole numbers; intrinsics made for that convention need 0.5 added to the principal point before they come here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorasub.geometry.poses import camera_to_world, invert_pose
from lorasub.precision import full_precision


def pixel_centers(
    height: int, width: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Returns the places at which the pixels of an image are sampled.

    Returns:
        ``[H, W, 2]``, (x, y) = (j + 0.5, i + 0.5).
    """
    y = torch.arange(height, device=device, dtype=dtype or torch.get_default_dtype()) + 0.5
    x = torch.arange(width, device=device, dtype=dtype or torch.get_default_dtype()) + 0.5
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1)


@full_precision
def unproject_depth(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Points in the camera's frame from a z-depth map.

    Args:
        depth: ``[..., H, W]`` along z; 0 gives the point 0.
        intrinsics: ``[..., 3, 3]`` in pixels, skew allowed.

    Returns:
        ``[..., H, W, 3]``.
    """
    height, width = depth.shape[-2:]
    pixels = pixel_centers(height, width, device=depth.device, dtype=depth.dtype)
    k = intrinsics[..., None, None, :, :]
    y = (pixels[..., 1] - k[..., 1, 2]) / k[..., 1, 1]
    x = (pixels[..., 0] - k[..., 0, 2] - k[..., 0, 1] * y) / k[..., 0, 0]
    return torch.stack([x * depth, y * depth, depth.expand_as(x * depth)], dim=-1)


@full_precision
def fields_of_view(points: Tensor) -> Tensor:
    """Fields of view from a map of points in the camera's frame, for models that predict points and no intrinsics.

    The focal lengths are those with which the points' rays meet their pixels best, by least squares, with the principal
    point in the image's middle: ``f = sum(u^2) / sum(u x / z)`` over pixels at the distance ``u`` from the middle.

    Args:
        points: ``[..., H, W, 3]`` with z > 0.

    Returns:
        ``[..., 2]`` in radians, vertical and horizontal, as pose encodings have them.
    """
    height, width = points.shape[-3:-1]
    middle = torch.tensor([width, height], device=points.device, dtype=points.dtype) / 2
    offset = pixel_centers(height, width, device=points.device, dtype=points.dtype) - middle
    rays = points[..., :2] / points[..., 2:].clamp(min=1e-6)
    focal = offset.square().sum((0, 1)) / (offset * rays).sum((-3, -2)).clamp(min=1e-6)
    return 2 * torch.atan(middle / focal).flip(-1)


@full_precision
def project_points(points: Tensor, intrinsics: Tensor) -> Tensor:
    """Pixels where points in the camera's frame are seen.

    Args:
        points: ``[*N, ..., 3]`` in the camera's frame. Only z > 0 is in front of the camera: elsewhere the result is
            finite but means nothing, so mask by z.
        intrinsics: ``[*N, 3, 3]`` in pixels, skew allowed.

    Returns:
        ``[*N, ..., 2]`` (x, y) in pixels.
    """
    k = intrinsics.reshape(*intrinsics.shape[:-2], *[1] * (points.ndim - intrinsics.ndim + 1), 3, 3)
    z = points[..., 2]
    z = torch.where(z.abs() < torch.finfo(z.dtype).tiny ** 0.5, torch.ones_like(z), z)
    x, y = points[..., 0] / z, points[..., 1] / z
    return torch.stack(
        [k[..., 0, 0] * x + k[..., 0, 1] * y + k[..., 0, 2], k[..., 1, 1] * y + k[..., 1, 2]],
        dim=-1,
    )


def world_points_from_depth(depth: Tensor, intrinsics: Tensor, cam_from_world: Tensor) -> Tensor:
    """World points from a z-depth map and its camera.

    Args:
        depth: ``[..., H, W]`` along z.
        intrinsics: ``[..., 3, 3]`` in pixels.
        cam_from_world: ``[..., 3, 4]`` OpenCV extrinsics.

    Returns:
        ``[..., H, W, 3]``. Where depth is 0 this is the camera's centre, so mask by the valid pixels.
    """
    return camera_to_world(unproject_depth(depth, intrinsics), cam_from_world)


#: Pairs of corners (as :func:`frustum_corners` numbers them) to join by lines.
FRUSTUM_EDGES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1))


def frustum_corners(cam_from_world: Tensor, intrinsics: Tensor, image_size: tuple[int, int], depth: float) -> Tensor:
    """The five corners of camera frusta.

    Args:
        cam_from_world: ``[S, 3, 4]``.
        intrinsics: ``[S, 3, 3]``.
        image_size: (H, W) that ``intrinsics`` belong to.
        depth: how far in front of the camera the image is drawn, in world units.

    Returns:
        ``[S, 5, 3]`` in the world: the camera's centre, then the image's corners clockwise from the top left.
    """
    height, width = image_size
    corners = intrinsics.new_tensor([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]])
    rays = corners @ torch.linalg.inv(intrinsics).mT
    world_from_cam = invert_pose(cam_from_world).to(rays)
    center = world_from_cam[:, None, :, 3]
    return torch.cat([center, rays * depth @ world_from_cam[..., :3].mT + center], dim=1)
