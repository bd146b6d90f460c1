"""Open3D / Redwood RGB-D sequences: a ``.log`` trajectory beside folders of colour and depth images.

The log has five lines for each frame: three numbers, then the 4 x 4 pose (camera to world). Depth is in millimetres and
registered to colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lorasub.data.depth import DepthFile
from lorasub.data.frames import Capture, Frame, pinhole
from lorasub.data.paths import numbered
from lorasub.data.readers.base import Reader, pose_from_camera_to_world, read_rows, to_float
from lorasub.errors import ArtefactError, DataError
from lorasub.files import read_json

COLOR_FOLDERS = ("color", "rgb", "image")
CAMERA_FILES = ("camera_intrinsic.json", "intrinsic.json", "camera_primesense.json", "camera.json")


@dataclass(frozen=True, kw_only=True)
class Redwood(Reader):
    """Reader of Redwood sequences.

    Attributes:
        trajectory: name of the log; empty takes ``trajectory.log``, or the only ``.log`` there is.
        camera: fx, fy, cx, cy, counting pixel centres from 0, for folders without a camera file. The default is
            Open3D's for PrimeSense sensors.
        depth_unit: metres per stored unit.
    """

    format: ClassVar[str] = "redwood"

    trajectory: str = ""
    camera: tuple[float, float, float, float] = (525.0, 525.0, 319.5, 239.5)
    depth_unit: float = 0.001

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return self._log(root) is not None and _color_folder(root) is not None and (root / "depth").is_dir()

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        log, folder = self._log(root), _color_folder(root)
        if log is None or folder is None:
            raise DataError(f"{root}: a Redwood sequence needs a .log file and a folder {' or '.join(COLOR_FOLDERS)}")
        poses = read_trajectory_log(log)
        images, depths = numbered(root, f"{folder}/*.[jp][pn]g"), numbered(root, "depth/*.png")
        if not len(poses) == len(images) == len(depths):
            raise DataError(
                f"{root}: {len(poses)} poses in {log.name}, {len(images)} images in {folder}/ and {len(depths)} in "
                "depth/ go together in order, so their numbers must be equal"
            )
        camera_file = next((root / name for name in CAMERA_FILES if (root / name).is_file()), None)
        intrinsics = pinhole(*self.camera, centres=0.0) if camera_file is None else _read_camera(camera_file)
        frames = tuple(
            Frame(
                name=image.stem,
                image=image,
                intrinsics=intrinsics,
                cam_from_world=pose_from_camera_to_world(pose),
                depth=DepthFile(path=depth, unit=self.depth_unit),
            )
            for image, depth, pose in zip(images, depths, poses, strict=True)
        )
        assumed = f"no camera file ({', '.join(CAMERA_FILES)}): took fx, fy, cx, cy = {self.camera}"
        notes = (assumed,) if camera_file is None else ()
        return Capture(name=root.name, root=root, frames=frames, metric=True, format=self.format, notes=notes)

    def _log(self, root: Path) -> Path | None:
        logs = [root / self.trajectory] if self.trajectory else [root / "trajectory.log", *sorted(root.glob("*.log"))]
        return next((log for log in logs if log.is_file()), None)


def read_trajectory_log(path: Path) -> list[Tensor]:
    """The ``[4, 4]`` matrices of a Redwood ``.log`` file.

    Raises:
        DataError: the file does not consist of whole records.
    """
    rows = read_rows(path)
    if not rows or len(rows) % 5:
        raise DataError(f"{path}: {len(rows)} lines are not a whole number of records of 5 lines; is it truncated?")
    matrices = []
    for first in range(0, len(rows), 5):
        matrix = rows[first + 1 : first + 5]
        if len(rows[first]) != 3 or any(len(row) != 4 for row in matrix):
            raise DataError(f"{path}: record {first // 5} is not three numbers and a 4 x 4 matrix")
        matrices.append(torch.tensor([[to_float(word, path) for word in row] for row in matrix], dtype=torch.float64))
    return matrices


def _color_folder(root: Path) -> str | None:
    return next((name for name in COLOR_FOLDERS if (root / name).is_dir()), None)


def _read_camera(path: Path) -> Tensor:
    try:
        flat = [float(value) for value in read_json(path)["intrinsic_matrix"]]
        fx, _, _, _, fy, _, cx, cy, _ = flat  # column by column
    except (ArtefactError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: no Open3D camera (an object with 9 numbers 'intrinsic_matrix'): {error}") from error
    return pinhole(fx, fy, cx, cy, centres=0.0)
