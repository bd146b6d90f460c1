"""The files of a COLMAP model (``cameras``, ``images``, ``points3D``), text and binary, without COLMAP.

The formats are documented at https://colmap.github.io/format.html. Only what a reader of posed images needs is kept.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lorasub.data.text import decode_text, reason
from lorasub.errors import DataError
from lorasub.files import content_fault

T = TypeVar("T")

#: Camera models by COLMAP's number: name and number of parameters.
MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
}


@dataclass(frozen=True, slots=True)
class ColmapCamera:
    """One calibrated camera: COLMAP's model name, image size and parameters."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ColmapImage:
    """One registered image.

    Attributes:
        name: file name relative to the image folder.
        camera_id: key into the cameras.
        quaternion: w, x, y, z of the rotation from world to camera.
        translation: of world to camera.
        point_ids: ``[N]`` int64, the 3D points seen in it.
    """

    name: str
    camera_id: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    point_ids: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ColmapModel:
    """A sparse reconstruction: cameras by id, images in file order, point positions by id."""

    cameras: Mapping[int, ColmapCamera]
    images: tuple[ColmapImage, ...]
    points: Mapping[int, tuple[float, float, float]]


def is_colmap_model(folder: Path) -> bool:
    """Return true if a folder holds the cameras and images of a model, as text or binary."""
    return any(
        all((folder / f"{name}{suffix}").is_file() for name in ("cameras", "images")) for suffix in (".bin", ".txt")
    )


def read_colmap_model(folder: Path) -> ColmapModel:
    """Read a model; binary files are preferred if both are there.

    Raises:
        DataError: a file is missing or damaged; the message names it.
    """
    binary = (folder / "images.bin").is_file()
    suffix = ".bin" if binary else ".txt"
    points = folder / f"points3D{suffix}"
    return ColmapModel(
        cameras=_parse(folder / f"cameras{suffix}", _cameras_binary if binary else _cameras_text),
        images=_parse(folder / f"images{suffix}", _images_binary if binary else _images_text),
        points=_parse(points, _points_binary if binary else _points_text) if points.is_file() else {},
    )


def _parse(path: Path, parser: Callable[..., T]) -> T:
    """Run a parser on a file: of text it gets the text, of binary files the bytes."""
    try:
        content = path.read_bytes()
        return parser(content if path.suffix == ".bin" else decode_text(content, path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error, path)})") from error
    except _UnknownModelError as error:
        raise DataError(
            f"{path}: camera model number {error} is not supported; a newer COLMAP wrote it, which knows more lenses. "
            "Undistort the images with that one (colmap image_undistorter)"
        ) from error
    except (ValueError, IndexError, KeyError, struct.error, OverflowError, MemoryError) as error:
        fault = content_fault(path) or f"it is damaged or truncated ({reason(error, path)})"
        raise DataError(f"{path}: {fault}") from error


class _UnknownModelError(Exception):
    """A camera model that is not in :data:`MODELS`: how long its parameters are is not known."""


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if not line.lstrip().startswith("#")]


def _cameras_text(text: str) -> dict[int, ColmapCamera]:
    rows = [line.split() for line in _lines(text) if line.strip()]
    return {int(r[0]): ColmapCamera(r[1].upper(), int(r[2]), int(r[3]), tuple(map(float, r[4:]))) for r in rows}


def _images_text(text: str) -> tuple[ColmapImage, ...]:
    lines = deque(_lines(text))
    images = []
    # two lines an image; the second is empty for an image without points, and may be cut off at the file's end
    while lines:
        words = lines.popleft().split(maxsplit=9)
        if not words:
            continue
        observed = lines[0].split() if lines else []
        if observed and not _is_number(observed[-1]):
            observed = []  # the next image: files written by hand leave empty lines out
        elif lines:
            lines.popleft()
        if len(observed) % 3:
            raise ValueError(
                f"image {words[9]} has {len(observed)} numbers of 2D points, not a multiple of 3; every image has two "
                "lines, of which the second may be empty"
            )
        ids = np.array(observed[2::3], dtype=np.int64)
        images.append(
            ColmapImage(
                words[9].strip(),
                int(words[8]),
                tuple(map(float, words[1:5])),
                tuple(map(float, words[5:8])),
                ids[ids >= 0],
            )
        )
    return tuple(images)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _points_text(text: str) -> dict[int, tuple[float, float, float]]:
    rows = (line.split(maxsplit=4) for line in _lines(text) if line.strip())
    return {int(row[0]): (float(row[1]), float(row[2]), float(row[3])) for row in rows}


def _cameras_binary(content: bytes) -> dict[int, ColmapCamera]:
    cameras = {}
    (count,), position = struct.unpack_from("<Q", content), 8
    for _ in range(count):
        camera_id, model, width, height = struct.unpack_from("<iiQQ", content, position)
        if model not in MODELS:
            raise _UnknownModelError(model)
        name, size = MODELS[model]
        cameras[camera_id] = ColmapCamera(name, width, height, struct.unpack_from(f"<{size}d", content, position + 24))
        position += 24 + 8 * size
    return cameras


def _images_binary(content: bytes) -> tuple[ColmapImage, ...]:
    images = []
    observation = np.dtype([("xy", "<f8", 2), ("id", "<i8")])
    (count,), position = struct.unpack_from("<Q", content), 8
    for _ in range(count):
        _, *motion, camera_id = struct.unpack_from("<i7di", content, position)
        end = content.index(b"\0", position + 64)
        name = content[position + 64 : end].decode("utf-8")
        (size,) = struct.unpack_from("<Q", content, end + 1)
        ids = np.frombuffer(content, observation, count=size, offset=end + 9)["id"]
        images.append(
            ColmapImage(name, camera_id, tuple(motion[:4]), tuple(motion[4:]), ids[ids >= 0].astype(np.int64))
        )
        position = end + 9 + observation.itemsize * size
    return tuple(images)


def _points_binary(content: bytes) -> dict[int, tuple[float, float, float]]:
    points = {}
    (count,), position = struct.unpack_from("<Q", content), 8
    for _ in range(count):
        point_id, x, y, z = struct.unpack_from("<Q3d", content, position)
        (track,) = struct.unpack_from("<Q", content, position + 43)  # after colour (3 bytes) and error (8)
        points[point_id] = (x, y, z)
        position += 51 + 8 * track
    return points
