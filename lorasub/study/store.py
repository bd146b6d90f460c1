"""The folder in which steps are kept: one folder each, named by what the step is, finished when its record is there.

A result that is there is never stale, and two studies that need the same step share it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import shutil
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import read_json, write_json
from lorasub.study.artefacts import FAILURE_FILE, LOG_FILE, RECORD_FILE, STEP_FILE, step_folder
from lorasub.study.graph import Step

#: What kinds of steps were called before 2026-11-28 -> their names, to report studies from then.
_FORMER_KINDS = {"try": "lr_trial", "choose": "select_lr", "tune": "finetune"}


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
        any_version: also find results of the same name that other settings or other versions of the code have left: to
            report a study that was begun before.
    """

    def __init__(self, root: str | os.PathLike[str], *, any_version: bool = False) -> None:
        self.root = Path(root)
        self.any_version = any_version

    def folder(self, step: Step) -> Path:
        """Returns the folder of a step's files."""
        own = step_folder(self.root, step.kind, step.key)
        if self.any_version and not (own / RECORD_FILE).is_file():
            spec = dataclasses.asdict(step.spec) if step.kind == "test" else {}
            return self._newest.get(_for_people(step.kind, step.name, spec), own)
        return own

    def done(self, step: Step) -> bool:
        """Returns whether its record is there."""
        return self.record(step) is not None

    def record(self, step: Step) -> Record | None:
        """Returns the record of a finished step; None if it is not finished.

        Raises:
            ArtefactError: a record that is damaged, or of another step.
        """
        path = self.folder(step) / RECORD_FILE
        if not path.is_file():
            return None
        found = read_record(path)
        if found.key != step.key and not self.any_version:
            raise ArtefactError(f"{path} is the record of another step ({found.name}); move that folder away")
        return found

    def failure(self, step: Step) -> str:
        """Returns why the last attempt at a step failed, and where its log is; empty if it did not say."""
        folder = step_folder(self.root, step.kind, step.key)
        path = folder / FAILURE_FILE
        told = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        return told and f"{told} (log: {folder / LOG_FILE})"

    def prepare(self, step: Step) -> Path:
        """Makes an empty folder that says what is to be done in it; what an interrupted attempt left there goes."""
        folder = step_folder(self.root, step.kind, step.key)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        content = {name: getattr(step, name) for name in ("key", "kind", "name", "work", "code")}
        write_json(folder / STEP_FILE, {**content, "spec": dataclasses.asdict(step.spec)})
        return folder

    def timings(self) -> dict[str, float]:
        """Returns kind -> median seconds for a unit of work, over all finished steps."""
        found: dict[str, list[float]] = {}
        for kind, _, record in self._records():
            found.setdefault(kind, []).append(record.seconds / record.work)
        return {kind: statistics.median(seconds) for kind, seconds in found.items()}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second runner out, until this one ends or is killed.

        Raises:
            ConfigError: there is another one.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.root / ".lock", timeout=0):
                yield
        except Timeout as error:
            raise ConfigError(f"another study is running in {self.root}; wait for it, or use another folder") from error

    @cached_property
    def _newest(self) -> dict[tuple[str, str, bool], Path]:
        """What a step is for people -> folder of the one that was finished last, under former names too."""
        newest = {}
        for former, folder, record in sorted(self._records(), key=lambda found: found[2].finished):
            kind = _FORMER_KINDS.get(former, former)
            spec = read_json(folder / STEP_FILE).get("spec") or {} if kind == "test" else {}
            newest[_for_people(kind, record.name.replace(former, kind, 1), spec)] = folder
        return newest

    def _records(self) -> Iterator[tuple[str, Path, Record]]:
        """Kind, folder and record of every finished step."""
        for path in self.root.glob(f"steps/*/*/{RECORD_FILE}"):
            yield path.parts[-3], path.parent, read_record(path)


def _for_people(kind: str, name: str, spec: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Kind, name, and whether it tests a checkpoint: a method may be called like a row that does not look."""
    return kind, name, bool(spec.get("checkpoint"))


def read_record(path: Path) -> Record:
    """Reads ``record.json``.

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
    """Returns what steps are done on, in words."""
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.platform()}, {os.cpu_count()} cores{gpu}, torch {torch.__version__}"
