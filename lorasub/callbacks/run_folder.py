"""Finds the folder of a run."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path | None:
    """The run's folder, the same on every rank; None in a quick check (``fast_dev_run``), which leaves nothing behind.

    ``trainer.log_dir`` is a collective: call this on every rank, before any ``if trainer.is_global_zero``.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    return Path(trainer.log_dir or trainer.default_root_dir)
