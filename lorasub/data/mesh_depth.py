"""Depth of a known object where sensors are blind: glass, mirrors, black plastic."""

# trimesh is typed in part only
# mypy: disable-error-code="no-untyped-call,no-any-return"

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorasub.data.frames import DepthSource
from lorasub.data.masks import MaskFile
from lorasub.data.text import reason
from lorasub.errors import DataError
from lorasub.files import content_fault
from lorasub.geometry import unproject_depth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeshDepth:
    """A :class:`~lorasub.data.frames.DepthSource` that puts the rendered depth of a mesh over a sensor's.

    A ray through the centre of each pixel meets the mesh; what the sensor says there is replaced. Pixels of the
    object's mask that no ray meets become unknown: the sensor is not to be believed there either.

    Attributes:
        path: the mesh, in any format of trimesh.
        cam_from_object: ``[3, 4]`` maps points of the mesh to the camera.
        intrinsics: ``[3, 3]`` of the image, pixel centres at half integers.
        sensor: depth of everything else; None leaves it unknown.
        mask: where the object is seen; None for an object that nothing hides.
        unit: world units per unit of the mesh.
    """

    path: Path
    cam_from_object: Tensor
    intrinsics: Tensor
    sensor: DepthSource | None = None
    mask: MaskFile | None = None
    unit: float = 1.0

    def load(self, image_size: tuple[int, int]) -> Tensor:
        """Decode and render; see :class:`~lorasub.data.frames.DepthSource`.

        Raises:
            DataError: a file is missing or damaged, sizes do not fit, or embreex is not installed.
        """
        depth = torch.zeros(image_size) if self.sensor is None else self.sensor.load(image_size).clone()
        if tuple(depth.shape) != image_size:
            raise DataError(
                f"{self.path}: the sensor's depth is {depth.shape[1]} x {depth.shape[0]}, the image "
                f"{image_size[1]} x {image_size[0]}; a mesh is rendered into depth of the image's own size only"
            )
        if self.mask is None:
            rendered = self._render(torch.ones(image_size, dtype=torch.bool))
            return torch.where(rendered > 0, rendered, depth)
        mask = self.mask.load(image_size)
        return torch.where(mask, self._render(mask), depth)

    def _render(self, where: Tensor) -> Tensor:
        """z-depth ``[H, W]`` of the first surface met at the pixels of ``where``; 0 elsewhere."""
        pose = self.cam_from_object.double()
        rotation, center = pose[:, :3], -pose[:, :3].T @ pose[:, 3] / self.unit
        rays = unproject_depth(torch.ones(where.shape, dtype=torch.float64), self.intrinsics.double())[where]
        directions = (rays @ rotation).numpy()  # into the object's frame; of length 1 along the camera's axis
        mesh, tracer = _load_mesh(self.path)
        origin = center.numpy()
        first = tracer.intersects_first(np.broadcast_to(origin, directions.shape), directions)
        met = np.flatnonzero(first >= 0)
        # the tracer works in single precision; the plane of the triangle that it found is met exactly
        corners = mesh.triangles[first[met], 0]
        normals = np.cross(mesh.triangles[first[met], 1] - corners, mesh.triangles[first[met], 2] - corners)
        along = ((corners - origin) * normals).sum(-1) / (directions[met] * normals).sum(-1)
        values = torch.zeros(len(directions), dtype=torch.float64)
        values[torch.from_numpy(met)] = torch.from_numpy(along * self.unit)
        depth = torch.zeros(where.shape)
        depth[where] = values.float()
        return depth


@functools.lru_cache(maxsize=8)
def _load_mesh(path: Path) -> tuple[Any, Any]:
    """The mesh and what finds its triangles; every frame of a capture shares them."""
    import trimesh

    try:
        from trimesh.ray.ray_pyembree import RayMeshIntersector
    except ImportError as error:
        raise DataError(f"{path}: rendering a mesh needs the package embreex: pip install 'lorasub[mesh]'") from error
    if not path.is_file():
        raise DataError(f"{path}: the mesh does not exist")
    try:
        mesh = trimesh.load_mesh(path, process=False)
    except (OSError, ValueError, KeyError, IndexError) as error:
        fault = content_fault(path) or f"it is damaged or truncated: {reason(error, path)}"
        raise DataError(f"{path}: the mesh cannot be read ({fault})") from error
    if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces):
        raise DataError(f"{path}: it holds no triangles")
    return mesh, RayMeshIntersector(mesh)
