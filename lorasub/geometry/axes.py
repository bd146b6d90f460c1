"""Poses from and for tools with OpenGL camera axes (x right, y up, z backward): Blender, nerfstudio, instant-ngp, glTF.

Two things differ there and both must be turned: the camera's y and z axes point the other way, and files hold the
camera's pose in the world (world-from-camera), not the extrinsics. The world's axes stay as they are.
"""

from __future__ import annotations

from torch import Tensor

from lorasub.geometry.poses import invert_pose


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
