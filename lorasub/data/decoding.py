"""Decodes frames to tensors of the wanted size, and keeps the results in a cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lorasub.data.frames import Frame, pinhole
from lorasub.data.images import ImageHeader, read_header, read_image
from lorasub.data.resizing import largest_window, resize_depth, resize_image, resize_intrinsics, resize_mask
from lorasub.data.undistortion import undistort
from lorasub.errors import DataError

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
    pixels = read_image(frame.image, upright=stands_upright(frame))
    height, width = pixels.shape[:2]
    intrinsics, grid = frame.intrinsics, (height, width)
    if intrinsics is None:
        focal = ASSUMED_FOCAL * max(height, width)
        intrinsics = pinhole(focal, focal, width / 2, height / 2)
    elif frame.camera_size is not None:
        grid = frame.camera_size[1], frame.camera_size[0]
        intrinsics = _scaled_to_image(intrinsics, frame, (width, height))
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
        source = frame.depth.load(grid)
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


def stands_upright(frame: Frame) -> bool:
    """Return true if a frame's image is to be turned as its camera's orientation tag (EXIF) says.

    Without a camera: always. With one the stated size decides: structure from motion may have seen the image either
    way. Where that cannot tell, the pixels are taken as they are stored.

    Raises:
        DataError: the image cannot be opened.
    """
    if frame.intrinsics is None or frame.camera_size is None:
        return frame.intrinsics is None
    header = read_header(frame.image)
    stored, upright = header.size, header.upright_size
    return not _same_shape(stored, frame.camera_size) and _same_shape(upright, frame.camera_size)


def frame_size(frame: Frame) -> tuple[int, int]:
    """(width, height) of the image that :func:`load_view` works on, without decoding it.

    Raises:
        DataError: the image cannot be opened.
    """
    header: ImageHeader = read_header(frame.image)
    return header.upright_size if stands_upright(frame) else header.size


def _scaled_to_image(intrinsics: Tensor, frame: Frame, size: tuple[int, int]) -> Tensor:
    """Intrinsics of a camera that was stated for images of another resolution."""
    stated = frame.camera_size
    assert stated is not None
    if stated == size:
        return intrinsics
    if frame.camera_assumed or not _same_shape(stated, size):
        raise DataError(f"{frame.image}: {size_fault(size, stated, frame.camera_assumed)}")
    factors = intrinsics.new_tensor([size[0] / stated[0], size[1] / stated[1], 1.0])
    return factors[:, None] * intrinsics


def size_fault(size: tuple[int, int], stated: tuple[int, int], assumed: bool) -> str:
    """Says that an image of ``size`` (width, height) has a camera of another, and what to do."""
    image, camera = f"{size[0]} x {size[1]}", f"{stated[0]} x {stated[1]}"
    if assumed:
        return (
            f"the image is {image}, but nothing in the folder states its camera, and the one that is usual for this "
            f"layout is of {camera}. Put the camera beside the images (a file calibration.txt with fx fy cx cy), or "
            "set the reader's options for it"
        )
    return (
        f"the image is {image}, its camera was calibrated at {camera}: neither a scale nor the image's orientation tag "
        "explains that. Take the images that the calibration belongs to"
    )


def _same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Return true if two sizes have one aspect ratio, within a pixel: halves of odd sizes are rounded."""
    return abs(a[0] * b[1] - a[1] * b[0]) <= max(*a, *b)


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
