"""Images, depth images and one text file of poses: the layout that many papers' sample data have, described by options.

Nothing in such a folder says what its numbers mean, so this reader is never chosen by itself: it is configured, as in
``format: {class_path: lorasub.data.readers.pose_list.PoseList, init_args: {...}}``.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lorasub.data.depth import DepthFile, RayDepth
from lorasub.data.frames import Capture, DepthSource, Frame, pinhole
from lorasub.data.masks import MaskFile
from lorasub.data.paths import numbered
from lorasub.data.readers.base import Reader, pose_from_quaternion, read_rows, to_float
from lorasub.errors import DataError
from lorasub.geometry import invert_pose


@dataclass(frozen=True, kw_only=True)
class PoseList(Reader):
    """Reader of a folder that its options describe.

    Attributes:
        images: glob pattern of the images, taken in natural order.
        camera: fx, fy, cx, cy. A negative fy is that of a camera with its y axis up (ICL-NUIM): the world is mirrored
            along y with the camera, so that everything becomes OpenCV's.
        centres: where ``camera`` puts the centre of the first pixel: 0 for OpenCV calibrations, 0.5 for "half the
            width".
        depth: glob pattern of the depth images, one for each image in the same order; empty if there are none.
        depth_unit: world units per stored unit.
        rotate_bits: see :class:`lorasub.data.depth.DepthFile`.
        farthest: see :class:`lorasub.data.depth.DepthFile`.
        depth_channel: of EXR depth, where channels' names do not tell which one is depth.
        depth_along_ray: depth files state distances from the camera's centre, not depth along z.
        masks: glob pattern of the object masks, one for each image in the same order; empty if there are none.
        poses: text file with a line ``[id] tx ty tz qx qy qz qw`` for each image, relative to the folder or absolute;
            empty if there are none. With an id, it is the number in the image's file name; without, lines go with
            images in order.
        cam_from_world: poses are extrinsics rather than camera to world.
        camera_size: width and height that ``camera`` was calibrated at; images of another size are scaled to it.
        metric: whether the world unit is the metre.
    """

    format: ClassVar[str] = "poselist"

    images: str
    camera: tuple[float, float, float, float]
    centres: float = 0.0
    camera_size: tuple[int, int] | None = None
    depth: str = ""
    depth_unit: float = 0.001
    rotate_bits: int = 0
    farthest: float = float("inf")
    depth_channel: str = ""
    depth_along_ray: bool = False
    masks: str = ""
    poses: str = ""
    cam_from_world: bool = False
    metric: bool = True

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return bool(numbered(root, self.images)) and (not self.poses or (root / self.poses).is_file())

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        images = numbered(root, self.images)
        fx, fy, cx, cy = self.camera
        intrinsics = pinhole(fx, abs(fy), cx, cy, centres=self.centres)
        poses = self._poses(root / self.poses, images) if self.poses else [None] * len(images)
        frames = [
            Frame(
                name=path.relative_to(root).as_posix(),
                image=path,
                intrinsics=intrinsics,
                cam_from_world=pose,
                camera_size=self.camera_size,
            )
            for path, pose in zip(images, poses, strict=True)
        ]
        if self.depth:
            files = self._one_for_each(root, images, self.depth, "depth files")
            frames = [
                dataclasses.replace(frame, depth=self._depth(file, intrinsics))
                for frame, file in zip(frames, files, strict=True)
            ]
        if self.masks:
            files = self._one_for_each(root, images, self.masks, "masks")
            frames = [
                dataclasses.replace(frame, object_mask=MaskFile(path=file))
                for frame, file in zip(frames, files, strict=True)
            ]
        return Capture(name=root.name, root=root, frames=tuple(frames), metric=self.metric, format=self.format)

    def _depth(self, path: Path, intrinsics: Tensor) -> DepthSource:
        file = DepthFile(
            path=path,
            unit=self.depth_unit,
            rotate_bits=self.rotate_bits,
            farthest=self.farthest,
            channel=self.depth_channel,
        )
        return RayDepth(depth=file, intrinsics=intrinsics) if self.depth_along_ray else file

    def _one_for_each(self, root: Path, images: list[Path], pattern: str, what: str) -> list[Path]:
        files = numbered(root, pattern)
        if len(files) != len(images):
            raise DataError(
                f"{root}: {len(images)} images ({self.images}) but {len(files)} {what} ({pattern}); "
                "they go together in order, so their numbers must be equal"
            )
        return files

    def _poses(self, path: Path, images: list[Path]) -> list[Tensor | None]:
        rows = [[to_float(word, path) for word in row] for row in read_rows(path)]
        if {len(row) for row in rows} == {7}:
            if len(rows) != len(images):
                raise DataError(f"{path}: {len(rows)} poses for {len(images)} images; without ids they must be equal")
            return [self._pose(row, path) for row in rows]
        if {len(row) for row in rows} != {8}:
            raise DataError(f"{path}: lines must be '[id] tx ty tz qx qy qz qw', all with an id or all without")
        if unusable := [row[0] for row in rows if not row[0].is_integer()]:
            raise DataError(f"{path}: lines begin with the number of an image, and {unusable[0]} is none")
        by_id = {int(row[0]): row[1:] for row in rows}
        poses: list[Tensor | None] = []
        for image in images:
            numbers = re.findall(r"\d+", image.stem)
            if not numbers:
                raise DataError(f"{image}: its name holds no number to find its pose by in {path}")
            row = by_id.get(int(numbers[-1]))
            poses.append(None if row is None else self._pose(row, path))
        return poses

    def _pose(self, row: list[float], path: Path) -> Tensor | None:
        pose = pose_from_quaternion(row[:3], row[3:], path)
        if pose is None:
            return None
        if self.cam_from_world:
            pose = invert_pose(pose)
        if self.camera[1] < 0:
            # with S = diag(1, -1, 1): R becomes S R S and t becomes S t
            mirror = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
            pose = torch.cat([mirror[:, None] * pose[:, :3] * mirror, mirror[:, None] * pose[:, 3:]], dim=1)
        return pose
