"""Chooses the folder of a run, ``<folder>/<name>/<version>/``; one that holds something already is never taken."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities import rank_zero_only

from lorasub.errors import ConfigError
from lorasub.training.checkpoints import CHECKPOINTS, run_of


@dataclass
class RunSettings:
    """The run's folder, ``<folder>/<name>/<version>``.

    Args:
        folder: holds all runs.
        name: of this kind of run; the configs set it.
        version: of this run; the next free number by default.
        overwrite: whether a folder that is there already may be emptied first.
    """

    folder: str = "runs"
    name: str = "run"
    version: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        for part in (self.name, self.version or "0"):
            if not part or Path(part).name != part or part in (".", ".."):
                raise ConfigError(f"run.name and run.version are names of folders, not paths; '{part}' cannot be used")

    @property
    def versions(self) -> Path:
        """The folder of all runs of this name."""
        return Path(self.folder) / self.name


@dataclass
class RunFolder:
    """The folder of one run, made on the first process only.

    Attributes:
        path: of it.
        resumed: whether it is that of the run whose checkpoint is resumed.
        replaces: whether what is there is removed before the run starts.
        made: whether this process has made it.
    """

    path: Path
    resumed: bool = False
    replaces: bool = False
    made: bool = False

    @classmethod
    def choose(cls, verb: Verb, settings: RunSettings, checkpoint: Path | None, *, named: bool = False) -> RunFolder:
        """Choose the folder; nothing is made or removed.

        A fit that resumes goes on in the folder of its checkpoint's run. A test of a checkpoint lies beside that run:
        ``runs/geometry/0_test`` beside ``runs/geometry/0``. Both hold unless the folder was given.

        Args:
            verb: what runs.
            settings: of the folder.
            checkpoint: that is resumed or scored.
            named: whether the command line says where the run goes.

        Raises:
            ConfigError: the folder was given, and holds something already.
        """
        own = None if checkpoint is None else run_of(checkpoint)
        if settings.version is not None:
            path = settings.versions / settings.version
            if verb == "fit" and own is not None and own.resolve() == path.resolve():
                return cls(path, resumed=True)
            replaces = _first_process() and path.is_dir() and any(path.iterdir())
            if replaces and not settings.overwrite:
                raise ConfigError(
                    f"{path} holds a run already: choose another --run.version, resume it with --ckpt_path {path}, or "
                    "give --run.overwrite true to begin anew in its place"
                )
            return cls(path, replaces=replaces)
        if own is not None and not named and verb == "fit":
            return cls(own, resumed=True)
        if own is not None and not named:
            return cls(_next(own.parent, f"{own.name}_{verb}"))
        if verb == "fit" or named:
            return cls(settings.versions / str(_next_number(settings.versions)))
        return cls(_next(settings.versions, verb))

    def reserve(self) -> None:
        """Make the folder if it is not there, so that no other run takes its name."""
        if _first_process() and not self.path.is_dir():
            self.path.mkdir(parents=True)
            self.made = True

    def begin(self) -> None:
        """Make the folder for a run that starts now; what it replaces is removed."""
        if self.replaces and not self.made:
            shutil.rmtree(self.path)
        self.reserve()

    def discard(self) -> None:
        """Remove the folder if this process has made it and a failed run left nothing in it that is worth keeping."""
        if not self.made or not self.path.is_dir():
            return
        if any(self.path.glob(f"{CHECKPOINTS}/*.ckpt")) or any(self.path.glob("predictions/*")):
            return
        if any(self.path.glob("results.*")):
            return
        shutil.rmtree(self.path)
        parent = self.path.parent
        while parent.is_dir() and not any(parent.iterdir()) and parent.resolve() != Path.cwd():
            parent.rmdir()
            parent = parent.parent


def _first_process() -> bool:
    return int(rank_zero_only.rank) == 0  # type: ignore[attr-defined]


def _next(parent: Path, name: str) -> Path:
    """``name``, ``name_1``, ``name_2``, ...: the first that is not there."""
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
    return next(parent / found for found in names if not (parent / found).exists())


def _next_number(parent: Path) -> int:
    taken = [int(path.name) for path in parent.glob("*") if path.name.isdecimal()] if parent.is_dir() else []
    return max(taken, default=-1) + 1


Verb = Literal["fit", "validate", "test", "predict"]
