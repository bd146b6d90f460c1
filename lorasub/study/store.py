"""The folder in which steps are kept: one folder each, named by what the step is, finished when its record is there.

A result that is there is never stale, and two studies that need the same step share it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from filelock import FileLock, Timeout

from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import read_json, write_json
from lorasub.study.artefacts import FAILURE_FILE, LOG_FILE, RECORD_FILE, STEP_FILE, step_folder
from lorasub.study.graph import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Record of a finished step: what it took, where and by which version, and what it says about itself."""

    key: str
    name: str
    seconds: float
    work: float
    finished: float
    measured: Mapping[str, Any] = field(default_factory=dict)
    machine: str = ""
    version: str = ""


class Store:
    """The folder of a study's steps.

    Args:
        root: made when the first step begins.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def folder(self, step: Step) -> Path:
        """Returns the folder of a step's files."""
        return step_folder(self.root, step.kind, step.key)

    def done(self, step: Step) -> bool:
        """Returns whether its record is there."""
        return (self.folder(step) / RECORD_FILE).is_file()

    def record(self, step: Step) -> Record | None:
        """Returns the record of a finished step; None if it is not finished.

        Raises:
            ArtefactError: a record that is damaged, or of another step.
        """
        return read_record(self.folder(step)) if self.done(step) else None

    def finished(self) -> Iterator[Path]:
        """Yields the folders of all finished steps, of other studies and versions, too."""
        return (path.parent for path in self.root.glob(f"steps/*/*/{RECORD_FILE}"))

    def failure(self, step: Step) -> str:
        """Returns why the last attempt at a step failed, as far as it said, and where its log is."""
        path = self.folder(step) / FAILURE_FILE
        told = path.read_text(encoding="utf-8") if path.is_file() else "it ended without a record"
        return f"{told} (log: {path.with_name(LOG_FILE)})"

    def prepare(self, step: Step) -> Path:
        """Makes an empty folder that says what is to be done in it; what an interrupted attempt left there goes."""
        folder = self.folder(step)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(folder / STEP_FILE, {"key": step.key, **dataclasses.asdict(step)})
        return folder

    def timings(self) -> dict[str, float]:
        """Returns kind -> median seconds for a unit of work, over all finished steps."""
        records = [(folder.parent.name, read_record(folder)) for folder in self.finished()]
        kinds = {kind for kind, _ in records}
        return {kind: median(each.seconds / each.work for of, each in records if of == kind) for kind in kinds}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second runner out, until this one ends or is killed.

        Raises:
            ConfigError: there is another one.
        """
        try:
            with FileLock(self.root / ".lock", timeout=0):
                yield
        except Timeout as error:
            raise ConfigError(f"another study is running in {self.root}; wait for it, or use another folder") from error


def read_record(folder: Path) -> Record:
    """Reads the record of the step in a folder.

    Raises:
        ArtefactError: it is damaged, or of another step.
    """
    path = folder / RECORD_FILE
    try:
        found = Record(**read_json(path))
    except TypeError as error:
        raise ArtefactError(f"{path} is no record of a step ({error}); remove its folder to do it again") from error
    if not found.key.startswith(folder.name):
        raise ArtefactError(f"{path} is the record of another step ({found.name}); move that folder away")
    return found


def machine() -> str:
    """Returns what steps are done on, in words."""
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.platform()}, {os.cpu_count()} cores{gpu}, torch {torch.__version__}"
