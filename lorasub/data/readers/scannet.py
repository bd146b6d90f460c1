"""ScanNet scenes as its exporter writes them, and its subset of 25,000 frames.

``color/0.jpg``, ``depth/0.png`` (millimetres), ``pose/0.txt`` (camera to world; minus infinity where tracking was lost)
and ``intrinsic/intrinsic_color.txt`` (4 x 4), which stands as ``intrinsics_color.txt`` at the top in the subset. The
depth has another resolution but the same field of view.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from lorasub.data.depth import DEPTH_SUFFIXES
from lorasub.data.frames import Capture, Frame
from lorasub.data.images import IMAGE_SUFFIXES
from lorasub.data.paths import files_in, subfolders
from lorasub.data.readers.base import Reader, read_matrix, read_pose
from lorasub.data.readers.calibration import depth_unit_note, read_calibration, registered_depth

_COLOR_CAMERA = re.compile(r"intrinsics?(_color)?\.txt", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ScanNet(Reader):
    """Reader of ScanNet's exported layout."""

    format: ClassVar[str] = "scannet"
    layout: ClassVar[tuple[str, ...]] = ("color/", "depth/", "pose/", "intrinsic/intrinsic_color.txt")

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        camera = _camera_file(root) if (root / "color").is_dir() else None
        return camera is not None and (camera.parent != root or (root / "pose").is_dir())

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        path = _camera_file(root)
        assert path is not None
        camera = read_calibration(path)
        poses, depths = _by_number(root / "pose", (".txt",)), _by_number(root / "depth", DEPTH_SUFFIXES)
        frames = []
        for image in files_in(root / "color", IMAGE_SUFFIXES):
            pose, depth = (found.pop(_number(image), None) for found in (poses, depths))
            frames.append(
                Frame(
                    name=image.stem,
                    image=image,
                    intrinsics=camera.intrinsics,
                    cam_from_world=None if pose is None else read_pose(pose),
                    depth=None if depth is None else registered_depth(depth, camera, unit=None, usual_unit=0.001),
                    distortion=camera.distortion,
                    camera_size=camera.size,
                )
            )
        left = [f"{len(found)} files of {name}/" for name, found in (("pose", poses), ("depth", depths)) if found]
        extrinsics = path.with_name(path.name.replace("intrinsic", "extrinsic"))
        notes = depth_unit_note(camera, None)
        notes += (f"{' and '.join(left)} belong to no image",) if left else ()
        if extrinsics.is_file() and extrinsics != path:
            matrix = read_matrix(extrinsics, (4, 4))
            if not torch.allclose(matrix, torch.eye(4, dtype=matrix.dtype), atol=1e-4):
                notes += (f"{extrinsics.relative_to(root)} is not the identity, and is not applied",)
        return Capture(name=root.name, root=root, frames=tuple(frames), metric=True, format=self.format, notes=notes)


def _camera_file(root: Path) -> Path | None:
    """The colour camera's file: in a folder such as ``intrinsic``, or at the top."""
    folders = [folder for folder in subfolders(root) if folder.name.lower().startswith("intrinsic")]
    found = [path for folder in (*folders, root) for path in files_in(folder, (".txt",))]
    found = [path for path in found if _COLOR_CAMERA.fullmatch(path.name)]
    return next((path for path in found if "color" in path.name.lower()), found[0] if found else None)


def _number(path: Path) -> str:
    """Returns a frame's number, by which it is called in each folder, without zeros before it."""
    return path.stem.lstrip("0") or "0"


def _by_number(folder: Path, suffixes: Iterable[str]) -> dict[str, Path]:
    return {_number(path): path for path in files_in(folder, suffixes)}
