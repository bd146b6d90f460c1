"""7-Scenes (Shotton et al. 2013), and its copies for TSDF fusion.

``frame-000000.color.png|jpg``, ``frame-000000.depth.png`` (millimetres) and ``frame-000000.pose.txt`` (camera to
world), flat or in ``seq-01`` ... folders, without intrinsics of the colour camera.

The depth is **not registered** to the colour image, although most loaders treat it so: the two come from cameras with
different focal lengths, 2.5 cm apart. This reader warps the depth into the colour image. The default cameras were
fitted to the edges of depth and colour of the "red kitchen" (focal lengths of 525 +- 5 and an offset along x explain
them; SIFT matches under the given poses agree). A reading with one camera of 585 pixels makes every focal length, and
with it every supervised field of view, 11 % wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from lorasub.data.depth import DepthFile, WarpedDepth
from lorasub.data.frames import Capture, DepthSource, Frame, pinhole
from lorasub.data.paths import find_file, numbered
from lorasub.data.readers.base import Reader, read_pose
from lorasub.data.readers.calibration import find_calibration
from lorasub.errors import DataError
from lorasub.geometry import compose_poses

COLOR_SUFFIXES = (".color.png", ".color.jpg")
#: The intrinsics file that copies of the data set carry states this focal length, that of the depth camera.
DEPTH_FOCAL = 585.0
#: Of all images of the data set.
SIZE = (640, 480)
Camera = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class SevenScenes(Reader):
    """Reader of 7-Scenes.

    Attributes:
        depth_camera: fx, fy, cx, cy of the depth images; None takes that of the data set, for 640 x 480.
        color_camera: fx, fy, cx, cy of the colour images; None likewise.
        color_from_depth: where the depth camera stands in the colour camera's frame, in metres.
        pose_of: to which camera the poses belong. They come from KinectFusion, which tracks depth.
        warp: False takes the depth as registered to colour, as it is in re-registered copies.
    """

    format: ClassVar[str] = "7scenes"
    layout: ClassVar[tuple[str, ...]] = ("frame-*.color.*", "frame-*.depth.png", "frame-*.pose.txt")

    depth_camera: Camera | None = None
    color_camera: Camera | None = None
    color_from_depth: tuple[float, float, float] = (-0.025, 0.0, 0.0)
    pose_of: str = "depth"
    warp: bool = True

    def __post_init__(self) -> None:
        if self.pose_of not in ("depth", "color"):
            raise DataError(f"SevenScenes.pose_of is 'depth' or 'color', not '{self.pose_of}'")

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`. A file with another camera than that of the depth means 3DMatch's layout."""
        images = frame_files(root)
        poses = any(image.with_name(f"{image.name.split('.')[0]}.pose.txt").is_file() for image in images)
        return poses and depth_camera_only(root)

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        color_camera = self.color_camera or (525.0, 525.0, 320.0, 240.0)
        depth_camera = self.depth_camera or (DEPTH_FOCAL, DEPTH_FOCAL, 320.0, 240.0)
        color_intrinsics, depth_intrinsics = pinhole(*color_camera), pinhole(*depth_camera)
        notes = poses_without_image(root) + depth_of_other_names(root)
        if self.color_camera is None:
            how = f", depth warped from {depth_camera}, {abs(self.color_from_depth[0]):g} m aside" if self.warp else ""
            notes += (f"assumed camera: no file states it; took 7-Scenes' fx, fy, cx, cy = {color_camera}{how}",)
        offset = torch.eye(3, 4, dtype=torch.float64)
        offset[:, 3] = torch.tensor(self.color_from_depth)
        frames = []
        for image in frame_files(root):
            stem = image.name.split(".")[0]
            pose = read_pose(image.with_name(f"{stem}.pose.txt"))
            if pose is not None and self.warp and self.pose_of == "depth":
                pose = compose_poses(offset, pose)
            path = find_file(image.parent, f"{stem}.depth.png")
            depth: DepthSource | None = None
            if path is not None:
                depth = file = DepthFile(path=path, unit=0.001)
                if self.warp:
                    depth = WarpedDepth(
                        depth=file,
                        depth_intrinsics=depth_intrinsics,
                        color_intrinsics=color_intrinsics,
                        color_from_depth=offset,
                    )
            frames.append(
                Frame(
                    name=image.relative_to(root).as_posix().split(".")[0],
                    image=image,
                    intrinsics=color_intrinsics,
                    cam_from_world=pose,
                    depth=depth,
                    camera_size=SIZE if self.color_camera is None else None,
                    camera_assumed=self.color_camera is None,
                )
            )
        return Capture(
            name=root.name,
            root=root,
            frames=tuple(frames),
            metric=True,
            format=self.format,
            notes=notes,
        )


def depth_camera_only(root: Path) -> bool:
    """Return true if no file states the colour camera: there is none, or it is that of 7-Scenes' depth camera."""
    try:
        camera = find_calibration(root)
    except DataError:  # it is there, and reading the folder will say what is wrong with it
        return False
    return camera is None or float(camera.intrinsics[0, 0]) == DEPTH_FOCAL


def poses_without_image(root: Path) -> tuple[str, ...]:
    """A note if the folder holds more poses than images."""
    images = len(frame_files(root))
    poses = len(numbered(root, "frame-*.pose.txt")) or len(numbered(root, "seq-*/frame-*.pose.txt"))
    return (f"{poses - images} of {poses} poses have no image",) if poses > images else ()


def depth_of_other_names(root: Path) -> tuple[str, ...]:
    """The note about depth under names that are not read (``.depth.proj.png``, ``.depth.pgm``); none without any."""
    found = numbered(root, "frame-*depth*.*") or numbered(root, "seq-*/frame-*depth*.*")
    others = [path.name for path in found if not path.name.lower().endswith(".depth.png")]
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return (f"not read: {others[0]}{more}; depth of a frame is its .depth.png",) if others else ()


def frame_files(root: Path) -> list[Path]:
    """Colour images named as 7-Scenes does, in the folder itself or in its sequences."""
    found = [path for suffix in COLOR_SUFFIXES for path in numbered(root, f"frame-*{suffix}")]
    return found or [path for suffix in COLOR_SUFFIXES for path in numbered(root, f"seq-*/frame-*{suffix}")]
