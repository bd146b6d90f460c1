"""Depth images for other tools: 16-bit PNG with a stated unit, NPY and EXR."""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lorasub.errors import DataError
from lorasub.files import atomic_path

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
