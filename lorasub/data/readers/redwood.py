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

from lorasub.data.frames import Capture, Frame
from lorasub.data.images import IMAGE_SUFFIXES
from lorasub.data.paths import files_in, inside, numbered
from lorasub.data.readers.base import Reader, pose_from_camera_to_world, read_rows, to_float
from lorasub.data.readers.calibration import Calibration, depth_unit_note, registered_depth
from lorasub.errors import DataError

COLOR_FOLDERS = ("color", "rgb", "image")
#: Open3D's camera for PrimeSense sensors: fx, fy, cx, cy, pixel centres from 0; its size.
CAMERA, SIZE = (525.0, 525.0, 319.5, 239.5), (640, 480)


@dataclass(frozen=True, kw_only=True)
class Redwood(Reader):
    """Reader of Redwood sequences.

    Attributes:
        trajectory: name of the log; empty takes ``trajectory.log``, or the only ``.log`` that is a trajectory.
        camera: fx, fy, cx, cy, counting pixel centres from 0. None takes it from a calibration file
            (:mod:`lorasub.data.readers.calibration`); without one, Open3D's for PrimeSense sensors of 640 x 480.
        depth_unit: metres per stored unit; None takes it from the calibration file, or else 0.001.
    """

    format: ClassVar[str] = "redwood"
    layout: ClassVar[tuple[str, ...]] = ("*.log", "color/", "depth/")

    trajectory: str = ""
    camera: tuple[float, float, float, float] | None = None
    depth_unit: float | None = None

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return _color_folder(root) is not None and (root / "depth").is_dir() and bool(self._logs(root))

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        logs, folder = self._logs(root), _color_folder(root)
        if not logs or folder is None:
            raise DataError(
                f"{root}: a Redwood sequence needs a trajectory (.log) and a folder {' or '.join(COLOR_FOLDERS)}"
            )
        if len(logs) > 1:
            names = ", ".join(log.name for log in logs)
            raise DataError(f"{root}: several logs are trajectories ({names}); name one with the option 'trajectory'")
        log = logs[0]
        poses = read_trajectory_log(log)
        images, depths = files_in(root / folder, IMAGE_SUFFIXES), files_in(root / "depth", (".png",))
        if not len(poses) == len(images) == len(depths):
            raise DataError(
                f"{root}: {len(poses)} poses in {log.name}, {len(images)} images in {folder}/ and {len(depths)} in "
                "depth/ go together in order, so their numbers must be equal"
            )
        camera = Calibration.of_folder(root, self.camera, CAMERA, SIZE)
        frames = tuple(
            Frame(
                name=image.stem,
                image=image,
                intrinsics=camera.intrinsics,
                cam_from_world=pose_from_camera_to_world(pose, log),
                depth=registered_depth(depth, camera, unit=self.depth_unit, usual_unit=0.001),
                distortion=camera.distortion,
                camera_size=camera.size,
                camera_assumed=camera.assumed,
            )
            for image, depth, pose in zip(images, depths, poses, strict=True)
        )
        notes = depth_unit_note(camera, self.depth_unit)
        if camera.assumed:
            notes += (f"assumed camera: no file states it; took PrimeSense's fx, fy, cx, cy = {CAMERA}",)
        return Capture(name=root.name, root=root, frames=frames, metric=True, format=self.format, notes=notes)

    def _logs(self, root: Path) -> list[Path]:
        """The trajectory that was named, or else those that there are; recorders leave other logs beside them."""
        if self.trajectory:
            log = inside(root, self.trajectory)
            return [log] if log.is_file() else []
        if (root / "trajectory.log").is_file():
            return [root / "trajectory.log"]
        return [log for log in numbered(root, "*.log") if _is_trajectory(log)]


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


def _is_trajectory(path: Path) -> bool:
    try:
        return bool(read_trajectory_log(path))
    except DataError:
        return False


def _color_folder(root: Path) -> str | None:
    return next((name for name in COLOR_FOLDERS if (root / name).is_dir()), None)
