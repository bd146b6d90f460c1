"""Images and masks as 8-bit PNG."""

from __future__ import annotations

import os

from PIL import Image
from torch import Tensor

from lorasub.errors import DataError
from lorasub.files import atomic_path


def write_image(path: str | os.PathLike[str], image: Tensor) -> None:
    """Write one image.

    Args:
        path: the file, PNG whatever its ending.
        image: ``[3, H, W]`` in [0, 1]; values outside are clipped.

    Raises:
        DataError: another shape.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise DataError(f"an image to write must be [3, H, W], not {list(image.shape)}")
    pixels = (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def write_mask(path: str | os.PathLike[str], mask: Tensor) -> None:
    """Write a mask ``[H, W]`` as grey 8-bit PNG, 255 where it is true.

    Raises:
        DataError: another shape.
    """
    if mask.ndim != 2:
        raise DataError(f"a mask to write must be [H, W], not {list(mask.shape)}")
    with atomic_path(path) as temporary:
        Image.fromarray((mask.bool().byte() * 255).cpu().numpy()).save(temporary, format="PNG")
