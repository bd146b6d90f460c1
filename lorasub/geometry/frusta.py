"""Cameras as things to draw: the pyramid between a camera's centre and its image's corners."""

from __future__ import annotations

import torch
from torch import Tensor

from lorasub.geometry.poses import invert_pose

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
