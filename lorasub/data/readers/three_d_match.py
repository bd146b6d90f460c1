"""3DMatch's layout of RGB-D sequences (also SUN3D, and scans prepared for TSDF fusion).

``camera-intrinsics.txt`` (3 x 3) beside, or above, frames ``frame-000000.color.png|jpg``, ``.depth.png`` (millimetres,
registered to colour) and ``.pose.txt`` (camera to world), flat or in ``seq-01`` ... folders. The sequences of one
folder share their world.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lorasub.data.depth import DepthFile
from lorasub.data.frames import Capture, Frame, pinhole
from lorasub.data.readers.base import Reader, pose_from_camera_to_world, read_matrix
from lorasub.data.readers.seven_scenes import frame_files, poses_without_image


@dataclass(frozen=True, kw_only=True)
class ThreeDMatch(Reader):
    """Reader of 3DMatch's layout.

    Attributes:
        depth_unit: metres per stored unit.
        centres: where the intrinsics put the centre of the first pixel; these files state "half the width".
    """

    format: ClassVar[str] = "3dmatch"

    depth_unit: float = 0.001
    centres: float = 0.5

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return (root / "camera-intrinsics.txt").is_file() and bool(frame_files(root))

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        k = read_matrix(root / "camera-intrinsics.txt", (3, 3))
        intrinsics = pinhole(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), centres=self.centres)
        frames = []
        for image in frame_files(root):
            stem = image.name.split(".")[0]
            depth = image.with_name(f"{stem}.depth.png")
            frames.append(
                Frame(
                    name=image.relative_to(root).as_posix().split(".")[0],
                    image=image,
                    intrinsics=intrinsics,
                    cam_from_world=pose_from_camera_to_world(read_matrix(image.with_name(f"{stem}.pose.txt"), (4, 4))),
                    depth=DepthFile(path=depth, unit=self.depth_unit) if depth.exists() else None,
                )
            )
        return Capture(
            name=root.name,
            root=root,
            frames=tuple(frames),
            metric=True,
            format=self.format,
            notes=poses_without_image(root, len(frames)),
        )
