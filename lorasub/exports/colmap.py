"""COLMAP text models, for Gaussian splatting and everything else that starts from COLMAP."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from lorasub.errors import DataError
from lorasub.exports.point_cloud import PointCloud
from lorasub.files import atomic_path
from lorasub.geometry import matrix_to_quaternion


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
    count = len(image_names)
    if cam_from_world.shape != (count, 3, 4) or intrinsics.shape != (count, 3, 3):
        raise DataError(
            f"{count} images need poses [{count}, 3, 4] and intrinsics [{count}, 3, 3], got "
            f"{list(cam_from_world.shape)} and {list(intrinsics.shape)}"
        )
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
    for file, lines in (("cameras.txt", cameras), ("points3D.txt", points), ("images.txt", images)):
        with atomic_path(Path(folder) / file) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _join(values: Sequence[float]) -> str:
    return " ".join(f"{value:.10g}" for value in values)
