"""``opencv_cameras.json``: the layout of MegaSynth, and of what the paper renders from THuman 2.0 and 2K2K.

A list of frames with ``w2c`` (OpenCV extrinsics, 4 x 4), ``fx fy cx cy`` and ``file_path`` of ``..._rgba.png``; beside
each stands ``..._depth.exr`` with z-depth, huge where the ray hit nothing. Variants that occur:

- the renderers of THuman and 2K2K state ``file_path`` from the folder above, and with the suffix ``.exr`` that images
  had before tone mapping;
- the same sets cropped around the person leave ``file_path`` out: frames go with the images in ``renderings`` in order;
- ``w2c`` may carry a uniform scale, of a scaled camera object; depth does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorasub.data.depth import DepthFile
from lorasub.data.frames import Capture, Frame, pinhole
from lorasub.data.paths import find_file, inside, numbered
from lorasub.data.readers.base import Reader, keys_not_read, missing_images, without_lost
from lorasub.data.text import read_json_object
from lorasub.errors import DataError

FILE = "opencv_cameras.json"
#: Blender writes 1e10 where a ray hits nothing.
FARTHEST = 1e6
_KEYS = ("file_path", "w2c", "fx", "fy", "cx", "cy", "w", "h", "blender_camera_location", "id", "name")


@dataclass(frozen=True, kw_only=True)
class OpenCVCameras(Reader):
    """Reader of ``opencv_cameras.json``.

    Attributes:
        metric: whether the world unit is the metre.
        depth_channel: of the EXR files, where channels' names do not tell which one is depth.
    """

    format: ClassVar[str] = "opencv_cameras"
    layout: ClassVar[tuple[str, ...]] = (FILE,)

    metric: bool = False
    depth_channel: str = ""

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return (root / FILE).is_file()

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        entries = read_json_object(root / FILE).get("frames")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(f"{root / FILE}: expected an object with a list 'frames'")
        images = self._images(root, entries)
        missing = [image for image in images if not image.is_file()]
        frames = tuple(
            self._frame(root, entry, image)
            for entry, image in zip(entries, images, strict=True)
            if image not in missing
        )
        notes = missing_images(missing, len(images)) + keys_not_read(entries, _KEYS, root / FILE)
        return Capture(name=root.name, root=root, frames=frames, metric=self.metric, format=self.format, notes=notes)

    def _images(self, root: Path, entries: list[Mapping[str, Any]]) -> list[Path]:
        if all("file_path" in entry for entry in entries):
            return [_image(root, str(entry["file_path"])) for entry in entries]
        images = numbered(root, "renderings/*_rgba.png")
        if len(images) != len(entries):
            raise DataError(
                f"{root / FILE}: {len(entries)} frames without file_path for {len(images)} images in renderings/"
            )
        return images

    def _frame(self, root: Path, entry: Mapping[str, Any], image: Path) -> Frame:
        try:
            fx, fy, cx, cy = (float(entry[name]) for name in ("fx", "fy", "cx", "cy"))
            pose = without_lost(torch.tensor(entry["w2c"], dtype=torch.float64), f"{root / FILE}: w2c of {image.name}")
            size = (int(entry["w"]), int(entry["h"])) if "w" in entry and "h" in entry else None
        except (KeyError, TypeError, ValueError, IndexError, ArithmeticError) as error:
            raise DataError(f"{root / FILE}: the entry of {image.name} lacks or garbles {error}") from error
        depth = inside(root, image.with_name(image.name.replace("rgba", "depth")).with_suffix(".exr").relative_to(root))
        return Frame(
            name=image.relative_to(root).as_posix(),
            image=image,
            intrinsics=pinhole(fx, fy, cx, cy),
            cam_from_world=None if pose is None else _without_scale(pose[:3, :4]),
            camera_size=size,
            depth=DepthFile(path=depth, unit=1.0, farthest=FARTHEST, channel=self.depth_channel)
            if depth.is_file()
            else None,
        )


def _image(root: Path, stated: str) -> Path:
    """The file that an entry means, see the top of this module."""
    relative = Path(stated.replace("\\", "/"))
    if relative.suffix == ".exr":
        relative = relative.with_suffix(".png")
    shorter = Path(*relative.parts[1:])
    for words in (relative, shorter) if len(relative.parts) > 2 else (relative,):
        if (found := find_file(root, words.as_posix())) is not None:
            return found
    return inside(root, relative)


def _without_scale(pose: Tensor) -> Tensor:
    """Divide ``[3, 4]`` by the scale of its left part, which a rotation does not have."""
    determinant = float(torch.linalg.det(pose[:, :3]))
    return pose / determinant ** (1 / 3) if determinant > 0 else pose
