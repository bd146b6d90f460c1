"""Writers for other people's tools: point clouds, depth files, cameras. Every file appears whole or not at all."""

from lorasub.exports.cameras import write_nerfstudio, write_tum
from lorasub.exports.images import write_depth_exr, write_depth_npy, write_depth_png, write_image, write_mask
from lorasub.exports.point_cloud import (
    PointCloud,
    point_cloud_from_depth,
    point_cloud_from_points,
    read_ply,
    write_glb,
    write_ply,
)
from lorasub.exports.scene_folders import write_scene

__all__ = [
    "PointCloud",
    "point_cloud_from_depth",
    "point_cloud_from_points",
    "read_ply",
    "write_depth_exr",
    "write_depth_npy",
    "write_depth_png",
    "write_glb",
    "write_image",
    "write_mask",
    "write_nerfstudio",
    "write_ply",
    "write_scene",
    "write_tum",
]
