"""Ctrl-C ends a fit after the step that is being done, with a checkpoint of that step."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from lorasub.errors import RunInterruptedError

log = logging.getLogger("lorasub")


class StopOnInterrupt(Checkpoint):
    """Saves the last checkpoint and ends the fit when a user interrupts it.

    The first Ctrl-C waits for the end of the step, where the state is whole: an interrupted optimiser step could not be
    resumed exactly. The second stops at once. It is a checkpoint callback, so that Lightning calls it after all others.

    Args:
        path: of the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._asked = False
        self._before: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen from the first step on."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and end, all processes at the same step.

        Raises:
            RunInterruptedError: a user has asked for it.
        """
        alone = trainer.world_size == 1
        if not alone and trainer.global_step % 10:  # asking the others costs a message
            return
        asked = self._asked if alone else trainer.strategy.reduce_boolean_decision(self._asked, all=False)
        if asked:
            trainer.save_checkpoint(self.path, weights_only=False)
            raise RunInterruptedError(f"interrupted after step {trainer.global_step}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen no more."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Listen no more."""
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._restore()
        log.info("stopping after this step; once more to stop at once, and lose the steps since the last checkpoint")

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
