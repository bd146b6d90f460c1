"""Where a run's files go: ``runs/<name>/<version>/``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger

from lorasub.errors import ConfigError


@dataclass
class RunSettings:
    """The run's folder, ``<folder>/<name>/<version>``.

    Args:
        folder: holds all runs.
        name: of this kind of run; the configs set it.
        version: of this run; the next free number by default.
    """

    folder: str = "runs"
    name: str = "run"
    version: str | None = None

    def __post_init__(self) -> None:
        for part in (self.name, self.version or "0"):
            if not part or Path(part).name != part or part in (".", ".."):
                raise ConfigError(f"run.name and run.version are names of folders, not paths; '{part}' cannot be used")

    def logger(self) -> TensorBoardLogger:
        """A TensorBoard logger in the run's folder."""
        version = self.version or str(self._next_version())
        return TensorBoardLogger(save_dir=self.folder, name=self.name, version=version, default_hp_metric=False)

    def _next_version(self) -> int:
        parent = Path(self.folder) / self.name
        taken = [int(path.name) for path in parent.glob("*") if path.name.isdecimal()] if parent.is_dir() else []
        return max(taken, default=-1) + 1
