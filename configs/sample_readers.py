"""Readers of three sample sets with layouts of their own, for real_samples.yaml; also examples of a user's reader.

They are found as ``configs.sample_readers`` when the command runs in the folder above this one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml

from lorasub.data.depth import DepthFile
from lorasub.data.frames import Capture, DepthSource, Frame, pinhole
from lorasub.data.masks import MaskFile
from lorasub.data.mesh_depth import MeshDepth
from lorasub.data.paths import inside, numbered
from lorasub.data.readers.base import Reader, pose_from_camera_to_world, pose_from_quaternion, read_rows
from lorasub.data.readers.pose_list import PoseList
from lorasub.data.text import read_text
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
        titles = re.findall(r"^# Camera-to-world .* for (\S+)", read_text(path), re.MULTILINE)
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
    """TraceBot: glass on a table. Where it is, the depth of its meshes replaces the sensor's, which is wrong there.

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
        objects = {entry["id"]: entry for entry in _yaml(root / "objects" / "objects.yaml")}
        frames = [frame for scene in numbered(root, "scenes/*") for frame in self._scene(root, scene, objects)]
        return Capture(name=root.name, root=root, frames=tuple(frames), metric=True, format=self.format)

    def _scene(self, root: Path, scene: Path, objects: dict[str, dict[str, Any]]) -> list[Frame]:
        matrix = _yaml(scene / "camera_d435.yaml")["camera_matrix"]
        intrinsics = pinhole(matrix[0], matrix[4], matrix[2], matrix[5], centres=0.0)
        path = scene / "groundtruth_handeye.txt"
        poses = {
            int(row[0]): pose_from_quaternion(list(map(float, row[1:4])), list(map(float, row[4:])), path)
            for row in read_rows(path)
        }
        things = _yaml(scene / "poses.yaml")
        if unknown := {thing["id"] for thing in things} - set(objects):
            raise DataError(f"{scene / 'poses.yaml'}: {sorted(unknown)} are not in objects.yaml")
        frames = []
        for image in numbered(scene, "rgb/*.png"):
            pose, masks = poses.get(int(image.stem)), []
            depth_path = inside(root, (scene / "depth" / image.name).relative_to(root))
            depth: DepthSource = DepthFile(path=depth_path, unit=0.001, farthest=self.farthest)
            for place, thing in enumerate(things):
                entry = objects[thing["id"]]
                same = [other for other in things[:place] if other["id"] == thing["id"]]
                files = numbered(scene, f"masks/{entry['name']}_*_{image.name}")  # one for each of this kind
                masks += files[len(same) : len(same) + 1]
                if self.render and pose is not None:
                    depth = MeshDepth(
                        path=inside(root, Path("objects") / entry["mesh"]),
                        cam_from_object=compose_poses(pose, _matrix(thing["pose"])),
                        intrinsics=intrinsics,
                        sensor=depth,
                        mask=MaskFile(path=masks[-1]) if len(files) > len(same) else None,
                        unit=float(entry.get("scale", 1.0)),
                    )
            frames.append(
                Frame(
                    name=f"{scene.name}/{image.stem}",
                    image=image,
                    intrinsics=intrinsics,
                    cam_from_world=pose,
                    depth=depth,
                    object_mask=MaskFile(path=masks[0], others=tuple(masks[1:])) if masks else None,
                )
            )
        return frames


def _yaml(path: Path) -> Any:
    return yaml.safe_load(read_text(path))


def _matrix(numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64).reshape(4, 4)[:3]
