"""``transforms.json`` of nerfstudio, instant-ngp and NeRF-synthetic: camera-to-world matrices with OpenGL axes.

Intrinsics stand at the top or in each frame (``fl_x fl_y cx cy``), or as a field of view (``camera_angle_x``). Entries
whose image is missing are skipped with a note. Distortion is removed when images are loaded; lenses other than OpenCV's
perspective model are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image

from lorasub.data.depth import DepthFile
from lorasub.data.frames import Capture, DepthSource, Frame, pinhole
from lorasub.data.paths import inside, natural_order
from lorasub.data.readers.base import Reader, missing_images
from lorasub.data.undistortion import UndistortedDepth
from lorasub.errors import ArtefactError, DataError
from lorasub.files import read_json
from lorasub.geometry import cam_from_world_from_opengl

FILE = "transforms.json"
PERSPECTIVE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3")


@dataclass(frozen=True, kw_only=True)
class Nerfstudio(Reader):
    """Reader of ``transforms.json``.

    Attributes:
        metric: whether the world unit is the metre; structure from motion leaves the scale open.
        depth_unit: world units per stored unit of integer depth files, where the file does not say
            (``depth_unit_scale_factor``). Depth in NPY and EXR is in world units.
    """

    format: ClassVar[str] = "nerfstudio"

    metric: bool = False
    depth_unit: float = 0.001

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return (root / FILE).is_file()

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        path = root / FILE
        try:
            content = read_json(path)
        except ArtefactError as error:
            raise DataError(str(error)) from error
        if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
            raise DataError(f"{path}: expected an object with a list 'frames'")
        model = str(content.get("camera_model", "OPENCV")).upper()
        if model not in PERSPECTIVE or content.get("is_fisheye"):
            raise DataError(f"{path}: camera model {model} is not supported, only {', '.join(PERSPECTIVE)}")
        frames, missing = [], []
        for entry in sorted(content["frames"], key=lambda entry: natural_order(str(entry.get("file_path", "")))):
            image = _image(root, str(entry.get("file_path", "")))
            if image is None:
                missing.append(str(entry.get("file_path")))
            else:
                frames.append(self._frame({**content, **entry}, image, root))
        return Capture(
            name=root.name,
            root=root,
            frames=tuple(frames),
            metric=self.metric,
            format=self.format,
            notes=missing_images(missing, len(content["frames"])),
        )

    def _frame(self, entry: Mapping[str, Any], image: Path, root: Path) -> Frame:
        path = root / FILE
        try:
            matrix = torch.tensor(entry["transform_matrix"], dtype=torch.float64)
            distortion = tuple(float(entry.get(name, 0.0)) for name in COEFFICIENTS)
            intrinsics = _intrinsics(entry, image)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: the entry of {image.name} lacks or garbles {error}") from error
        if matrix.shape not in ((4, 4), (3, 4)):
            raise DataError(f"{path}: transform_matrix of {image.name} is {list(matrix.shape)}, not 4 x 4")
        depth: DepthSource | None = None
        if entry.get("depth_file_path"):
            file = inside(root, str(entry["depth_file_path"]))
            stored_in_steps = file.suffix.lower() in (".png", ".pgm", ".tif", ".tiff")
            unit = float(entry.get("depth_unit_scale_factor", self.depth_unit)) if stored_in_steps else 1.0
            depth = DepthFile(path=file, unit=unit)
            if any(distortion):
                depth = UndistortedDepth(depth=depth, intrinsics=intrinsics, distortion=distortion)
        return Frame(
            name=image.relative_to(root).as_posix(),
            image=image,
            intrinsics=intrinsics,
            cam_from_world=cam_from_world_from_opengl(matrix),
            depth=depth,
            distortion=distortion if any(distortion) else (),
        )


def _intrinsics(entry: Mapping[str, Any], image: Path) -> torch.Tensor:
    if "w" in entry and "h" in entry:
        width, height = float(entry["w"]), float(entry["h"])
    else:
        with Image.open(image) as opened:
            width, height = map(float, opened.size)
    if "fl_x" in entry:
        fx = float(entry["fl_x"])
        fy = float(entry.get("fl_y", fx))
    else:
        fx = 0.5 * width / math.tan(0.5 * float(entry["camera_angle_x"]))
        fy = 0.5 * height / math.tan(0.5 * float(entry["camera_angle_y"])) if "camera_angle_y" in entry else fx
    return pinhole(fx, fy, float(entry.get("cx", width / 2)), float(entry.get("cy", height / 2)))


def _image(root: Path, file_path: str) -> Path | None:
    if not file_path:
        raise DataError(f"{root / FILE}: a frame has no file_path")
    # NeRF-synthetic leaves the suffix out
    for candidate in (file_path, f"{file_path}.png", f"{file_path}.jpg"):
        path = inside(root, candidate)
        if path.is_file():
            return path
    return None
