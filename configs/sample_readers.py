"""Readers of three sample sets with layouts of their own, for real_samples.yaml; also examples of a user's reader.

They are found as ``configs.sample_readers`` when the command runs in the folder above this one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import yaml

from lorasub.data.depth import DepthFile
from lorasub.data.frames import Capture, Frame, pinhole
from lorasub.data.masks import MaskFile
from lorasub.data.mesh_depth import MeshDepth
from lorasub.data.paths import inside, numbered
from lorasub.data.readers.base import Reader, pose_from_camera_to_world, pose_from_quaternion, read_rows
from lorasub.data.readers.pose_list import PoseList
from lorasub.errors import DataError
from lorasub.geometry import compose_poses


@dataclass(frozen=True, kw_only=True)
class ApcShelf(Reader):
    """Amazon Picking Challenge: cameras in ``cam.info.txt``, depth of 0.1 mm with its bits rotated.

    Attributes:
        farthest: metres; the sensor is useless beyond.
    """

    format: ClassVar[str] = "apc_shelf"

    farthest: float = 1.5

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return (root / "cam.info.txt").is_file()

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        path = root / "cam.info.txt"
        titles = re.findall(r"^# Camera-to-world .* for (\S+)", path.read_text(), re.MULTILINE)
        rows = [[float(word) for word in row] for row in read_rows(path)]
        # three rows of the colour camera; then the depth camera and two more matrices, which are not needed; then poses
        camera, poses = rows[:3], rows[14:]
        if len(poses) != 4 * len(titles) or any(len(row) != 4 for row in poses):
            raise DataError(f"{path}: {len(titles)} poses are announced, {len(poses)} rows of poses follow")
        intrinsics = pinhole(camera[0][0], camera[1][1], camera[0][2], camera[1][2], centres=0.0)
        frames = []
        for index, name in enumerate(titles):
            image = inside(root, f"{name}.color.png")
            if image.is_file():
                depth = DepthFile(
                    path=inside(root, f"{name}.depth.png"), unit=0.0001, rotate_bits=3, farthest=self.farthest
                )
                pose = torch.tensor(poses[4 * index : 4 * index + 4], dtype=torch.float64)
                pose_cw = pose_from_camera_to_world(pose)
                frames.append(Frame(name=name, image=image, intrinsics=intrinsics, cam_from_world=pose_cw, depth=depth))
        return Capture(name=root.name, root=root, frames=tuple(frames), metric=True, format=self.format)


@dataclass(frozen=True, kw_only=True)
class ClearGrasp(PoseList):
    """ClearGrasp's pairs: glass, with the depth of its twin that was painted and put into the same place. No poses."""

    format: ClassVar[str] = "cleargrasp"

    images: str = "*-transparent-rgb-img.jpg"
    depth: str = "*-opaque-depth-img.exr"
    depth_unit: float = 1.0
    masks: str = "*-mask.png"
    camera: tuple[float, float, float, float] = (921.0, 921.0, 642.0, 359.0)


@dataclass(frozen=True, kw_only=True)
class TraceBot(Reader):
    """TraceBot: a glass on a table. Where it is, the depth of its mesh replaces the sensor's, which is wrong there.

    Attributes:
        render: False keeps the sensor's depth everywhere.
        farthest: metres; the sensor's depth is poor beyond.
    """

    format: ClassVar[str] = "tracebot"

    render: bool = True
    farthest: float = 2.0

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`. A capture is the whole data set: meshes lie beside the scenes."""
        return (root / "objects" / "objects.yaml").is_file() and any(root.glob("scenes/*/groundtruth_handeye.txt"))

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        meshes = {entry["id"]: entry for entry in yaml.safe_load((root / "objects" / "objects.yaml").read_text())}
        frames: list[Frame] = []
        for scene in numbered(root, "scenes/*"):
            frames += self._scene(root, scene, meshes)
        return Capture(name=root.name, root=root, frames=tuple(frames), metric=True, format=self.format)

    def _scene(self, root: Path, scene: Path, meshes: dict[str, dict[str, str]]) -> list[Frame]:
        matrix = yaml.safe_load((scene / "camera_d435.yaml").read_text())["camera_matrix"]
        intrinsics = pinhole(matrix[0], matrix[4], matrix[2], matrix[5], centres=0.0)
        path = scene / "groundtruth_handeye.txt"
        poses = {
            int(row[0]): pose_from_quaternion(list(map(float, row[1:4])), list(map(float, row[4:])), path)
            for row in read_rows(path)
        }
        (thing,) = yaml.safe_load((scene / "poses.yaml").read_text())
        world_from_object = torch.tensor(thing["pose"], dtype=torch.float64).reshape(4, 4)[:3]
        frames = []
        for image in numbered(scene, "rgb/*.png"):
            pose = poses[int(image.stem)]
            place = scene.relative_to(root)
            mask = MaskFile(path=inside(root, place / "masks" / f"{meshes[thing['id']]['name']}_000_{image.name}"))
            sensor = DepthFile(path=inside(root, place / "depth" / image.name), unit=0.001, farthest=self.farthest)
            rendered = MeshDepth(
                path=inside(root, Path("objects") / meshes[thing["id"]]["mesh"]),
                cam_from_object=compose_poses(pose, world_from_object),
                intrinsics=intrinsics,
                sensor=sensor,
                mask=mask,
            )
            frames.append(
                Frame(
                    name=f"{scene.name}/{image.stem}",
                    image=image,
                    intrinsics=intrinsics,
                    cam_from_world=pose,
                    depth=rendered if self.render else sensor,
                    object_mask=mask,
                )
            )
        return frames
