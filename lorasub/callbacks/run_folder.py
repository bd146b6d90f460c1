"""Where a run keeps its files."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path:
    """The run's folder, the same on every rank.

    ``trainer.log_dir`` is a collective: call this on every rank, before any ``if trainer.is_global_zero``.
    """
    return Path(trainer.log_dir or trainer.default_root_dir)
