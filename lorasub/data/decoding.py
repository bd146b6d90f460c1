"""From a frame's description to tensors of the wanted size, and a cache of the results."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from lorasub.data.frames import Frame, pinhole
from lorasub.data.resizing import largest_window, resize_depth, resize_image, resize_intrinsics, resize_mask
from lorasub.data.undistortion import undistort
from lorasub.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
#: Focal length assumed for images that come without one, in units of the longer side (a field of view of 53 degrees).
ASSUMED_FOCAL = 1.0

Crop = Literal["principal_point", "center"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """A decoded and resized frame.

    Attributes:
        name: the frame's name.
        image: ``[3, h, w]`` uint8.
        depth: ``[h, w]`` float32 z-depth in world units, 0 where unknown.
        intrinsics: ``[3, 3]`` float64 for this size, pixel centres at half integers.
        cam_from_world: ``[3, 4]`` float64, or None.
        object_mask: ``[h, w]`` bool, or None.
    """

    name: str
    image: Tensor
    depth: Tensor
    intrinsics: Tensor
    cam_from_world: Tensor | None
    object_mask: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Memory of its large tensors."""
        mask = 0 if self.object_mask is None else self.object_mask.nbytes
        return int(self.image.nbytes + self.depth.nbytes + mask)


def load_view(frame: Frame, size: tuple[int, int] | None = None, crop: Crop = "principal_point") -> View:
    """Decode a frame and resize the largest window of the target's aspect ratio.

    Args:
        frame: what to load.
        size: (H, W) of the result; None keeps the image's own size and crops nothing.
        crop: where the window is centred. ``"principal_point"``: on the camera's axis, so that the cut image has its
            principal point in the middle, which is what VGGT's pose encoding (fields of view only) can express;
            ``"center"``: on the image's centre, which keeps more of images whose axis is far off.

    Raises:
        DataError: a file is missing or damaged, or sizes do not fit; the message names the file.
    """
    pixels = read_image(frame.image, upright=frame.intrinsics is None)
    height, width = pixels.shape[:2]
    intrinsics = frame.intrinsics
    if intrinsics is None:
        focal = ASSUMED_FOCAL * max(height, width)
        intrinsics = pinhole(focal, focal, width / 2, height / 2)
    axis = (float(intrinsics[0, 2]), float(intrinsics[1, 2]))
    if not (0 < axis[0] < width and 0 < axis[1] < height):
        raise DataError(
            f"{frame.image}: the principal point ({axis[0]:g}, {axis[1]:g}) is outside the image of "
            f"{width} x {height}; do the intrinsics belong to another resolution?"
        )
    mask = None if frame.object_mask is None else frame.object_mask.load((height, width))
    if any(frame.distortion):
        colors = torch.from_numpy(pixels).permute(2, 0, 1)
        flat = undistort(colors, intrinsics, frame.distortion).round().clamp(0, 255).to(torch.uint8)
        pixels = flat.permute(1, 2, 0).contiguous().numpy()
        if mask is not None:
            mask = undistort(mask[None], intrinsics, frame.distortion, nearest=True)[0] > 0

    size = size or (height, width)
    whole = size == (height, width)
    window = largest_window((height, width), size, axis if crop == "principal_point" and not whole else None)
    if frame.depth is None:
        depth = torch.zeros(size)
    else:
        source = frame.depth.load((height, width))
        to_depth = (source.shape[1] / width, source.shape[0] / height)
        depth = resize_depth(source, window.scaled(*to_depth), size)
    return View(
        name=frame.name,
        image=resize_image(pixels, window, size),
        depth=depth,
        intrinsics=resize_intrinsics(intrinsics.double(), window, size),
        cam_from_world=frame.cam_from_world,
        object_mask=None if mask is None else resize_mask(mask, window, size),
    )


def read_image(path: Path, *, upright: bool = False) -> npt.NDArray[np.uint8]:
    """Decode a colour image to ``[H, W, 3]`` uint8, laid on white where it is transparent.

    Args:
        path: any format of Pillow.
        upright: follow the camera's orientation tag. Cameras with known intrinsics and poses are calibrated on the
            stored pixels, so for them the tag must be left alone.

    Raises:
        DataError: the file is missing, damaged or no image.
    """
    if not path.is_file():
        raise DataError(f"{path}: the image does not exist")
    try:
        with Image.open(path) as image:
            turned = ImageOps.exif_transpose(image) if upright else image
            if turned.has_transparency_data:
                white = Image.new("RGBA", turned.size, "white")
                turned = Image.alpha_composite(white, turned.convert("RGBA"))
            return np.array(turned.convert("RGB"))
    # Pillow reports damage as OSError, SyntaxError, ValueError or EOFError, and huge images as DecompressionBombError
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: the image cannot be decoded ({error}); is it truncated?") from error


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) from the head of an image file, as stored.

    Raises:
        DataError: the file is missing or no image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: the image cannot be opened ({error})") from error


class ViewCache:
    """The least recently used views are dropped when the rest would exceed a size.

    Args:
        megabytes: limit of one process (each worker of a data loader has its own cache); 0 keeps nothing.
    """

    def __init__(self, megabytes: float) -> None:
        if megabytes < 0:
            raise DataError(f"a cache cannot have {megabytes} MB")
        self._limit = int(megabytes * 1e6)
        self._size = 0
        self._views: OrderedDict[Hashable, View] = OrderedDict()

    def get(self, key: Hashable, load: Callable[[], View]) -> View:
        """The view of ``key``, loaded if it is not there."""
        view = self._views.get(key)
        if view is not None:
            self._views.move_to_end(key)
            return view
        view = load()
        if view.nbytes <= self._limit:
            self._views[key] = view
            self._size += view.nbytes
            while self._size > self._limit:
                self._size -= self._views.popitem(last=False)[1].nbytes
        return view

    def __len__(self) -> int:
        return len(self._views)
