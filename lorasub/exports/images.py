"""Images, masks and depth as files that other tools read."""

from __future__ import annotations

import os

import numpy as np
import torch
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


#: Largest stored value; 65535 is left free because several readers take it for "unknown".
LARGEST = 65534


def write_depth_png(path: str | os.PathLike[str], depth: Tensor, *, unit: float = 0.001) -> None:
    """Write depth as 16-bit PNG; unknown is 0.

    Args:
        path: the file.
        depth: ``[H, W]`` in world units; not positive or not finite means unknown.
        unit: world units per stored step, 0.001 for millimetres. It goes into the PNG's text chunk ``unit``.

    Raises:
        DataError: some depth does not fit into 16 bits with this unit.
    """
    _check(depth)
    known = torch.where(torch.isfinite(depth) & (depth > 0), depth, 0.0).double().cpu()
    largest = float(known.max()) if known.numel() else 0.0
    if largest / unit > LARGEST:
        raise DataError(
            f"{path}: depth up to {largest:g} does not fit into 16 bits with a unit of {unit:g} (at most "
            f"{LARGEST * unit:g}); take a unit of at least {largest / LARGEST:.2g}, or write NPY"
        )
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("unit", repr(unit))
    with atomic_path(path) as temporary:
        Image.fromarray((known / unit).round().numpy().astype(np.uint16)).save(temporary, format="PNG", pnginfo=text)


def write_depth_npy(path: str | os.PathLike[str], depth: Tensor) -> None:
    """Write depth ``[H, W]`` as float32 NPY in world units."""
    _check(depth)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, depth.detach().float().cpu().numpy(), allow_pickle=False)


def write_depth_exr(path: str | os.PathLike[str], depth: Tensor, *, unknown: float = 0.0) -> None:
    """Write depth ``[H, W]`` as float32 EXR in world units, channel ``V`` as Blender names it.

    Args:
        path: the file.
        depth: not positive or not finite means unknown.
        unknown: what is stored there; Blender stores 1e10.

    Raises:
        DataError: the package OpenEXR is missing.
    """
    _check(depth)
    try:
        import OpenEXR
    except ModuleNotFoundError as error:
        raise DataError(f"{path}: writing EXR needs the package OpenEXR: pip install 'lorasub[exr]'") from error
    known = torch.isfinite(depth) & (depth > 0)
    pixels = torch.where(known, depth.detach().float(), unknown).cpu().contiguous().numpy()
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with atomic_path(path) as temporary:
        OpenEXR.File(header, {"V": pixels}).write(str(temporary))


def _check(depth: Tensor) -> None:
    if depth.ndim != 2:
        raise DataError(f"a depth file holds one [H, W] image, got shape {tuple(depth.shape)}")
