"""Rotation matrices, quaternions in the order xyzw (scalar last, as VGGT and scipy), and angles between rotations."""

from __future__ import annotations

import torch
from kornia.geometry.conversions import quaternion_to_rotation_matrix, rotation_matrix_to_quaternion
from torch import Tensor

from lorasub.precision import full_precision


@full_precision
def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices of quaternions of any length.

    Args:
        quaternion: ``[..., 4]`` xyzw; normalised here. A zero quaternion gives the identity.

    Returns:
        ``[..., 3, 3]``.
    """
    matrix: Tensor = quaternion_to_rotation_matrix(quaternion.roll(1, dims=-1))
    return matrix


@full_precision
def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions of rotation matrices, accurate and differentiable at every angle, half turns included.

    Args:
        matrix: ``[..., 3, 3]`` rotation matrices.

    Returns:
        ``[..., 4]`` xyzw with w >= 0. At a half turn (w = 0) both signs describe the same rotation and either comes
        back: compare quaternions up to sign.
    """
    quaternion: Tensor = rotation_matrix_to_quaternion(matrix).roll(-1, dims=-1)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


@full_precision
def rotation_angle(first: Tensor, second: Tensor) -> Tensor:
    """Geodesic distance on SO(3): the angle of the rotation that takes one to the other.

    Computed as atan2(sin, cos), from the skew part and the trace of ``first^T second``. The textbook acos of the trace
    loses half of the digits near 0 and has an infinite gradient there; this has neither.

    Args:
        first: ``[..., 3, 3]``.
        second: ``[..., 3, 3]``. Leading dimensions broadcast.

    Returns:
        ``[...]`` radians in [0, pi].
    """
    between = first.mT @ second
    twice_sine = torch.stack(
        [
            between[..., 2, 1] - between[..., 1, 2],
            between[..., 0, 2] - between[..., 2, 0],
            between[..., 1, 0] - between[..., 0, 1],
        ],
        dim=-1,
    )
    twice_cosine = between.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    return torch.atan2(torch.linalg.vector_norm(twice_sine, dim=-1), twice_cosine)
