"""ScanNet scenes as its exporter writes them.

``color/0.jpg``, ``depth/0.png`` (millimetres), ``pose/0.txt`` (camera to world; minus infinity where tracking was lost)
and ``intrinsic/intrinsic_color.txt`` (4 x 4). The depth has another resolution but the same field of view.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lorasub.data.depth import DepthFile
from lorasub.data.frames import Capture, Frame, pinhole
from lorasub.data.paths import numbered
from lorasub.data.readers.base import Reader, pose_from_camera_to_world, read_matrix


@dataclass(frozen=True, kw_only=True)
class ScanNet(Reader):
    """Reader of ScanNet's exported layout."""

    format: ClassVar[str] = "scannet"

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return (root / "intrinsic" / "intrinsic_color.txt").is_file() and (root / "color").is_dir()

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        k = read_matrix(root / "intrinsic" / "intrinsic_color.txt", (4, 4))
        intrinsics = pinhole(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), centres=0.0)
        frames = []
        for image in numbered(root, "color/*.[jp][pn]g"):
            depth = root / "depth" / f"{image.stem}.png"
            pose = pose_from_camera_to_world(read_matrix(root / "pose" / f"{image.stem}.txt", (4, 4)))
            frames.append(
                Frame(
                    name=image.stem,
                    image=image,
                    intrinsics=intrinsics,
                    cam_from_world=pose,
                    depth=DepthFile(path=depth, unit=0.001) if depth.exists() else None,
                )
            )
        lost = sum(frame.cam_from_world is None for frame in frames)
        notes = (f"{lost} frames have no pose: tracking was lost",) if lost else ()
        return Capture(name=root.name, root=root, frames=tuple(frames), metric=True, format=self.format, notes=notes)
