"""Paths inside a data set. A data set is someone else's file tree: nothing in it may point out of it."""

from __future__ import annotations

from pathlib import Path

from lorasub.errors import DataError


def inside(root: Path, relative: str | Path) -> Path:
    """Join, and make sure that the result is below ``root`` even after following links.

    Args:
        root: the capture's folder.
        relative: a path as written in the source's files.

    Raises:
        DataError: the path is absolute, climbs out with ``..`` or goes through a link that leads out.
    """
    path = root / relative
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{root}: '{relative}' leads out of the folder (to {path.resolve()}), which is refused")
    return path


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Files of ``folder`` that match a glob pattern, in natural order (2 before 10), none outside the folder."""
    return [inside(folder, path.relative_to(folder)) for path in sorted(folder.glob(pattern), key=natural_order)]


def natural_order(path: Path | str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that compares runs of digits as numbers."""
    parts: list[tuple[int, int | str]] = []
    digits = word = ""
    for character in [*str(path), ""]:
        if character.isdecimal() and character.isascii():
            if word:
                parts.append((1, word))
            digits, word = digits + character, ""
        else:
            if digits:
                parts.append((0, int(digits)))
            digits, word = "", word + character
    if word:
        parts.append((1, word))
    return tuple(parts)
