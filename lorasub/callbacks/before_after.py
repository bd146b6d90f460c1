"""Compares validation before the first step with validation at the end of a fit."""

from __future__ import annotations

import logging
import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lorasub.callbacks.run_folder import run_folder
from lorasub.console import text_table
from lorasub.files import write_json

log = logging.getLogger(__name__)

BEFORE_AFTER_FILE = "before_after.json"


class BeforeAfter(Callback):
    """Reports every validation metric before the first step and at the end of the fit.

    Before the first step an adapted model equals its base, so the first column is the base model itself; an "after"
    that is worse than it is then hard to overlook. The first column comes from Lightning's sanity check, which this
    callback lets run over the whole validation set (``num_sanity_val_steps=0`` switches both off). Where the last
    validation was not at the last step, or there was none, one more is made.

    Writes ``before_after.json`` into the run's folder, logs the first column at step 0, and prints a table.
    """

    def __init__(self) -> None:
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}
        self.after_step = -1
        self._resumed = False

    def state_dict(self) -> dict[str, Any]:
        """Returns the first column, so that a resumed fit still has it."""
        return {"before": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the first column over from the fit that is resumed."""
        self.before, self._resumed = state_dict["before"], True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets the sanity check see the whole validation set."""
        if stage == "fit" and trainer.num_sanity_val_steps > 0:
            trainer.num_sanity_val_steps = math.inf
        self.after, self.after_step = {}, -1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers what this validation found; a fit that goes on at an epoch's end has a sanity check, too."""
        if trainer.sanity_checking and self._resumed:
            return
        found = {
            name: float(value) for name, value in trainer.callback_metrics.items() if not name.startswith("train/")
        }
        found.pop("loss", None)
        if trainer.sanity_checking:
            self.before = found
            for logger in trainer.loggers:
                logger.log_metrics(found, step=0)
        else:
            self.after, self.after_step = found, trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validates once more where the last step has not been validated."""
        loop = trainer.fit_loop.epoch_loop.val_loop
        if not self.before or self.after_step == trainer.global_step or not trainer.enable_validation or loop.skip:
            return
        # as Lightning does between two training steps
        trainer.validating = True
        loop.run()
        trainer.training = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes and prints the comparison."""
        self._resumed = False
        folder = run_folder(trainer)
        if not trainer.is_global_zero or not self.before or not self.after:
            return
        names = [name for name in self.before if name in self.after]
        if folder is not None:
            write_json(
                folder / BEFORE_AFTER_FILE,
                {
                    "step": self.after_step,
                    "steps": trainer.global_step,
                    "metrics": {name: {"before": self.before[name], "after": self.after[name]} for name in names},
                },
            )
        log.info("\n%s", self.table(names))

    def table(self, names: list[str]) -> str:
        """Returns the comparison as text, one metric a line."""
        measured = [name for name in names if not (math.isnan(self.before[name]) and math.isnan(self.after[name]))]
        rows = [{"metric": name, "before": self.before[name], "after": self.after[name]} for name in measured]
        text = f"before the first step, and after {self.after_step} steps\n{text_table(rows)}"
        rest = [name for name in names if name not in measured]
        return f"{text}\nnothing to measure: {', '.join(rest)}" if rest else text
