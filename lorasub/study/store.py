"""Where steps are kept: one folder each, named by what the step is, and finished when its record is there.

    steps/<kind>/<key>/step.json     what is to be done: settings, keys and folders of the inputs
                       log.txt       what it printed
                       ...           what it made
                       record.json   written last, in one piece: it is done; time, machine, measurements

The folder's name is the beginning of the hash of everything that the result depends on. So a result that is there is
never stale, and two studies that need the same step share it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasub._version import __version__
from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import read_json, write_json
from lorasub.study.steps import KINDS, Graph, Step

STEP_FILE, RECORD_FILE, LOG_FILE, FAILURE_FILE = "step.json", "record.json", "log.txt", "failure.txt"
#: What steps leave for others: a run as of ``lorasub fit``, a basis, the choice of a learning rate.
CONFIG_FILE, RUN, BASIS, CHOICE_FILE, COSTS_FILE = "config.yaml", "run", "basis", "choice.json", "costs.json"

#: Seconds for a unit of work where nothing of a kind has been done yet: a nano backbone on two cores.
GUESSES: dict[str, float] = {
    **{"fit": 0.5, "try": 0.5, "tune": 0.5},
    **{"mine": 10.0, "split": 60.0, "combine": 5.0, "overlap": 60.0, "explain": 30.0, "remove": 5.0},
    **{"choose": 1.0, "test": 20.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """That a step is done.

    Attributes:
        key: of the step.
        name: for people.
        seconds: that it took.
        work: units of work that were done in them.
        measured: what the step says about itself.
        machine: where.
        version: of lorasub.
        finished: when, seconds since 1970.
    """

    key: str
    name: str
    seconds: float
    work: float
    finished: float
    measured: Mapping[str, Any] = field(default_factory=dict)
    machine: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStep:
    """A step that is being done, as its folder describes it.

    Attributes:
        folder: its own.
        config: settings.
        inputs: role -> folder of a finished step.
    """

    folder: Path
    config: Mapping[str, Any]
    inputs: Mapping[str, Path]


class Store:
    """The folder of a study's steps.

    Args:
        root: made when the first step begins.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def folder(self, step: Step) -> Path:
        """Where a step's files are."""
        return self.root / "steps" / step.kind / step.key[:16]

    def done(self, step: Step) -> bool:
        """Whether its record is there."""
        return self.record(step) is not None

    def record(self, step: Step) -> Record | None:
        """The record of a finished step; None if it is not finished.

        Raises:
            ArtefactError: a record that is damaged, or of another step.
        """
        path = self.folder(step) / RECORD_FILE
        if not path.is_file():
            return None
        found = read_record(path)
        if found.key != step.key:
            raise ArtefactError(f"{path} is the record of another step ({found.name}); move that folder away")
        return found

    def prepare(self, graph: Graph, step: Step) -> Path:
        """An empty folder that says what is to be done in it; what an interrupted attempt left there is removed."""
        folder = self.folder(step)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        content = {
            "key": step.key,
            "kind": step.kind,
            "name": step.name,
            "work": step.work,
            "code": step.code,
            "config": step.config,
            "inputs": {
                role: {"key": key, "folder": os.path.relpath(self.folder(graph[key]), folder)}
                for role, key in step.inputs.items()
            },
        }
        write_json(folder / STEP_FILE, content)
        return folder

    def timings(self) -> dict[str, float]:
        """Kind -> median seconds for a unit of work, over all finished steps; kinds without any are left out."""
        found: dict[str, float] = {}
        for kind in KINDS:
            records = [read_record(path) for path in (self.root / "steps" / kind).glob(f"*/{RECORD_FILE}")]
            if records:
                found[kind] = statistics.median(record.seconds / record.work for record in records)
        return found

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second runner out, until this one ends or is killed.

        Raises:
            ConfigError: there is another one.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"another study is running in {self.root}; wait for it, or use another folder"
                ) from error
            yield


def read_record(path: Path) -> Record:
    """Read ``record.json``.

    Raises:
        ArtefactError: it is damaged.
    """
    try:
        return Record(**read_json(path))
    except TypeError as error:
        raise ArtefactError(
            f"{path} is no record of a step ({error}); remove its folder to do the step again"
        ) from error


def machine() -> str:
    """What a step was done on, in words."""
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.platform()}, {os.cpu_count()} cores{gpu}, torch {torch.__version__}"


def version() -> str:
    """Of this package."""
    return __version__
