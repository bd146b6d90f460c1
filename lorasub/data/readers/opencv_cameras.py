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
from lorasub.data.paths import inside, numbered
from lorasub.data.readers.base import Reader, missing_images
from lorasub.errors import ArtefactError, DataError
from lorasub.files import read_json

FILE = "opencv_cameras.json"
#: Blender writes 1e10 where a ray hits nothing.
FARTHEST = 1e6


@dataclass(frozen=True, kw_only=True)
class OpenCVCameras(Reader):
    """Reader of ``opencv_cameras.json``.

    Attributes:
        metric: whether the world unit is the metre.
    """

    format: ClassVar[str] = "opencv_cameras"

    metric: bool = False

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return (root / FILE).is_file()

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        try:
            content = read_json(root / FILE)
        except ArtefactError as error:
            raise DataError(str(error)) from error
        entries = content.get("frames") if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise DataError(f"{root / FILE}: expected an object with a list 'frames'")
        images = self._images(root, entries)
        missing = [image for image in images if not image.is_file()]
        frames = tuple(
            self._frame(root, entry, image)
            for entry, image in zip(entries, images, strict=True)
            if image not in missing
        )
        notes = missing_images(missing, len(images))
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
            pose = torch.tensor(entry["w2c"], dtype=torch.float64)[:3, :4]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{root / FILE}: the entry of {image.name} lacks or garbles {error}") from error
        depth = image.with_name(image.name.replace("rgba", "depth")).with_suffix(".exr")
        return Frame(
            name=image.relative_to(root).as_posix(),
            image=image,
            intrinsics=pinhole(fx, fy, cx, cy),
            cam_from_world=_without_scale(pose),
            depth=DepthFile(path=depth, unit=1.0, farthest=FARTHEST) if depth.is_file() else None,
        )


def _image(root: Path, stated: str) -> Path:
    """The file that an entry means, see the top of this module."""
    relative = Path(stated)
    if relative.suffix == ".exr":
        relative = relative.with_suffix(".png")
    shorter = Path(*relative.parts[1:])
    if len(relative.parts) > 2 and not inside(root, relative).is_file() and inside(root, shorter).is_file():
        return root / shorter
    return inside(root, relative)


def _without_scale(pose: Tensor) -> Tensor:
    """Divide ``[3, 4]`` by the scale of its left part, which a rotation does not have."""
    determinant = float(torch.linalg.det(pose[:, :3]))
    return pose / determinant ** (1 / 3) if determinant > 0 else pose
