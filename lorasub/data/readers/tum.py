"""TUM RGB-D benchmark (Sturm et al. 2012): ``rgb.txt``, ``depth.txt`` and ``groundtruth.txt`` with timestamps.

Images, depth images (5000 per metre, registered to colour) and poses (``timestamp tx ty tz qx qy qz qw``, camera to
world) were recorded at different times; each image goes with the depth and the pose nearest in time.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from lorasub.data.frames import Capture, Frame
from lorasub.data.images import IMAGE_SUFFIXES
from lorasub.data.paths import find_file
from lorasub.data.readers.base import (
    Reader,
    missing_depth,
    missing_images,
    pose_from_quaternion,
    read_lines,
    read_rows,
    to_float,
)
from lorasub.data.readers.calibration import Calibration, depth_unit_note, registered_depth
from lorasub.data.text import visible
from lorasub.errors import DataError

#: The camera that the benchmark's authors recommend for all sequences: fx, fy, cx, cy, pixel centres from 0; its size.
CAMERA, SIZE = (525.0, 525.0, 319.5, 239.5), (640, 480)
#: Metres per step of the benchmark's depth images.
DEPTH_UNIT = 1 / 5000


@dataclass(frozen=True, kw_only=True)
class TumRgbd(Reader):
    """Reader of TUM RGB-D sequences.

    Attributes:
        camera: fx, fy, cx, cy, counting pixel centres from 0. None takes it from a calibration file beside ``rgb.txt``
            (:mod:`lorasub.data.readers.calibration`); without one, the camera of 640 x 480 that the benchmark's authors
            recommend for all sequences (their depth images were registered with it).
        max_difference: seconds that may lie between an image and its depth or pose.
        depth_unit: metres per stored unit; None takes it from the calibration file, or else 1 / 5000.
    """

    format: ClassVar[str] = "tum"
    layout: ClassVar[tuple[str, ...]] = ("rgb.txt", "depth.txt", "groundtruth.txt")

    camera: tuple[float, float, float, float] | None = None
    max_difference: float = 0.02
    depth_unit: float | None = None

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return (root / "rgb.txt").is_file() and (root / "groundtruth.txt").is_file()

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        images = _timed_files(root / "rgb.txt")
        depths = _timed_files(root / "depth.txt") if (root / "depth.txt").is_file() else []
        poses = _timed_poses(root / "groundtruth.txt")
        depth_times, pose_times = np.array([t for t, _ in depths]), np.array([t for t, _ in poses])
        camera = Calibration.of_folder(root, self.camera, CAMERA, SIZE)
        frames, missing, no_depth = [], [], []
        for time, file in images:
            image = find_file(root, file, IMAGE_SUFFIXES)
            if image is None:
                missing.append(file)
                continue
            depth = self._nearest(depth_times, time)
            depth_path = None if depth is None else find_file(root, depths[depth][1])
            if depth is not None and depth_path is None:
                no_depth.append(depths[depth][1])
            pose = self._nearest(pose_times, time)
            frames.append(
                Frame(
                    name=image.stem,
                    image=image,
                    intrinsics=camera.intrinsics,
                    cam_from_world=None
                    if pose is None
                    else pose_from_quaternion(poses[pose][1][:3], poses[pose][1][3:], root / "groundtruth.txt"),
                    depth=None
                    if depth_path is None
                    else registered_depth(depth_path, camera, unit=self.depth_unit, usual_unit=DEPTH_UNIT),
                    distortion=camera.distortion,
                    camera_size=camera.size,
                    camera_assumed=camera.assumed,
                )
            )
        notes = [*missing_images(missing, len(images)), *missing_depth(no_depth)]
        if camera.assumed:
            notes.append(f"assumed camera: no file states it; took TUM's usual fx, fy, cx, cy = {CAMERA}")
        elif camera.path is not None:
            notes += [f"camera from {camera.path.name}", *depth_unit_note(camera, self.depth_unit)]
        for what, count in (
            ("depth", sum(self._nearest(depth_times, time) is None for time, _ in images)),
            ("pose", sum(self._nearest(pose_times, time) is None for time, _ in images)),
        ):
            if count:
                notes.append(f"{count} of {len(images)} images have no {what} within {self.max_difference:g} s")
        return Capture(
            name=root.name, root=root, frames=tuple(frames), metric=True, format=self.format, notes=tuple(notes)
        )

    def _nearest(self, times: npt.NDArray[np.float64], time: float) -> int | None:
        if not len(times):
            return None
        index = int(np.abs(times - time).argmin())
        return index if abs(times[index] - time) <= self.max_difference else None


def _timed_files(path: Path) -> list[tuple[float, str]]:
    """Lines ``timestamp path``; a path may hold spaces, with or without quotes."""
    timed = []
    for line in read_lines(path):
        time, *file = re.split(r"[\s,;]+", line, maxsplit=1)
        if not file or not file[0]:
            raise DataError(f"{path}: expected 2 columns (timestamp and path), got {visible(line)}")
        timed.append((_time(time, path), file[0]))
    return sorted(set(timed))  # some recorders write a line twice


def _timed_poses(path: Path) -> list[tuple[float, list[float]]]:
    """Lines ``timestamp tx ty tz qx qy qz qw``; what stands behind is left out."""
    timed = []
    for row in read_rows(path):
        if len(row) < 8:
            raise DataError(f"{path}: expected 8 columns (timestamp tx ty tz qx qy qz qw), got '{' '.join(row)}'")
        timed.append((_time(row[0], path), [to_float(word, path) for word in row[1:8]]))
    return sorted(timed, key=lambda entry: entry[0])


def _time(word: str, path: Path) -> float:
    time = to_float(word, path)
    if not math.isfinite(time):
        raise DataError(f"{path}: timestamps must be finite")
    return time
