"""Text files of captures, whatever wrote them: byte order marks, UTF-16, line ends of every system."""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorasub.errors import DataError
from lorasub.files import json_fault

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with that one's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECIMAL_COMMA, _INTEGER = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?"), re.compile(r"[-+]?\d+")
#: What separates or surrounds numbers, beside white space.
_PUNCTUATION = str.maketrans(dict.fromkeys(",;[]()\t", " "))


def read_text(path: Path) -> str:
    r"""A text file with line ends ``\n`` and without byte order marks.

    Raises:
        DataError: the file is missing, or is no text in UTF-8, UTF-16 or UTF-32.
    """
    try:
        return decode_text(path.read_bytes(), path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read as text ({reason(error, path)})") from error


def decode_text(content: bytes, path: Path) -> str:
    """The text in ``content``; ``path`` is for messages. See :func:`read_text`."""
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), _without_mark(content))
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: cannot be read as text (byte {error.start} is not {encoding}); save it as UTF-8"
        ) from error
    return text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n")


def _without_mark(content: bytes) -> str:
    """The encoding of a text without a byte order mark: every other byte of English in UTF-16 is zero."""
    head = content[:64]
    if len(head) > 3 and not any(head[1::2]):
        return "utf-16-le"
    return "utf-16-be" if len(head) > 3 and not any(head[::2]) else "utf-8"


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, stripped, without empty ones and those that begin with #.

    Raises:
        DataError: see :func:`read_text`.
    """
    lines = [line.strip() for line in read_text(path).split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


def read_rows(path: Path) -> list[list[str]]:
    """The words of each line of a table of numbers, without comments (#) and empty lines.

    Raises:
        DataError: see :func:`read_text`.
    """
    rows = [_with_points(line.split("#")[0]).translate(_PUNCTUATION).split() for line in read_lines(path)]
    return [row for row in rows if row]


def _with_points(line: str) -> str:
    """A line of numbers as people who write decimal commas mean it: ``1,5 -0,25`` is ``1.5 -0.25``.

    Numbers that commas separate are many in one word, or have white space behind the comma.
    """
    words = re.split(r"[\s;]+", line.strip())
    decimal = [word for word in words if _DECIMAL_COMMA.fullmatch(word)]
    if len(words) > 1 and decimal and all(word in decimal or _INTEGER.fullmatch(word) for word in words):
        return line.replace(",", ".")
    return line


def read_matrix(path: Path, *shapes: tuple[int, int]) -> Tensor:
    """A float64 matrix from a text file.

    Args:
        path: the file.
        shapes: numbers of rows and columns that it may have.

    Raises:
        DataError: the file is missing, holds other things than numbers, or has another shape.
    """
    rows = read_rows(path)
    if not any(len(rows) == height and all(len(row) == width for row in rows) for height, width in shapes):
        expected = " or ".join(f"{height} rows of {width}" for height, width in shapes)
        raise DataError(f"{path}: expected {expected} numbers, got {[len(row) for row in rows]}")
    return torch.tensor([[to_float(word, path) for word in row] for row in rows], dtype=torch.float64)


def to_float(word: str, path: Path) -> float:
    """A number of a text file, with the file's name in the error."""
    try:
        return float(word)
    except ValueError as error:
        raise DataError(f"{path}: {visible(word)} is not a number") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a capture.

    Raises:
        DataError: the file is missing, is not JSON, or holds something else than an object.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise DataError(f"{path} is not valid JSON (nested too deeply)") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not valid JSON ({json_fault(error)})") from error
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path} cannot be read ({reason(error, path)})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object, got a {type(content).__name__}")
    return content


def visible(word: str) -> str:
    """A word in quotes, with characters that a terminal does not show written out."""
    return ascii(word) if any(unicodedata.category(character).startswith("C") for character in word) else f"'{word}'"


def reason(error: BaseException, path: Path) -> str:
    """The text of another library's exception, without error numbers and without the path, which our message has."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    text = " ".join((str(error) or type(error).__name__).split())
    for name in (repr(str(path)), f'"{path}"', str(path)):
        text = text.replace(name, "it")
    return text
