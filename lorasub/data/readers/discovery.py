"""Finds captures in and below a folder, and the reader of each."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from lorasub.data.frames import Capture
from lorasub.data.images import IMAGE_SUFFIXES
from lorasub.data.paths import files_in, subfolders
from lorasub.data.readers.base import Reader
from lorasub.data.readers.capture_json import CaptureJson
from lorasub.data.readers.clearpose import ClearPose
from lorasub.data.readers.colmap import Colmap
from lorasub.data.readers.image_folder import ImageFolder
from lorasub.data.readers.nerfstudio import Nerfstudio
from lorasub.data.readers.opencv_cameras import OpenCVCameras
from lorasub.data.readers.redwood import Redwood
from lorasub.data.readers.scannet import ScanNet
from lorasub.data.readers.seven_scenes import SevenScenes
from lorasub.data.readers.sizes import notes_on_sizes
from lorasub.data.readers.three_d_match import ThreeDMatch
from lorasub.data.readers.tum import TumRgbd
from lorasub.data.readers.unrecognised import (
    describe_unrecognised,
    notes_on_databases,
    other_files,
    signs_of_geometry,
)
from lorasub.errors import ConfigError, DataError

log = logging.getLogger(__name__)

#: Tried in this order on every folder: first those that say most about themselves. The plain image folder is none of
#: them: it reads anything with an image in it.
READERS: tuple[Reader, ...] = (
    CaptureJson(),
    SevenScenes(),
    ThreeDMatch(),
    ScanNet(),
    TumRgbd(),
    OpenCVCameras(),
    ClearPose(),
    Nerfstudio(),
    Redwood(),
    Colmap(),
)
#: How deep captures may lie below the folder that was named.
MAX_DEPTH = 5


def find_captures(
    root: str | Path,
    format: str | Reader = "auto",
    on_error: Callable[[Path, DataError], None] | None = None,
) -> list[Capture]:
    """Read every capture in a folder or below it.

    The folder itself is tried first, then those below it, level by level; below a capture nothing more is looked for.
    A capture is named by the folder that was asked for and the way below it. Folders of plain images are captures only
    where nothing among them looks like poses, cameras, depth or masks, or if asked for (``"images"``).

    Args:
        root: the folder.
        format: ``"auto"``, the name of a format, or a reader with options of its own.
        on_error: called with the folder of each capture that cannot be read, and why; it is then left out. None raises
            the first such error.

    Raises:
        ConfigError: no such format.
        DataError: the folder is missing, no reader recognises anything in it, or a capture cannot be read.

    Example:
        >>> for capture in find_captures("my_captures"):  # doctest: +SKIP
        ...     print(capture.name, capture.format, len(capture.frames))
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: the data folder does not exist" + (" (it is a file)" if folder.exists() else ""))
    readers = _readers(format)
    captures, claimed = _search(folder, readers, on_error)
    if not claimed and format == "auto":
        if signs_of_geometry(folder):
            raise DataError(
                f"{folder}: no reader recognises this layout. {describe_unrecognised(folder, readers)}"
                "docs/data.md describes the layouts and how to add one; --data.format images reads the images alone"
            )
        readers = [*readers, ImageFolder()]
        captures, claimed = _search(folder, readers[-1:], on_error)
    if not claimed:
        names = ", ".join(reader.format for reader in readers)
        raise DataError(
            f"{folder}: no frames found in the layout of {names}, neither here nor {MAX_DEPTH} folders below. "
            f"{describe_unrecognised(folder, readers)}{other_files(folder)}docs/data.md describes the layouts"
        )
    for other in _left_out(folder, claimed) if format == "auto" else ():
        log.warning(
            "%s is left out: it holds images, but no reader recognises it. %s",
            other,
            describe_unrecognised(other, readers).strip(),
        )
    return captures


def _readers(format: str | Reader) -> Sequence[Reader]:
    if isinstance(format, Reader):
        return [format]
    if format == "auto":
        return READERS
    known = {reader.format: reader for reader in (*READERS, ImageFolder())}
    if format not in known:
        raise ConfigError(f"unknown data format '{format}'; there are auto, {', '.join(known)}")
    return [known[format]]


def _search(
    root: Path, readers: Sequence[Reader], on_error: Callable[[Path, DataError], None] | None
) -> tuple[list[Capture], list[Path]]:
    """The captures, and the folders that readers took for one (whether or not they could be read)."""
    captures: list[Capture] = []
    claimed: dict[Path, None] = {}  # in order, and looked up fast
    for folder in _folders(root, claimed):
        reader = next((reader for reader in readers if reader.can_read(folder)), None)
        if reader is None:
            continue
        claimed[folder] = None
        name = (Path(root.resolve().name) / folder.relative_to(root)).as_posix()
        try:
            captures.append(_finish(dataclasses.replace(reader.read(folder), name=name), root))
        except DataError as error:
            if on_error is None:
                raise
            on_error(folder, error)
    return captures, list(claimed)


def _finish(capture: Capture, root: Path) -> Capture:
    """Add what is worth knowing about any capture, whatever its reader."""
    notes = capture.notes
    if capture.format == ImageFolder.format:
        notes += notes_on_databases(capture.root, root)
    lost = sum(frame.cam_from_world is None for frame in capture.frames)
    if lost and capture.has_poses:
        notes += (f"{lost} frame{' has' if lost == 1 else 's have'} no pose",)
    return dataclasses.replace(capture, notes=notes + notes_on_sizes(capture))


def _folders(root: Path, claimed: Collection[Path] = ()) -> Iterator[Path]:
    """The folder and those below it, breadth first and in natural order; hidden ones are left alone.

    Links to folders are followed, each target once. Folders in ``claimed``, which may grow meanwhile, are not entered.
    """
    level, seen = [root], {root.resolve()}
    for _ in range(MAX_DEPTH + 1):
        yield from level
        below = []
        entered = [folder for folder in level if folder not in claimed]
        for child in (child for folder in entered for child in subfolders(folder)):
            if child.resolve() not in seen:
                seen.add(child.resolve())
                below.append(child)
        level = below


def _left_out(root: Path, claimed: Sequence[Path]) -> list[Path]:
    """Folders beside captures that hold images and signs of geometry, and that no reader took."""
    others: list[Path] = []
    taken, above = set(claimed), {parent for folder in claimed for parent in folder.parents}
    for folder in _folders(root, taken):
        if folder in taken or folder in above:
            continue
        taken.add(folder)
        if any(files_in(place, IMAGE_SUFFIXES) for place in _folders(folder)) and signs_of_geometry(folder):
            others.append(folder)
    return others
