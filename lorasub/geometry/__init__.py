"""Poses, cameras, points and their alignment: pure functions on tensors, float32 or float64, CPU or GPU.

Conventions are those of :mod:`lorasub.structures`: OpenCV axes, extrinsics that map world to camera, pixel centres at
half integers, depth along z.
"""

from lorasub.geometry.alignment import Similarity, umeyama
from lorasub.geometry.normalization import normalize_scene
from lorasub.geometry.pose_encoding import decode_pose, encode_pose
from lorasub.geometry.poses import (
    cam_from_world_from_opengl,
    camera_centers,
    camera_to_world,
    compose_poses,
    invert_pose,
    opengl_from_cam_from_world,
    relative_pose,
    transform_points,
    world_to_camera,
)
from lorasub.geometry.projection import (
    fields_of_view,
    pixel_centers,
    project_points,
    unproject_depth,
    world_points_from_depth,
)
from lorasub.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix, rotation_angle
from lorasub.precision import full_precision

__all__ = [
    "Similarity",
    "cam_from_world_from_opengl",
    "camera_centers",
    "camera_to_world",
    "compose_poses",
    "decode_pose",
    "encode_pose",
    "fields_of_view",
    "full_precision",
    "invert_pose",
    "matrix_to_quaternion",
    "normalize_scene",
    "opengl_from_cam_from_world",
    "pixel_centers",
    "project_points",
    "quaternion_to_matrix",
    "relative_pose",
    "rotation_angle",
    "transform_points",
    "umeyama",
    "unproject_depth",
    "world_points_from_depth",
    "world_to_camera",
]
