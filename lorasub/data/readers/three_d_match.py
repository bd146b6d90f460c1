"""3DMatch's layout of RGB-D sequences (also SUN3D, and scans prepared for TSDF fusion).

``camera-intrinsics.txt`` (3 x 3; or another calibration file) beside, or above, frames
``frame-000000.color.png|jpg``, ``.depth.png`` (millimetres, registered to colour) and ``.pose.txt`` (camera to world),
flat or in ``seq-01`` ... folders. The sequences of one folder share their world.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lorasub.data.frames import Capture, Frame
from lorasub.data.paths import find_file
from lorasub.data.readers.base import Reader, read_pose
from lorasub.data.readers.calibration import depth_unit_note, find_calibration, registered_depth
from lorasub.data.readers.seven_scenes import (
    depth_camera_only,
    depth_of_other_names,
    frame_files,
    poses_without_image,
)
from lorasub.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ThreeDMatch(Reader):
    """Reader of 3DMatch's layout.

    Attributes:
        depth_unit: metres per stored unit; None takes it from the calibration file, or else 0.001.
        centres: where the intrinsics put the centre of the first pixel; these files state "half the width".
    """

    format: ClassVar[str] = "3dmatch"
    layout: ClassVar[tuple[str, ...]] = ("camera-intrinsics.txt", "frame-*.color.*", "frame-*.pose.txt")

    depth_unit: float | None = None
    centres: float = 0.5

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return bool(frame_files(root)) and not depth_camera_only(root)

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        camera = find_calibration(root, centres=self.centres)
        if camera is None:
            raise DataError(f"{root}: a folder in 3DMatch's layout needs camera-intrinsics.txt (3 x 3)")
        frames = []
        for image in frame_files(root):
            stem = image.name.split(".")[0]
            depth = find_file(image.parent, f"{stem}.depth.png")
            frames.append(
                Frame(
                    name=image.relative_to(root).as_posix().split(".")[0],
                    image=image,
                    intrinsics=camera.intrinsics,
                    cam_from_world=read_pose(image.with_name(f"{stem}.pose.txt")),
                    depth=None
                    if depth is None
                    else registered_depth(depth, camera, unit=self.depth_unit, usual_unit=0.001),
                    distortion=camera.distortion,
                    camera_size=camera.size,
                )
            )
        return Capture(
            name=root.name,
            root=root,
            frames=tuple(frames),
            metric=True,
            format=self.format,
            notes=poses_without_image(root) + depth_of_other_names(root) + depth_unit_note(camera, self.depth_unit),
        )
