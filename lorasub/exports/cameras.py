"""Cameras for other tools: nerfstudio's transforms.json, TUM trajectories, COLMAP models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from lorasub.artefacts import text_writer, write_files
from lorasub.errors import DataError
from lorasub.exports.point_cloud import PointCloud
from lorasub.files import atomic_path, write_json
from lorasub.geometry import invert_pose, matrix_to_quaternion, opengl_from_cam_from_world


def write_nerfstudio(
    path: str | os.PathLike[str],
    image_paths: Sequence[str],
    cam_from_world: Tensor,
    intrinsics: Tensor,
    image_size: tuple[int, int],
    *,
    depth_paths: Sequence[str] | None = None,
    depth_unit: float = 0.001,
) -> None:
    """Write ``transforms.json`` as nerfstudio and instant-ngp read it: OpenGL axes, camera to world.

    Args:
        path: the file.
        image_paths: relative to the file's folder, one per view.
        cam_from_world: ``[S, 3, 4]``.
        intrinsics: ``[S, 3, 3]``, pixel centres at half integers, which is nerfstudio's convention too.
        image_size: (H, W) of all images.
        depth_paths: depth files (16-bit PNG or NPY), relative to the file's folder.
        depth_unit: world units per stored step of the depth files.
    """
    _check(cam_from_world, intrinsics, image_paths)
    height, width = image_size
    frames = []
    poses = opengl_from_cam_from_world(cam_from_world.double().cpu())
    for index, (image, pose, k) in enumerate(zip(image_paths, poses.tolist(), intrinsics.tolist(), strict=True)):
        frame = {
            "file_path": image,
            "fl_x": k[0][0],
            "fl_y": k[1][1],
            "cx": k[0][2],
            "cy": k[1][2],
            "w": width,
            "h": height,
            "transform_matrix": [*pose, [0.0, 0.0, 0.0, 1.0]],
        }
        if depth_paths is not None:
            frame["depth_file_path"] = depth_paths[index]
        frames.append(frame)
    content: dict[str, object] = {"camera_model": "OPENCV", "frames": frames}
    if depth_paths is not None:
        content["depth_unit_scale_factor"] = depth_unit
    write_json(path, content)


def write_tum(path: str | os.PathLike[str], cam_from_world: Tensor, timestamps: Sequence[float] | None = None) -> None:
    """Write a trajectory in the format of the TUM RGB-D benchmark, which evo reads.

    One line a view: ``timestamp tx ty tz qx qy qz qw``, camera to world.

    Args:
        path: the file.
        cam_from_world: ``[S, 3, 4]``.
        timestamps: seconds; the views' indices if not given.
    """
    times = list(range(len(cam_from_world))) if timestamps is None else list(timestamps)
    if len(times) != len(cam_from_world):
        raise DataError(f"{len(times)} timestamps for {len(cam_from_world)} poses")
    world_from_cam = invert_pose(cam_from_world.double().cpu())
    quaternions = matrix_to_quaternion(world_from_cam[..., :3])
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for time, center, quaternion in zip(times, world_from_cam[..., 3].tolist(), quaternions.tolist(), strict=True):
        lines.append(" ".join([f"{time:.6f}", *(f"{value:.9g}" for value in [*center, *quaternion])]))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _check(cam_from_world: Tensor, intrinsics: Tensor, names: Sequence[str]) -> None:
    count = len(names)
    if cam_from_world.shape != (count, 3, 4) or intrinsics.shape != (count, 3, 3):
        raise DataError(
            f"{count} images need poses [{count}, 3, 4] and intrinsics [{count}, 3, 3], got "
            f"{list(cam_from_world.shape)} and {list(intrinsics.shape)}"
        )


def write_colmap(
    folder: str | os.PathLike[str],
    image_names: Sequence[str],
    cam_from_world: Tensor,
    intrinsics: Tensor,
    image_size: tuple[int, int],
    *,
    cloud: PointCloud | None = None,
) -> None:
    """Write ``cameras.txt``, ``images.txt`` and ``points3D.txt``.

    Every view gets a PINHOLE camera of its own. Points have no tracks: they are there as a start for other tools, not
    for bundle adjustment.

    Args:
        folder: usually ``.../sparse/0``.
        image_names: relative to the image folder.
        cam_from_world: ``[S, 3, 4]``, which is COLMAP's convention too.
        intrinsics: ``[S, 3, 3]``, pixel centres at half integers like COLMAP's.
        image_size: (H, W) of all images.
        cloud: 3D points.
    """
    _check(cam_from_world, intrinsics, image_names)
    height, width = image_size
    poses = cam_from_world.detach().double().cpu()
    quaternions = matrix_to_quaternion(poses[..., :3]).roll(1, dims=-1)  # scalar first
    cameras = ["# CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy"]
    images = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of 2D points"]
    for i, (name, k) in enumerate(zip(image_names, intrinsics.tolist(), strict=True), start=1):
        cameras.append(f"{i} PINHOLE {width} {height} {_join([k[0][0], k[1][1], k[0][2], k[1][2]])}")
        motion = [*quaternions[i - 1].tolist(), *poses[i - 1, :, 3].tolist()]
        images += [f"{i} {_join(motion)} {i} {name}", ""]
    points = ["# POINT3D_ID X Y Z R G B ERROR TRACK"]
    if cloud is not None:
        for i, (point, color) in enumerate(zip(cloud.points.tolist(), cloud.colors.tolist(), strict=True), start=1):
            points.append(f"{i} {_join(point)} {color[0]} {color[1]} {color[2]} 0")
    texts = {"cameras.txt": cameras, "points3D.txt": points, "images.txt": images}
    write_files(Path(folder), {name: text_writer("\n".join(lines) + "\n") for name, lines in texts.items()})


def _join(values: Sequence[float]) -> str:
    return " ".join(f"{value:.10g}" for value in values)
