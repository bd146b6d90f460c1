"""Which reader reads a folder, and where below it the captures lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from lorasub.data.frames import Capture
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
from lorasub.data.readers.three_d_match import ThreeDMatch
from lorasub.data.readers.tum import TumRgbd
from lorasub.errors import ConfigError, DataError

#: Tried in this order on every folder. The plain image folder comes last: it reads anything with an image in it.
READERS: tuple[Reader, ...] = (
    CaptureJson(),
    SevenScenes(),
    ThreeDMatch(),
    ScanNet(),
    TumRgbd(),
    Redwood(),
    OpenCVCameras(),
    ClearPose(),
    Nerfstudio(),
    Colmap(),
)
#: How deep captures may lie below the folder that was named.
MAX_DEPTH = 5


def find_captures(root: str | Path, format: str | Reader = "auto") -> list[Capture]:
    """Read every capture in a folder or below it.

    The folder itself is tried first, then those below it, level by level; below a capture nothing more is looked for.
    A capture is named by the folder that was asked for and the way below it.

    Args:
        root: the folder.
        format: ``"auto"``, the name of a format, or a reader with options of its own.

    Raises:
        ConfigError: no such format.
        DataError: the folder is missing, or no reader recognises anything in it.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: the data folder does not exist" + (" (it is a file)" if folder.exists() else ""))
    readers = _readers(format)
    captures = _search(folder, readers)
    if not captures and format == "auto":
        captures = _search(folder, [ImageFolder()])
    if not captures:
        names = ", ".join(reader.format for reader in readers)
        raise DataError(
            f"{folder}: no frames found in the layout of {names}, neither here nor {MAX_DEPTH} folders below. "
            "docs/data.md describes the layouts"
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


def _search(root: Path, readers: Sequence[Reader]) -> list[Capture]:
    captures: list[Capture] = []
    claimed: list[Path] = []
    for folder in _folders(root):
        if any(folder.is_relative_to(other) for other in claimed):
            continue
        reader = next((reader for reader in readers if reader.can_read(folder)), None)
        if reader is not None:
            name = folder.resolve().relative_to(root.resolve().parent).as_posix()
            captures.append(dataclasses.replace(reader.read(folder), name=name))
            claimed.append(folder)
    return captures


def _folders(root: Path) -> Iterator[Path]:
    """The folder and those below it, breadth first and sorted; hidden ones and links are left alone."""
    level = [root]
    for _ in range(MAX_DEPTH + 1):
        yield from level
        level = sorted(
            child
            for folder in level
            for child in folder.iterdir()
            if child.is_dir() and not child.is_symlink() and not child.name.startswith(".")
        )
