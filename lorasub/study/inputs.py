"""Hashes what a step's settings name on disk: files, folders of captures, and code of the user's own."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lorasub.files import hash_file

#: Folders with more bytes than this count by names, sizes and times of change: reading them would take minutes.
READ_WHOLE = 2**30
#: Hashes what is at a path: :func:`content_hash`, or a cache of it, which reads once what many steps name.
Content = Callable[[Path], str | None]


def content_hash(path: Path) -> str | None:
    """Returns the SHA-256 of a file, or of all that is in a folder; None where there is neither."""
    if path.is_file():
        return hash_file(path)
    if not path.is_dir():
        return None
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    states = [file.stat() for file in files]
    whole = sum(state.st_size for state in states) <= READ_WHOLE
    digest = hashlib.sha256()
    for file, state in zip(files, states, strict=True):
        content = hash_file(file) if whole else f"{state.st_size} {state.st_mtime_ns}"
        digest.update(f"{file.relative_to(path).as_posix()}\n{content}\n".encode())
    return digest.hexdigest()


def named_inputs(config: Any, content: Content = content_hash) -> dict[str, str]:
    """Returns what a result depends on beside its settings: what is named in them -> SHA-256.

    - every file, by its content: weights, lists of frames;
    - every folder that a setting ``root`` names, below ``base_folder`` where that stands beside it or above: captures;
    - the module behind every ``class_path``, unless it belongs to lorasub or to an installed package.

    Other folders are not looked into: outputs, places to keep things.

    Args:
        config: settings in plain values.
        content: hashes what is at a path.
    """
    named: dict[str, Path | None] = {}
    for key, text, base_folder in _texts(config):
        if key == "class_path":
            named[text] = _own_module(text)
        elif key == "root":
            named[str(Path(base_folder) / text)] = Path(base_folder).expanduser() / Path(text).expanduser()
        elif os.path.isfile(text):  # noqa: PTH113 - pathlib's raises where a text is no path
            named[text] = Path(text)
    return {name: found for name, path in named.items() if path and (found := content(path)) is not None}


def class_paths(config: Any) -> list[str]:
    """Returns the dotted names of all classes that settings name, in order."""
    return sorted({text for key, text, _ in _texts(config) if key == "class_path"})


def _texts(config: Any, base_folder: str = "", key: str = "") -> Iterator[tuple[str, str, str]]:
    """Every text in settings: its setting's name, the text, and the ``base_folder`` that stands beside it or above."""
    if isinstance(config, Mapping):
        base_folder = str(config.get("base_folder") or base_folder)
        for name, value in config.items():
            yield from _texts(value, base_folder, str(name))
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _texts(value, base_folder, key)
    elif isinstance(config, str) and config:
        yield key, config, base_folder


def _own_module(class_path: str) -> Path | None:
    """The file of the module that a class comes from, if it is the user's."""
    module, _, _ = class_path.rpartition(".")
    top = module.partition(".")[0]
    if not top or top == "lorasub":
        return None
    try:
        # the top package first, which imports nothing: those that are installed are known by their versions
        found = importlib.util.find_spec(top)
        if found is None or any(map(_installed, (found.origin, *(found.submodule_search_locations or ())))):
            return None
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # the step itself will say what is wrong with it
        return None
    return Path(found.origin) if found and found.origin and Path(found.origin).is_file() else None


def _installed(origin: str | None) -> bool:
    folders = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    return origin is None or origin == "built-in" or any(Path(origin).is_relative_to(folder) for folder in folders)
