"""Coloured point clouds from views, as PLY and GLB files."""

# trimesh is typed in part only, and takes a fifth of a second to import, which every command would pay
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lorasub.errors import DataError
from lorasub.files import atomic_path
from lorasub.geometry import camera_centers, world_points_from_depth
from lorasub.geometry.projection import FRUSTUM_EDGES, frustum_corners

#: glTF's world has y up and z towards the viewer; ours (OpenCV) has y down and z away.
GLTF_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
#: Size of a drawn camera, relative to the cloud's median distance from the cameras.
CAMERA_SIZE = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class PointCloud:
    """Points with colours.

    Attributes:
        points: ``[N, 3]`` float32, OpenCV axes.
        colors: ``[N, 3]`` uint8.
    """

    points: Tensor
    colors: Tensor

    def __len__(self) -> int:
        return self.points.shape[0]


def point_cloud_from_depth(
    images: Tensor,
    depth: Tensor,
    intrinsics: Tensor,
    cam_from_world: Tensor,
    *,
    confidence: Tensor | None = None,
    keep: float = 1.0,
    max_points: int | None = None,
) -> PointCloud:
    """Unproject the depth of S views into one cloud.

    Args:
        images: ``[S, 3, H, W]`` in [0, 1].
        depth: ``[S, H, W]`` z-depth, not positive where unknown.
        intrinsics: ``[S, 3, 3]``.
        cam_from_world: ``[S, 3, 4]``.
        confidence: as for :func:`point_cloud_from_points`.
        keep: likewise.
        max_points: likewise.
    """
    points = world_points_from_depth(depth, intrinsics, cam_from_world)
    return point_cloud_from_points(images, points, depth > 0, confidence=confidence, keep=keep, max_points=max_points)


def point_cloud_from_points(
    images: Tensor,
    points: Tensor,
    valid: Tensor,
    *,
    confidence: Tensor | None = None,
    keep: float = 1.0,
    max_points: int | None = None,
) -> PointCloud:
    """Gather the points of S views into one cloud.

    Args:
        images: ``[S, 3, H, W]`` in [0, 1].
        points: ``[S, H, W, 3]`` in the world.
        valid: ``[S, H, W]`` bool.
        confidence: ``[S, H, W]``, higher is better.
        keep: fraction of the valid points to keep, those of highest confidence; needs ``confidence`` if below 1.
        max_points: thin out evenly, in the order of the pixels, to at most so many.

    Raises:
        DataError: an option is out of range, or no valid finite point is left.
    """
    if not 0 < keep <= 1:
        raise DataError(f"keep is a fraction above 0 and at most 1, got {keep}")
    if max_points is not None and max_points < 1:
        raise DataError(f"max_points must be at least 1, got {max_points}")
    if keep < 1:
        if confidence is None:
            raise DataError(f"keep={keep} needs a confidence to choose by, and there is none")
        if valid.any():
            # kthvalue has no size limit, unlike quantile
            scores = confidence[valid].float()
            threshold = scores.kthvalue(scores.numel() - max(round(keep * scores.numel()), 1) + 1).values
            valid = valid & (confidence >= threshold)
    kept = valid & torch.isfinite(points).all(-1)
    if not kept.any():
        raise DataError("a point cloud needs at least one valid point; every pixel of these views is invalid")
    chosen_points = points[kept].float().cpu()
    chosen_colors = (images.movedim(-3, -1)[kept].clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    if max_points is not None and len(chosen_points) > max_points:
        index = torch.linspace(0, len(chosen_points) - 1, max_points, dtype=torch.float64).round().long()
        chosen_points, chosen_colors = chosen_points[index], chosen_colors[index]
    return PointCloud(chosen_points, chosen_colors)


def write_ply(path: str | os.PathLike[str], cloud: PointCloud) -> None:
    """Write a binary PLY file, in OpenCV axes like everything of ours."""
    import trimesh

    content = trimesh.PointCloud(cloud.points.numpy(), colors=_opaque(cloud.colors)).export(file_type="ply")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_glb(
    path: str | os.PathLike[str],
    cloud: PointCloud,
    *,
    cam_from_world: Tensor | None = None,
    intrinsics: Tensor | None = None,
    image_size: tuple[int, int] | None = None,
) -> None:
    """Write a binary glTF file, turned to glTF's axes, with the cameras drawn as frusta if they are given.

    Args:
        path: the file.
        cloud: the points.
        cam_from_world: ``[S, 3, 4]``; the three camera arguments come together.
        intrinsics: ``[S, 3, 3]``.
        image_size: (H, W) that ``intrinsics`` belong to.
    """
    import trimesh

    scene = trimesh.Scene()
    scene.add_geometry(trimesh.PointCloud(cloud.points.numpy(), colors=_opaque(cloud.colors)), geom_name="points")
    if cam_from_world is not None and intrinsics is not None and image_size is not None:
        size = frustum_size(cloud.points, cam_from_world)
        corners = frustum_corners(cam_from_world, intrinsics, image_size, size).cpu().numpy()
        for index, apex_and_corners in enumerate(corners):
            frustum = trimesh.load_path(apex_and_corners[np.array(FRUSTUM_EDGES)])
            scene.add_geometry(frustum, geom_name=f"camera_{index}")
    scene.apply_transform(GLTF_FROM_OPENCV)
    content = scene.export(file_type="glb")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_ply(path: str | os.PathLike[str]) -> PointCloud:
    """Read a point cloud written by :func:`write_ply` or another tool; without colours it comes out grey.

    Raises:
        DataError: the file is missing or is no PLY with points.
    """
    import trimesh

    try:
        loaded = trimesh.load(Path(path), file_type="ply", process=False)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path}: cannot be read as PLY ({error})") from error
    points = torch.tensor(np.asarray(loaded.vertices), dtype=torch.float32)
    visual = getattr(loaded, "visual", None)
    colors = loaded.colors if isinstance(loaded, trimesh.PointCloud) else getattr(visual, "vertex_colors", None)
    if colors is None or len(colors) != len(points):
        return PointCloud(points, torch.full((len(points), 3), 128, dtype=torch.uint8))
    return PointCloud(points, torch.tensor(np.asarray(colors)[:, :3], dtype=torch.uint8))


def frustum_size(points: Tensor, cam_from_world: Tensor) -> float:
    """A good depth at which to draw camera frusta: a small part of the distance to what they look at."""
    center = camera_centers(cam_from_world.float()).mean(0)
    return CAMERA_SIZE * float((points.float() - center.cpu()).norm(dim=-1).median())


def _opaque(colors: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.concatenate([colors.numpy(), np.full((len(colors), 1), 255, np.uint8)], axis=1)
