"""TUM RGB-D benchmark (Sturm et al. 2012): ``rgb.txt``, ``depth.txt`` and ``groundtruth.txt`` with timestamps.

Images, depth images (5000 per metre, registered to colour) and poses (``timestamp tx ty tz qx qy qz qw``, camera to
world) were recorded at different times; each image goes with the depth and the pose nearest in time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lorasub.data.depth import DepthFile
from lorasub.data.frames import Capture, Frame, pinhole
from lorasub.data.paths import inside
from lorasub.data.readers.base import Reader, pose_from_quaternion, read_rows, to_float
from lorasub.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TumRgbd(Reader):
    """Reader of TUM RGB-D sequences.

    Attributes:
        camera: fx, fy, cx, cy, counting pixel centres from 0. The default is the one that the benchmark's authors
            recommend for all sequences (their depth images were registered with it).
        max_difference: seconds that may lie between an image and its depth or pose.
        depth_unit: metres per stored unit.
    """

    format: ClassVar[str] = "tum"

    camera: tuple[float, float, float, float] = (525.0, 525.0, 319.5, 239.5)
    max_difference: float = 0.02
    depth_unit: float = 1 / 5000

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return (root / "rgb.txt").is_file() and (root / "groundtruth.txt").is_file()

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        images = _timed(root / "rgb.txt", 2)
        depths = _timed(root / "depth.txt", 2) if (root / "depth.txt").is_file() else []
        poses = _timed(root / "groundtruth.txt", 8)
        depth_times, pose_times = np.array([t for t, _ in depths]), np.array([t for t, _ in poses])
        intrinsics = pinhole(*self.camera, centres=0.0)
        frames = []
        for time, (file,) in images:
            depth = self._nearest(depth_times, time)
            pose = self._nearest(pose_times, time)
            frames.append(
                Frame(
                    name=Path(file).stem,
                    image=inside(root, file),
                    intrinsics=intrinsics,
                    cam_from_world=None if pose is None else _pose(poses[pose][1], root / "groundtruth.txt"),
                    depth=None
                    if depth is None
                    else DepthFile(path=inside(root, depths[depth][1][0]), unit=self.depth_unit),
                )
            )
        notes = []
        for what, count in (
            ("depth", sum(frame.depth is None for frame in frames)),
            ("pose", sum(frame.cam_from_world is None for frame in frames)),
        ):
            if count:
                notes.append(f"{count} of {len(frames)} images have no {what} within {self.max_difference:g} s")
        return Capture(
            name=root.name, root=root, frames=tuple(frames), metric=True, format=self.format, notes=tuple(notes)
        )

    def _nearest(self, times: npt.NDArray[np.float64], time: float) -> int | None:
        if not len(times):
            return None
        index = int(np.abs(times - time).argmin())
        return index if abs(times[index] - time) <= self.max_difference else None


def _timed(path: Path, columns: int) -> list[tuple[float, list[str]]]:
    rows = read_rows(path)
    if wrong := [row for row in rows if len(row) < columns]:
        raise DataError(f"{path}: expected {columns} columns, got '{' '.join(wrong[0])}'")
    timed = [(to_float(row[0], path), row[1:columns]) for row in rows]
    if not all(math.isfinite(time) for time, _ in timed):
        raise DataError(f"{path}: timestamps must be finite")
    return sorted(timed, key=lambda entry: entry[0])


def _pose(words: list[str], path: Path) -> Tensor:
    values = [to_float(word, path) for word in words]
    return pose_from_quaternion(values[:3], values[3:], path)
