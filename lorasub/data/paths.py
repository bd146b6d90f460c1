"""Paths inside a data set. A data set is someone else's file tree: nothing in it may point out of it.

It may also have been written on another system: names that differ in case, backslashes, suffixes left out, and the
files that systems leave behind.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from natsort import natsort_keygen, ns

from lorasub.errors import DataError

#: Files and folders that systems, tools and network drives leave behind.
_LEFT_BEHIND = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found", "$recycle.bin"}
#: Bytes in the name of a file or folder, on every file system that is in use.
LONGEST_NAME = 255
_natural = natsort_keygen(alg=ns.PATH | ns.IGNORECASE)


def inside(root: Path, relative: str | Path) -> Path:
    """Join, and make sure that the result is below ``root`` even after following links.

    Args:
        root: the capture's folder.
        relative: a path as written in the source's files.

    Raises:
        DataError: the path is absolute, climbs out with ``..`` or goes through a link that leads out; or no file can
            have such a name.
    """
    path, below = root / relative, Path(relative)
    if not _nameable(str(relative)):
        raise DataError(f"{root}: {ascii(str(relative))[:60]}... is stated as a file, and no file can be called that")
    if not below.is_absolute() and ".." not in below.parts:
        # without links on the way it cannot lead out; resolving costs ten times as much
        steps = itertools.accumulate(below.parts, lambda here, part: here / part, initial=root)
        if not any(step.is_symlink() for step in itertools.islice(steps, 1, None)):
            return path
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"{root}: '{relative}' leads out of the folder (to {path.resolve()}), which is refused; "
            "copy what it stands for into the folder"
        )
    return path


def find_file(root: Path, stated: str, suffixes: Sequence[str] = ()) -> Path | None:
    """The file below ``root`` that a text file means.

    The path is tried as it stands; then with backslashes, quotes and percent signs read as other systems write them,
    with other upper and lower case, and with one of ``suffixes`` added.

    Args:
        root: the capture's folder.
        stated: relative path as written.
        suffixes: endings that writers leave out, the most likely first.

    Returns:
        Its path; None if there is no such file.

    Raises:
        DataError: the path leads out of ``root``.
    """
    if not _nameable(stated):
        return None
    plain = stated.strip().strip("\"'").strip().replace("\\", "/")
    for words in dict.fromkeys((stated, plain, unquote(plain))):
        if words and inside(root, words).is_file():
            return root / words
        if words and (found := _in_any_case(root, PurePosixPath(words), suffixes)) is not None:
            return inside(root, found.relative_to(root))
    return None


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Files of ``folder`` that match a glob pattern, in natural order (2 before 10), none outside the folder.

    Hidden files are left out, and the suffix may be written in upper or lower case.
    """
    stem, dot, suffix = pattern.rpartition(".")
    if dot and "/" not in suffix and "[" not in suffix:
        pattern = stem + dot + re.sub(r"[a-zA-Z]", lambda letter: f"[{letter[0].lower()}{letter[0].upper()}]", suffix)
    found = [path.relative_to(folder) for path in folder.glob(pattern)]
    shown = [path for path in found if not any(is_hidden(part) for part in path.parts)]
    return [inside(folder, path) for path in sorted(shown, key=natural_order)]


def files_in(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Files directly in ``folder`` with one of these suffixes (lower case), as :func:`numbered` gives them."""
    if not folder.is_dir():
        return []
    wanted = frozenset(suffixes)
    return [path for path in numbered(folder, "*") if path.suffix.lower() in wanted and path.is_file()]


def subfolders(folder: Path) -> list[Path]:
    """Folders directly in ``folder``, links to folders included, in natural order; hidden ones are left out."""
    children = (child for child in folder.iterdir() if not is_hidden(child.name) and child.is_dir())
    return sorted(children, key=natural_order)


def is_hidden(name: str) -> bool:
    """Return true for names of hidden files and of those that systems leave behind."""
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def natural_order(path: Path | str) -> tuple[object, str]:
    """Sort key that compares runs of digits as numbers, and upper with lower case."""
    return _natural(str(path)), str(path)


def _nameable(relative: str) -> bool:
    """Whether file systems take such a path at all."""
    try:
        return "\0" not in relative and all(len(os.fsencode(part)) <= LONGEST_NAME for part in Path(relative).parts)
    except UnicodeEncodeError:  # half of a pair of UTF-16, which JSON may hold
        return False


def _in_any_case(root: Path, relative: PurePosixPath, suffixes: Sequence[str]) -> Path | None:
    folder = root
    for part in relative.parts[:-1]:
        name = part if (folder / part).is_dir() else _same_name(folder, [part])
        if name is None:
            return None
        folder = folder / name
    name = _same_name(folder, [relative.name, *(relative.name + suffix for suffix in suffixes)])
    return folder / name if name is not None and (folder / name).is_file() else None


def _same_name(folder: Path, candidates: Sequence[str]) -> str | None:
    if not folder.is_dir():
        return None
    names = _names(folder, folder.stat().st_mtime_ns)
    return next((names[key] for key in map(_plain, candidates) if key in names), None)


@functools.lru_cache(maxsize=64)
def _names(folder: Path, changed: int) -> dict[str, str]:
    """Plain name -> name of what is in a folder; of names that differ in case only, the first."""
    return {_plain(child.name): child.name for child in sorted(folder.iterdir(), reverse=True)}


def _plain(name: str) -> str:
    """Returns a name without case and with composed accents, as other file systems compare names."""
    return unicodedata.normalize("NFC", name).casefold()
