"""Rigid motions as ``[..., 3, 4]`` matrices [R | t].

A pose is named by what it does: ``b_from_a`` takes coordinates in frame a to coordinates in frame b. Products then
read like chains: ``c_from_a = compose_poses(c_from_b, b_from_a)``. kornia's functions of this kind want ``[N, 4, 4]``
exactly; lorasub keeps ``[..., 3, 4]`` with any leading dimensions, so the few lines stand here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lorasub.precision import full_precision


@full_precision
def invert_pose(b_from_a: Tensor) -> Tensor:
    """The inverse motion ``a_from_b``.

    Args:
        b_from_a: ``[..., 3, 4]`` with an orthonormal rotation part (its transpose is taken for its inverse).

    Returns:
        ``[..., 3, 4]``.
    """
    rotation = b_from_a[..., :3].mT
    return torch.cat([rotation, -rotation @ b_from_a[..., 3:]], dim=-1)


@full_precision
def compose_poses(c_from_b: Tensor, b_from_a: Tensor) -> Tensor:
    """One motion after another: ``c_from_a = c_from_b o b_from_a``.

    Args:
        c_from_b: ``[..., 3, 4]``, applied second.
        b_from_a: ``[..., 3, 4]``, applied first. Leading dimensions broadcast.

    Returns:
        ``[..., 3, 4]``.
    """
    rotation, translation = c_from_b[..., :3], c_from_b[..., 3:]
    moved = rotation @ b_from_a
    return torch.cat([moved[..., :3], moved[..., 3:] + translation], dim=-1)


def relative_pose(a_from_world: Tensor, b_from_world: Tensor) -> Tensor:
    """The motion ``b_from_a`` between two cameras of one world.

    Args:
        a_from_world: ``[..., 3, 4]``.
        b_from_world: ``[..., 3, 4]``. Leading dimensions broadcast.

    Returns:
        ``[..., 3, 4]``.
    """
    return compose_poses(b_from_world, invert_pose(a_from_world))


@full_precision
def transform_points(b_from_a: Tensor, points: Tensor) -> Tensor:
    """Move points by a pose.

    Args:
        b_from_a: ``[*N, 3, 4]``.
        points: ``[*N, ..., 3]``: one pose may move a whole grid of points.

    Returns:
        Points in frame b, of the shape of ``points``.
    """
    leading = b_from_a.ndim - 2
    shape = points.shape
    grid = points.reshape(*shape[:leading], math.prod(shape[leading:-1]), 3)
    moved = grid @ b_from_a[..., :3].mT + b_from_a[..., None, :, 3]
    return moved.reshape(shape)


def world_to_camera(points: Tensor, cam_from_world: Tensor) -> Tensor:
    """World points in the camera's frame.

    Args:
        points: ``[*N, ..., 3]``.
        cam_from_world: ``[*N, 3, 4]``.

    Returns:
        ``[*N, ..., 3]``.
    """
    return transform_points(cam_from_world, points)


def camera_to_world(points: Tensor, cam_from_world: Tensor) -> Tensor:
    """Camera points in the world's frame.

    Args:
        points: ``[*N, ..., 3]``.
        cam_from_world: ``[*N, 3, 4]`` extrinsics (the inverse is taken here).

    Returns:
        ``[*N, ..., 3]``.
    """
    return transform_points(invert_pose(cam_from_world), points)


def camera_centers(cam_from_world: Tensor) -> Tensor:
    """Returns the centres of the cameras in the world.

    Args:
        cam_from_world: ``[..., 3, 4]``.

    Returns:
        ``[..., 3]``.
    """
    return invert_pose(cam_from_world)[..., 3]


def cam_from_world_from_opengl(world_from_cam_gl: Tensor) -> Tensor:
    """OpenCV extrinsics from camera-to-world matrices with OpenGL axes.

    Args:
        world_from_cam_gl: ``[..., 4, 4]`` or ``[..., 3, 4]``, ``transform_matrix`` of a nerfstudio file or
            ``matrix_world`` of a Blender camera; rigid, without scale.

    Returns:
        ``cam_from_world`` ``[..., 3, 4]``.
    """
    return invert_pose(_flip_camera_axes(world_from_cam_gl[..., :3, :]))


def opengl_from_cam_from_world(cam_from_world: Tensor) -> Tensor:
    """Camera-to-world matrices with OpenGL axes from OpenCV extrinsics; undoes :func:`cam_from_world_from_opengl`.

    Args:
        cam_from_world: ``[..., 3, 4]``.

    Returns:
        ``world_from_cam_gl`` ``[..., 3, 4]``.
    """
    return _flip_camera_axes(invert_pose(cam_from_world))


def _flip_camera_axes(world_from_cam: Tensor) -> Tensor:
    return world_from_cam * world_from_cam.new_tensor([1.0, -1.0, -1.0, 1.0])
