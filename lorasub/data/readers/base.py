"""The contract of readers: recognise a folder, describe its frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lorasub.data.frames import Capture
from lorasub.errors import DataError
from lorasub.geometry import invert_pose, quaternion_to_matrix

#: How far from 1 the length of a stored quaternion may be; files round to as few as four digits.
QUATERNION_TOLERANCE = 0.02


class Reader(ABC):
    """Turns one folder layout into a :class:`~lorasub.data.frames.Capture`.

    A reader holds only its options, so that one instance can read any number of folders. It opens the small text files
    of a source, never an image: decoding happens later, frame by frame.

    Attributes:
        format: the name by which people ask for it.
    """

    format: ClassVar[str]

    @abstractmethod
    def can_read(self, root: Path) -> bool:
        """Whether this very folder (not one below it) has the layout. Cheap, and false rather than an error."""

    @abstractmethod
    def read(self, root: Path) -> Capture:
        """Describe the capture in ``root``.

        Raises:
            DataError: the folder has the layout but its content is unusable; the message names the file.
        """


def read_matrix(path: Path, shape: tuple[int, int]) -> Tensor:
    """A float64 matrix from a text file.

    Raises:
        DataError: the file is missing, holds other things than numbers, or too few of them.
    """
    rows = read_rows(path)
    if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows):
        raise DataError(f"{path}: expected {shape[0]} rows of {shape[1]} numbers, got {[len(row) for row in rows]}")
    return torch.tensor([[to_float(word, path) for word in row] for row in rows], dtype=torch.float64)


def read_rows(path: Path) -> list[list[str]]:
    """The words of each line of a text file, without comments (#) and empty lines.

    Raises:
        DataError: the file is missing or no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error
    rows = [line.split("#")[0].replace(",", " ").split() for line in lines]
    return [row for row in rows if row]


def to_float(word: str, path: Path) -> float:
    """A number of a text file, with the file's name in the error."""
    try:
        return float(word)
    except ValueError as error:
        raise DataError(f"{path}: '{word}' is not a number") from error


def missing_images(missing: Sequence[str | Path], total: int) -> tuple[str, ...]:
    """The note about entries that were left out because their image is not there; none if none was."""
    return (f"{len(missing)} of {total} entries skipped, no such image: {missing[0]} ...",) if missing else ()


def pose_from_camera_to_world(matrix: Tensor) -> Tensor | None:
    """Extrinsics from a 4 x 4 or 3 x 4 camera-to-world matrix with OpenCV axes; None if tracking was lost.

    Trackers mark frames without a pose by infinities, NaN or a matrix of zeros.
    """
    pose = matrix[:3, :4].double()
    if not torch.isfinite(pose).all() or not pose[:, :3].any():
        return None
    return invert_pose(pose)


def pose_from_quaternion(center: Sequence[float], xyzw: Sequence[float], path: Path) -> Tensor:
    """Extrinsics from a camera's position in the world and its orientation as a quaternion, scalar last.

    Raises:
        DataError: the quaternion is far from unit length, as one in another order of columns would be.
    """
    position = torch.tensor(center, dtype=torch.float64)
    quaternion = torch.tensor(xyzw, dtype=torch.float64)
    length = float(quaternion.norm())
    if not abs(length - 1) < QUATERNION_TOLERANCE:
        raise DataError(
            f"{path}: {list(xyzw)} is no unit quaternion (its length is {length:.3g}); "
            "are the columns in another order?"
        )
    return invert_pose(torch.cat([quaternion_to_matrix(quaternion), position[:, None]], dim=1))
