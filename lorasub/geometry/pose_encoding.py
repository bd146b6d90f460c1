"""VGGT's nine numbers for a camera: translation (3), quaternion xyzw (4), vertical and horizontal field of view (2).

The encoding (``absT_quaR_FoV`` in the released code) describes the extrinsics [R | t] of ``cam_from_world``, not the
camera's place in the world, and leaves the principal point out: decoding puts it at the image's centre.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lorasub.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix
from lorasub.precision import full_precision

#: Smallest distance of a decoded field of view from 0 and from pi. VGGT's camera head ends in a ReLU, so an exact 0
#: occurs; without this the focal length would be infinite and everything computed from it NaN.
MIN_FOV = 1e-3


@full_precision
def encode_pose(cam_from_world: Tensor, intrinsics: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Encode cameras.

    Args:
        cam_from_world: ``[..., 3, 4]`` OpenCV extrinsics.
        intrinsics: ``[..., 3, 3]`` in pixels. Only the focal lengths are read.
        image_size: (H, W) in pixels.

    Returns:
        ``[..., 9]``: t, quaternion xyzw with w >= 0, then 2 atan(H / 2 fy) and 2 atan(W / 2 fx) in radians.

    Example:
        >>> pose, camera = torch.eye(4)[:3], torch.tensor([[50.0, 0, 32], [0, 50.0, 24], [0, 0, 1]])
        >>> encoding = encode_pose(pose, camera, (48, 64))
        >>> encoding.shape, encoding[3:7]  # no rotation: the last number of the quaternion is 1
        (torch.Size([9]), tensor([0., 0., 0., 1.]))
    """
    height, width = image_size
    fov_y = 2 * torch.atan(height / 2 / intrinsics[..., 1, 1])
    fov_x = 2 * torch.atan(width / 2 / intrinsics[..., 0, 0])
    quaternion = matrix_to_quaternion(cam_from_world[..., :3])
    return torch.cat([cam_from_world[..., 3], quaternion, fov_y[..., None], fov_x[..., None]], dim=-1)


@full_precision
def decode_pose(encoding: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Cameras from their encoding, as :func:`encode_pose` writes it or a network predicts it.

    Args:
        encoding: ``[..., 9]``. The quaternion may have any length but 0; fields of view outside
            [:data:`MIN_FOV`, pi - :data:`MIN_FOV`] are clamped.
        image_size: (H, W) in pixels.

    Returns:
        ``cam_from_world`` ``[..., 3, 4]`` and ``intrinsics`` ``[..., 3, 3]`` in pixels, with the principal point at
        (W / 2, H / 2).

    Example:
        >>> pose, camera = decode_pose(torch.tensor([1.0, 0, 0, 0, 0, 0, 1, 1.57079633, 1.57079633]), (48, 64))
        >>> pose[:, 3], camera[0, 0], camera[1, 1]  # fields of view of 90 degrees: half the width, half the height
        (tensor([1., 0., 0.]), tensor(32.), tensor(24.))
    """
    height, width = image_size
    cam_from_world = torch.cat([quaternion_to_matrix(encoding[..., 3:7]), encoding[..., :3, None]], dim=-1)
    half_tangent = torch.tan(encoding[..., 7:].clamp(MIN_FOV, math.pi - MIN_FOV) / 2)
    focal_y, focal_x = height / 2 / half_tangent[..., 0], width / 2 / half_tangent[..., 1]
    zero, one = torch.zeros_like(focal_x), torch.ones_like(focal_x)
    rows = [
        torch.stack([focal_x, zero, one * (width / 2)], dim=-1),
        torch.stack([zero, focal_y, one * (height / 2)], dim=-1),
        torch.stack([zero, zero, one], dim=-1),
    ]
    return cam_from_world, torch.stack(rows, dim=-2)
