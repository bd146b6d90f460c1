"""Artefacts of several files: written as a whole, with a version and a hash of each file, and read strictly.

An artefact is a folder. One JSON file describes it: its format, the version of that format, and the SHA-256 of the
other files. All files are complete under temporary names before the first takes its place, so that a full disk or a
kill leaves an older artefact whole. Single files go through :mod:`lorasub.files`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lorasub._version import __version__
from lorasub.errors import ArtefactError
from lorasub.files import atomic_path, hash_file, read_json, write_json, write_tensors

#: Writes one file.
Writer = Callable[[Path], object]


def write_files(folder: Path, writers: Mapping[str, Writer]) -> None:
    """Writes several files of a folder; none takes its place before all are complete.

    Args:
        folder: made if missing.
        writers: name of each file -> writes it, in this order.
    """
    with contextlib.ExitStack() as stack:
        places = {name: stack.enter_context(atomic_path(folder / name)) for name in reversed(list(writers))}
        for name, write in writers.items():
            write(places[name])


def tensors_writer(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Writer:
    """Returns what writes tensors as safetensors."""
    return lambda path: write_tensors(path, tensors, metadata)


def json_writer(content: Any) -> Writer:
    """Returns what writes plain values as JSON."""
    return lambda path: write_json(path, content)


def text_writer(text: str) -> Writer:
    """Returns what writes text."""
    return lambda path: path.write_text(text, encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactFormat:
    """One format of artefacts.

    Attributes:
        name: in the description, such as ``lorasub-basis``.
        noun: for people, such as ``basis``.
        version: a reader refuses any other rather than guess.
        description: name of the describing file.
    """

    name: str
    noun: str
    version: int
    description: str

    def header(self) -> dict[str, Any]:
        """Returns the first entries of a description."""
        return {"format": self.name, "format_version": self.version, "lorasub_version": __version__}

    def write(self, folder: Path, content: Mapping[str, Any], files: Mapping[str, Writer], card: str) -> Path:
        """Writes an artefact.

        Args:
            folder: made if missing.
            content: of the description, beside header and hashes.
            files: name -> what writes it. Their hashes go into the description.
            card: text of ``README.md``.

        Returns:
            The folder.
        """
        hashes: dict[str, str] = {}

        def hashed(name: str, write: Writer) -> Writer:
            def both(path: Path) -> None:
                write(path)
                hashes[name] = hash_file(path)

            return both

        def describe(path: Path) -> None:
            write_json(path, {**self.header(), **content, "files": hashes})

        writers = {name: hashed(name, write) for name, write in files.items()}
        write_files(folder, {**writers, self.description: describe, "README.md": text_writer(card)})
        return folder

    def read(self, folder: str | os.PathLike[str]) -> dict[str, Any]:
        """Returns the description of an artefact whose files are those it describes.

        Raises:
            ArtefactError: there is none; it is of another format or version; a file is missing or another one.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ArtefactError(f"there is no {self.noun} at {folder}: no such folder")
        path = folder / self.description
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != self.name:
            raise ArtefactError(f"{path} does not describe {self._article} {self.noun} of lorasub")
        if content.get("format_version") != self.version:
            raise ArtefactError(
                f"{path} has format version {content.get('format_version')}, this lorasub ({__version__}) reads "
                f"{self.version}; it was written by lorasub {content.get('lorasub_version')}"
            )
        files = content.get("files", {})  # earlier versions have hashes of some files, or none
        if not isinstance(files, dict):
            raise ArtefactError(f"{path} lacks or garbles 'files'; save the {self.noun} again")
        for name, expected in files.items():
            if not (folder / name).exists():
                raise ArtefactError(f"{folder} lacks {name}, which {self.description} names")
            if hash_file(folder / name) != expected:
                raise ArtefactError(
                    f"{folder / name} is not the file that {self.description} describes: it is truncated or was "
                    f"edited, or a save was interrupted; save the {self.noun} again"
                )
        return content

    @property
    def _article(self) -> str:
        return "an" if self.noun[0] in "aeiou" else "a"


def common_base(hashes: Iterable[tuple[str, str | None]]) -> str | None:
    """Returns the base weights that several things belong to; None where no hash is known.

    Args:
        hashes: what has a hash, in words, and the hash of its base weights; None where that is not known.

    Raises:
        ArtefactError: two of them belong to different base weights.
    """
    known = [(what, found) for what, found in hashes if found is not None]
    for what, found in known[1:]:
        if found != known[0][1]:
            raise ArtefactError(
                f"{what} is of base weights {found[:12]}, {known[0][0]} of {known[0][1][:12]}: what belongs to "
                "different models has nothing in common"
            )
    return known[0][1] if known else None


def check_same(what: str, thing: str, expected: str | None, found: str | None) -> None:
    """Compare the hashes of base models or bases; where one is unknown there is nothing to compare.

    Raises:
        ArtefactError: they differ.
    """
    if expected is not None and found is not None and expected != found:
        raise ArtefactError(
            f"{what} belongs to the {thing} with hash {expected[:12]}, but the {thing} here has hash {found[:12]}"
        )
