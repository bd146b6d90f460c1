"""Measures the costs of a fit: trained parameters, seconds a step, memory."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lorasub.adapters import attached_adapters, count_parameters
from lorasub.callbacks.run_folder import run_folder
from lorasub.files import write_json


class FitCosts(Callback):
    """Writes ``costs.json`` into the run's folder: parameters by group and kind, median time of a step, peak memory.

    A step's time goes from one batch's start to its end, the optimiser's step included and loading left out. On GPUs
    it waits for the device after every step, which costs a little itself.

    Args:
        skip: so many first steps do not count: they compile, allocate and fill caches.
    """

    def __init__(self, skip: int = 3) -> None:
        self.skip = skip
        self._seconds: list[float] = []
        self._started = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._seconds = []
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock."""
        _wait_for(pl_module.device)
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop it."""
        _wait_for(pl_module.device)
        self._seconds.append(time.perf_counter() - self._started)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write on the first rank."""
        folder = run_folder(trainer)
        if folder is None or not trainer.is_global_zero:
            return
        adapters = attached_adapters(pl_module)
        table = count_parameters(pl_module) if adapters is None else adapters.table()
        counted = self._seconds[self.skip :] or self._seconds
        costs = {
            "parameters": table.to_dict(),
            "trainable": table.trainable,
            "steps": len(self._seconds),
            "step_seconds": statistics.median(counted) if counted else None,
            "peak_memory_bytes": _peak_memory(pl_module.device),
            "peak_memory_of": "GPU" if pl_module.device.type == "cuda" else "process",
        }
        write_json(folder / "costs.json", costs)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(device: torch.device) -> int | None:
    """Returns the most bytes that were taken; None on systems that do not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    # kilobytes, but bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
