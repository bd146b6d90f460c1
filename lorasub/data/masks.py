"""Masks of the objects that a data set is about, as images beside its colour images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lorasub.data.resizing import Window, resize_mask
from lorasub.data.text import reason
from lorasub.errors import DataError
from lorasub.files import content_fault


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFile:
    """An image that is 0 (black) outside of the objects.

    Attributes:
        path: any format of Pillow; transparency is ignored, and of images with a palette the stored numbers count.
        others: further files of the same image, for objects with a file each; what is inside of any is inside.
        largest: numbers above it are outside too, for images that number what they show; None lets all count.
    """

    path: Path
    others: tuple[Path, ...] = ()
    largest: int | None = None

    def load(self, image_size: tuple[int, int]) -> Tensor:
        """Decode the mask onto the pixel grid of its image.

        Args:
            image_size: (H, W) of the frame's image before any resizing.

        Returns:
            ``[H, W]`` bool. A mask of another resolution is resized without interpolation.

        Raises:
            DataError: the file is missing or damaged, or its aspect ratio is not the image's.
        """
        masks = [self._load(path, image_size) for path in (self.path, *self.others)]
        return torch.stack(masks).any(0)

    def _load(self, path: Path, image_size: tuple[int, int]) -> Tensor:
        values = _decode(path)
        height, width = values.shape[:2]
        # within a pixel: half of an odd size is rounded
        if abs(width * image_size[0] - height * image_size[1]) > max(*image_size, width, height):
            raise DataError(
                f"{path}: the mask is {width} x {height}, its image {image_size[1]} x {image_size[0]}; "
                "they cannot show the same field of view"
            )
        inside = values > 0 if self.largest is None else (values > 0) & (values <= self.largest)
        return resize_mask(torch.from_numpy(inside.any(-1)), Window(0, 0, width, height), image_size)


def _decode(path: Path) -> np.ndarray:
    """``[H, W, C]`` as stored, without an alpha channel."""
    if not path.is_file():
        raise DataError(f"{path}: the mask does not exist")
    try:
        with Image.open(path) as image:
            colors = [band for band in image.getbands() if band != "A"]
            return np.atleast_3d(np.array(image))[..., : len(colors)]
    # as in lorasub.data.images: Pillow has many words for damage
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        fault = content_fault(path) or reason(error, path)
        raise DataError(f"{path}: the mask cannot be decoded ({fault})") from error
