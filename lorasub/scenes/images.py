"""Pictures as textures: a user's folder of photographs becomes a small atlas that the renderer looks things up in."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from lorasub.errors import DataError
from lorasub.scenes.color import srgb_to_linear

#: Height and width of the pictures in an atlas, a power of two.
ATLAS_SIZE = 128
#: Pictures in the largest atlas, which takes 128 MB.
MAX_IMAGES = 512
_ENDINGS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, slots=True, eq=False)
class ImageAtlas:
    """Pictures of :data:`ATLAS_SIZE` squared and their smaller copies, down to one texel.

    Attributes:
        texels: ``[3, I, N]`` float32 linear RGB. Row by row the picture, then its copy of half the size, and so on:
            the copy of side s begins at ``4 (ATLAS_SIZE^2 - s^2) / 3``.
    """

    texels: Tensor

    def __len__(self) -> int:
        return self.texels.shape[1]

    @classmethod
    def of(cls, images: Tensor) -> ImageAtlas:
        """An atlas of sRGB images ``[I, 3, H, W]`` in [0, 1], which are resized to squares."""
        linear = srgb_to_linear(images.float())
        level = torch.nn.functional.interpolate(linear, (ATLAS_SIZE, ATLAS_SIZE), mode="bilinear", antialias=True)
        levels = [level]
        while level.shape[-1] > 1:
            level = torch.nn.functional.avg_pool2d(level, 2)
            levels.append(level)
        return cls(torch.cat([part.flatten(2) for part in levels], dim=-1).transpose(0, 1).contiguous())

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> ImageAtlas:
        """The images of a folder in the order of :func:`list_images`; their middle squares.

        Raises:
            DataError: there is no such folder, no image in it, too many, or one that cannot be decoded.
        """
        squares = []
        for path in list_images(os.fspath(folder)):
            try:
                with Image.open(path) as image:
                    whole = ImageOps.exif_transpose(image).convert("RGB")
            except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
                raise DataError(f"{path} cannot be decoded ({error}); remove it or write it again") from error
            square = ImageOps.fit(whole, (ATLAS_SIZE, ATLAS_SIZE), Image.Resampling.LANCZOS)
            squares.append(torch.from_numpy(np.array(square)).permute(2, 0, 1))
        return cls.of(torch.stack(squares).float() / 255.0)

    def to(self, device: torch.device) -> ImageAtlas:
        """The atlas on a device."""
        return self if self.texels.device == device else ImageAtlas(self.texels.to(device))


@functools.lru_cache(maxsize=16)
def list_images(folder: str) -> tuple[Path, ...]:
    """The images right in a folder, sorted by name; listed once in the life of a process.

    Raises:
        DataError: there is no such folder, no image in it, or more than :data:`MAX_IMAGES`.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; textures are drawn from a folder of images")
    paths = tuple(sorted(path for path in root.iterdir() if path.suffix.lower() in _ENDINGS))
    if not paths:
        raise DataError(f"{root} holds no image ({', '.join(sorted(_ENDINGS))}) to take textures from")
    if len(paths) > MAX_IMAGES:
        raise DataError(f"{root} holds {len(paths)} images; textures are taken from at most {MAX_IMAGES}")
    return paths
