"""Depth of a frame: decoding of depth files, depth of another camera warped into the image, sparse points.

Every class here is a :class:`lorasub.data.frames.DepthSource`: ``load`` gives z-depth in world units, 0 where unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lorasub.data.frames import DepthSource
from lorasub.data.text import reason
from lorasub.errors import DataError
from lorasub.files import content_fault
from lorasub.geometry import project_points, unproject_depth, world_to_camera

DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".pgm", ".pfm", ".exr", ".npy")
_DEPTH_LAYERS = ("depth", "depthz", "zdepth", "z_depth", "distance_z")
#: Ratio of the aspect ratios of depth and image beyond which they cannot show the same field of view.
ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthFile:
    """A depth image, registered to the colour image of its frame.

    Attributes:
        path: PNG, TIFF or PGM of 8 or 16 bits, PFM, EXR or NPY.
        unit: world units per stored unit: 0.001 for millimetres read as metres, 1 for EXR and NPY in metres.
        float_unit: the same where the file holds floats, whatever its suffix; None takes ``unit`` there, too.
        invalid: stored values that mean "unknown", beside NaN, infinity and everything not above 0.
        rotate_bits: 16-bit words are rotated right by so many bits before ``unit`` applies (some RealSense recorders).
        farthest: drop depth beyond this many world units; sensors are useless beyond their range.
        channel: of an EXR file, where its names do not tell which one is depth; other files have one channel.
    """

    path: Path
    unit: float
    float_unit: float | None = None
    invalid: tuple[float, ...] = (0.0, 65535.0)
    rotate_bits: int = 0
    farthest: float = float("inf")
    channel: str = ""

    def __post_init__(self) -> None:
        for unit in (self.unit, 1.0 if self.float_unit is None else self.float_unit):
            if not 0 < unit < float("inf"):
                raise DataError(f"{self.path}: the depth unit must be positive, got {unit}")

    def load(self, image_size: tuple[int, int] | None = None) -> Tensor:
        """Decode the file; see :class:`lorasub.data.frames.DepthSource`.

        Raises:
            DataError: the file is missing or damaged, or its aspect ratio differs from the image's.
        """
        stored = decode_depth(self.path, self.channel)
        if image_size is not None:
            _check_aspect(stored.shape, image_size, self.path)
        if self.rotate_bits:
            if stored.dtype != np.uint16:
                raise DataError(f"{self.path}: rotate_bits is for 16-bit depth, the file holds {stored.dtype}")
            stored = (stored >> np.uint16(self.rotate_bits)) | (stored << np.uint16(16 - self.rotate_bits))
        known = np.isfinite(stored) & (stored > 0) & ~np.isin(stored, self.invalid)
        if not known.any():
            self._refuse_negative(stored)
        unit = self.unit if self.float_unit is None or stored.dtype.kind != "f" else self.float_unit
        with np.errstate(over="ignore"):  # what does not fit into float32 is no depth
            depth = np.where(known, stored, 0).astype(np.float32) * np.float32(unit)
        depth[(depth > self.farthest) | ~np.isfinite(depth)] = 0.0
        return torch.from_numpy(depth)

    def _refuse_negative(self, stored: npt.NDArray[Any]) -> None:
        """A single negative number is a mark for "unknown"; many are depth of a camera that looks along -z."""
        negative = stored[np.isfinite(stored) & (stored < 0)]
        if len(negative) and negative.min() < negative.max():
            raise DataError(
                f"{self.path}: all depth is negative ({negative.min():g} to {negative.max():g}), as it is in cameras "
                "that look along -z (OpenGL); depth is positive here: turn its sign"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WarpedDepth:
    """Depth from a camera of its own (Kinect, most RGB-D rigs before registration), warped into the colour image.

    Every depth pixel becomes a point, moves to the colour camera and falls on one pixel there; of several the nearest
    stays. Pixels that nothing falls on stay unknown: nothing is interpolated.

    Attributes:
        depth: the unregistered depth file.
        depth_intrinsics: ``[3, 3]`` of the depth image, pixel centres at half integers.
        color_intrinsics: ``[3, 3]`` of the colour image, likewise.
        color_from_depth: ``[3, 4]`` maps points of the depth camera to the colour camera.
    """

    depth: DepthFile
    depth_intrinsics: Tensor
    color_intrinsics: Tensor
    color_from_depth: Tensor

    def load(self, image_size: tuple[int, int]) -> Tensor:
        """Decode and warp; see :class:`lorasub.data.frames.DepthSource`."""
        depth = self.depth.load()
        points = unproject_depth(depth, self.depth_intrinsics.float())[depth > 0]
        points = world_to_camera(points, self.color_from_depth.float())
        return splat_points(points, self.color_intrinsics.float(), image_size)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SparseDepth:
    """Depth at single pixels, as structure from motion gives it.

    Attributes:
        points: ``[N, 3]`` in the frame's camera, world units.
        intrinsics: ``[3, 3]`` of the image, pixel centres at half integers.
    """

    points: Tensor
    intrinsics: Tensor

    def load(self, image_size: tuple[int, int]) -> Tensor:
        """Draw the points; see :class:`lorasub.data.frames.DepthSource`."""
        return splat_points(self.points.float(), self.intrinsics.float(), image_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class StereoDepth:
    """A dense depth map of COLMAP's multi-view stereo, made from the poses and images of its own model.

    Attributes:
        path: ``stereo/depth_maps/IMAGE.geometric.bin`` or ``.photometric.bin``.
    """

    path: Path

    def load(self, image_size: tuple[int, int]) -> Tensor:
        """Decode the file; see :class:`lorasub.data.frames.DepthSource`.

        The format: ``width&height&channels&``, then float32 numbers row by row (COLMAP, ``src/colmap/mvs/mat.h``).

        Raises:
            DataError: the file is missing, is no such map, or its aspect ratio differs from the image's.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.path}: the depth map cannot be read ({reason(error, self.path)})") from error
        *header, pixels = content.split(b"&", 3)
        if len(header) != 3 or not all(word.isdigit() for word in header):
            fault = content_fault(self.path) or "it does not begin with width&height&channels&"
            raise DataError(f"{self.path}: the file is no depth map of COLMAP ({fault})")
        width, height, channels = (int(word) for word in header)
        if channels != 1 or len(pixels) != 4 * width * height or not pixels:
            raise DataError(
                f"{self.path}: {width} x {height} pixels of {channels} channels are {4 * width * height * channels} "
                f"bytes, and depth has one channel; {len(pixels)} bytes are there. Is the file truncated?"
            )
        stored = np.frombuffer(pixels, "<f4").reshape(height, width)
        _check_aspect(stored.shape, image_size, self.path)
        return torch.from_numpy(np.where(np.isfinite(stored) & (stored > 0), stored, 0).astype(np.float32))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RayDepth:
    """Distances from the camera's centre along each pixel's ray, as some renderers and laser scanners state them.

    Attributes:
        depth: of the distances, on the image's field of view.
        intrinsics: ``[3, 3]`` of the image, pixel centres at half integers.
    """

    depth: DepthSource
    intrinsics: Tensor

    def load(self, image_size: tuple[int, int]) -> Tensor:
        """Decode, and turn into depth along z: a ray (x, y, 1) is sqrt(x^2 + y^2 + 1) long."""
        distance = self.depth.load(image_size)
        intrinsics = intrinsics_on_grid(self.intrinsics, image_size, (distance.shape[0], distance.shape[1]))
        lengths: Tensor = unproject_depth(torch.ones_like(distance), intrinsics.float()).norm(dim=-1)
        return distance / lengths


def intrinsics_on_grid(intrinsics: Tensor, image_size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """The intrinsics ``[3, 3]`` of an image of (H, W), for another grid over the same field of view."""
    factors = intrinsics.new_tensor([grid[1] / image_size[1], grid[0] / image_size[0], 1.0])
    return factors[:, None] * intrinsics


def splat_points(points: Tensor, intrinsics: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Depth image of points, each on the one pixel that it falls on; the nearest wins.

    Args:
        points: ``[N, 3]`` in the camera; those behind it are dropped.
        intrinsics: ``[3, 3]``.
        image_size: (H, W).

    Returns:
        ``[H, W]`` float32, 0 where no point falls.
    """
    height, width = image_size
    points = points[points[:, 2] > 0]
    # pixel (i, j) covers [j, j + 1) x [i, i + 1) when centres are at half integers
    pixels = project_points(points, intrinsics).floor()
    seen = (pixels[:, 0] >= 0) & (pixels[:, 0] < width) & (pixels[:, 1] >= 0) & (pixels[:, 1] < height)
    cells = (pixels[seen, 1] * width + pixels[seen, 0]).long()
    depth = torch.full((height * width,), torch.inf, dtype=points.dtype)
    depth.scatter_reduce_(0, cells, points[seen, 2], reduce="amin")
    return torch.where(depth.isinf(), 0.0, depth).reshape(height, width).float()


def decode_depth(path: Path, channel: str = "") -> npt.NDArray[Any]:
    """The numbers in a depth file, as stored: ``[H, W]``, integer or float.

    Args:
        path: one of :data:`DEPTH_SUFFIXES`.
        channel: of an EXR file; empty to find it by its name.

    Raises:
        DataError: the file is missing, damaged, of an unknown kind or not one channel.
    """
    suffix = path.suffix.lower()
    if suffix not in DEPTH_SUFFIXES:
        raise DataError(f"{path}: depth files are {', '.join(DEPTH_SUFFIXES)}, not '{suffix}'")
    if not path.is_file():
        raise DataError(f"{path}: the depth file does not exist")
    try:
        decode = (
            partial(_decode_exr, wanted=channel) if suffix == ".exr" else _DECODERS.get(suffix, _decode_with_pillow)
        )
        stored = decode(path)
    # Pillow reports damage as OSError, SyntaxError or EOFError, numpy as ValueError, OpenEXR as RuntimeError
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path}: the depth file is refused, since a small file may unpack to anything: {error}"
        ) from error
    except (OSError, SyntaxError, EOFError, ValueError, RuntimeError, TypeError, OverflowError, MemoryError) as error:
        fault = content_fault(path) or f"it is damaged or truncated: {reason(error, path)}"
        raise DataError(f"{path}: the depth file cannot be decoded ({fault})") from error
    if not stored.size:
        raise DataError(f"{path}: the depth file holds no pixel (shape {stored.shape})")
    if stored.ndim == 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim != 2 or stored.dtype.kind not in "uif":
        raise DataError(
            f"{path}: depth must be one channel of numbers, this file holds {stored.dtype} of shape {stored.shape}"
        )
    return stored


def _decode_with_pillow(path: Path) -> npt.NDArray[Any]:
    with path.open("rb") as file:
        if file.read(3).startswith(b"PF"):
            raise DataError(f"{path}: depth must be one channel (Pf), this file holds three (PF)")
    with Image.open(path) as image:
        if image.mode == "P":
            raise DataError(f"{path}: the file holds colours of a palette: a picture of depth, not depth itself")
        stored = np.array(image)
    # Pillow widens 16-bit greyscale to int32 in some formats
    widened = stored.dtype == np.int32 and 0 <= stored.min() <= stored.max() < 65536
    return stored.astype(np.uint16) if widened else stored


_SPACE = rb"(?:\s|#[^\n]*\n)+"
#: Magic, width, height and largest value; one white space before the pixels, which Windows editors make two.
_PGM_HEADER = re.compile(rb"(P\d)" + _SPACE + rb"(\d+)" + _SPACE + rb"(\d+)" + _SPACE + rb"(\d+)(?:\r\n|\s)")


def _decode_pgm(path: Path) -> npt.NDArray[Any]:
    # not by Pillow, which stretches values to 65535 when the file's maximum is another one
    content = path.read_bytes()
    header = _PGM_HEADER.match(content)
    if header is None:
        raise ValueError("the header of a PGM file is not there")
    magic, width, height, largest = header[1], int(header[2]), int(header[3]), int(header[4])
    position = header.end()
    if magic == b"P2":
        return np.array(content[position:].split(), dtype=np.uint16)[: width * height].reshape(height, width)
    if magic != b"P5":
        raise DataError(
            f"{path}: depth in PGM files is one channel (P5 or P2), this is {magic.decode(errors='replace')}"
        )
    dtype = np.dtype(">u2" if largest > 255 else "u1")
    pixels = np.frombuffer(content, dtype, count=width * height, offset=position)
    return pixels.reshape(height, width).astype(dtype.newbyteorder("="))


def _decode_npy(path: Path) -> npt.NDArray[Any]:
    try:
        stored: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{path}: the file holds Python objects, which are not unpickled; write plain numbers instead: "
            "numpy.save(path, numpy.asarray(depth, dtype='float32'))"
        ) from error
    return stored


def _decode_exr(path: Path, wanted: str) -> npt.NDArray[Any]:
    try:
        import OpenEXR
    except ModuleNotFoundError as error:
        raise DataError(f"{path}: reading EXR needs the package OpenEXR: pip install 'lorasub[exr]'") from error
    parts = OpenEXR.File(str(path), separate_channels=True).parts
    channels: dict[str, npt.NDArray[Any]] = {}
    for index, part in enumerate(parts):
        prefix = f"{part.name() or index}." if len(parts) > 1 else ""
        channels |= {prefix + name: np.array(channel.pixels) for name, channel in part.channels.items()}
    if not channels:
        raise ValueError("no channel can be decoded")
    if wanted and wanted not in channels:
        raise DataError(f"{path}: there is no channel '{wanted}'; there are {', '.join(channels)}")
    return channels[wanted or _depth_channel(channels, path)]


def _equal(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def _depth_channel(channels: Mapping[str, npt.NDArray[Any]], path: Path) -> str:
    """The channel that holds depth: Z, a layer called Depth, the only channel there is, or three equal colours.

    Renderers put the name of a layer before that of a channel: ``ViewLayer.Depth.Z``, ``beauty.Depth.V``. The Z of
    other layers (``Normal.Z``, ``Position.Z``) is a coordinate.
    """
    parts = {name: [part.lower() for part in name.split(".")] for name in channels}
    colors = [name for name in channels if name in ("R", "G", "B")]
    grey = len(colors) > 1 and all(_equal(channels[colors[0]], channels[name]) for name in colors[1:])
    for found in (
        [name for name in channels if name in ("Z", "z")],
        [name for name, (*layers, _) in parts.items() if layers and layers[-1] in _DEPTH_LAYERS],
        [name for name, words in parts.items() if words[-1] in _DEPTH_LAYERS],
        [name for name in channels if len(channels) == 1],
        [name for name in channels if name in ("Y", "V") and set(channels) <= {"Y", "V", "A"}],
        colors[:1] if grey else [],
    ):
        if found and all(_equal(channels[found[0]], channels[name]) for name in found[1:]):
            return found[0]
        if found:
            raise DataError(
                f"{path}: several channels may be depth: {', '.join(found)}; name one with the reader's option "
                "depth_channel"
            )
    raise DataError(
        f"{path}: none of its channels is depth by its name: {', '.join(channels)}. Depth is called Z, or stands in a "
        "layer Depth, or is the only channel; another one is named with the reader's option depth_channel"
    )


_DECODERS = {".pgm": _decode_pgm, ".npy": _decode_npy}


def _check_aspect(depth_size: tuple[int, ...], image_size: tuple[int, int], path: Path) -> None:
    ratio = (depth_size[1] / depth_size[0]) / (image_size[1] / image_size[0])
    if abs(ratio - 1) > ASPECT_TOLERANCE:
        raise DataError(
            f"{path}: depth is {depth_size[1]} x {depth_size[0]} but its image is {image_size[1]} x {image_size[0]}: "
            "they cannot show the same field of view. Register the depth to the image first, or use a reader that warps"
        )
