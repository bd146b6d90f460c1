"""The contract of readers: recognise a folder, describe its frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorasub.data.frames import Capture
from lorasub.data.text import read_lines, read_matrix, read_rows, to_float
from lorasub.errors import DataError
from lorasub.geometry import invert_pose, quaternion_to_matrix

__all__ = [
    "Reader",
    "keys_not_read",
    "missing_depth",
    "missing_images",
    "pose_from_camera_to_world",
    "pose_from_quaternion",
    "read_lines",
    "read_matrix",
    "read_pose",
    "read_rows",
    "to_float",
    "without_lost",
]

#: How far from 1 the length of a stored quaternion may be; files round to as few as four digits.
QUATERNION_TOLERANCE = 0.02
#: How far the last row of a stored 4 x 4 pose may be from (0, 0, 0, 1).
LAST_ROW_TOLERANCE = 1e-3


class Reader(ABC):
    """Turns one folder layout into a :class:`~lorasub.data.frames.Capture`.

    A reader holds only its options, so that one instance can read any number of folders. It opens the small text files
    of a source, and at most the heads of its images: decoding happens later, frame by frame.

    Attributes:
        format: the name by which people ask for it.
        layout: glob patterns of the files and folders that make up the layout, a folder with ``/`` at its end. Used to
            say what an unrecognised folder lacks; empty for a layout that is not guessed at.
    """

    format: ClassVar[str]
    layout: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def can_read(self, root: Path) -> bool:
        """Return true if this very folder (not one below it) has the layout. Cheap; false rather than an error."""

    @abstractmethod
    def read(self, root: Path) -> Capture:
        """Describe the capture in ``root``.

        Raises:
            DataError: the folder has the layout but its content is unusable; the message names the file.
        """


def missing_images(missing: Sequence[str | Path], total: int) -> tuple[str, ...]:
    """The note about entries that were left out because their image is not there; none if none was."""
    return (f"{len(missing)} of {total} entries skipped, no such image: {missing[0]} ...",) if missing else ()


def missing_depth(missing: Sequence[str]) -> tuple[str, ...]:
    """The note about depth files that a source names and that are not there; none if all are."""
    return (f"{len(missing)} depth files are not there: {missing[0]} ...",) if missing else ()


def keys_not_read(entries: Iterable[Mapping[str, Any]], known: Collection[str], path: Path) -> tuple[str, ...]:
    """The note about keys of a JSON file that nothing here looks at; none if there are none."""
    unknown = sorted({str(key) for entry in entries for key in entry} - set(known))
    return (f"{path.name}: not read: {', '.join(unknown)}",) if unknown else ()


def without_lost(pose: Tensor, where: str | Path = "a pose") -> Tensor | None:
    """A 3 x 4 or 4 x 4 pose, or None where its numbers say that tracking was lost: infinities, NaN, no rotation.

    Args:
        pose: the matrix.
        where: it stands, for messages.

    Raises:
        DataError: the last row of a 4 x 4 matrix is not (0, 0, 0, 1): most are then stored column by column, so that
            their rows are the columns, and positions stand in the last one.
    """
    if not torch.isfinite(pose[:3]).all() or not pose[:3, :3].any():
        return None
    last = [0.0, 0.0, 0.0, 1.0] if len(pose) < 4 else pose[3].tolist()
    if any(not abs(a - b) <= LAST_ROW_TOLERANCE for a, b in zip(last, (0, 0, 0, 1), strict=True)):
        raise DataError(
            f"{where}: the last row of the 4 x 4 matrix is {' '.join(f'{x:g}' for x in last)}, that of a pose is "
            "0 0 0 1; is it stored column by column (transposed)?"
        )
    return pose


def read_pose(path: Path) -> Tensor | None:
    """Extrinsics from a text file with a camera-to-world matrix, 4 x 4 or 3 x 4.

    Returns:
        None where the file is missing or empty, or says that tracking was lost.

    Raises:
        DataError: the file holds something else than such a matrix.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return None
    return pose_from_camera_to_world(read_matrix(path, (4, 4), (3, 4)), path)


def pose_from_camera_to_world(matrix: Tensor, where: str | Path = "a pose") -> Tensor | None:
    """Extrinsics from a 4 x 4 or 3 x 4 camera-to-world matrix with OpenCV axes; None if tracking was lost.

    Args:
        matrix: the pose.
        where: it stands, for messages.

    Raises:
        DataError: see :func:`without_lost`.
    """
    pose = without_lost(matrix.double(), where)
    return None if pose is None else invert_pose(pose[:3, :4])


def pose_from_quaternion(center: Sequence[float], xyzw: Sequence[float], path: Path) -> Tensor | None:
    """Extrinsics from a camera's position in the world and its orientation as a quaternion, scalar last.

    Returns:
        None if tracking was lost: a number is not finite, or the quaternion is zero.

    Raises:
        DataError: the quaternion is far from unit length, as one in another order of columns would be.
    """
    position = torch.tensor(center, dtype=torch.float64)
    quaternion = torch.tensor(xyzw, dtype=torch.float64)
    length = float(quaternion.norm())
    if not torch.isfinite(torch.cat([position, quaternion])).all() or length == 0:
        return None
    if not abs(length - 1) < QUATERNION_TOLERANCE:
        raise DataError(
            f"{path}: {list(xyzw)} is no unit quaternion (its length is {length:.3g}); "
            "are the columns in another order?"
        )
    return invert_pose(torch.cat([quaternion_to_matrix(quaternion), position[:, None]], dim=1))
