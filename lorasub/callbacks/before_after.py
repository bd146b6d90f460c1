"""Did the fit make the model better? Validation before the first step, set against validation at the end."""

from __future__ import annotations

import logging
import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lorasub.callbacks.run_folder import run_folder
from lorasub.files import write_json

log = logging.getLogger(__name__)


class BeforeAfter(Callback):
    """Reports every validation metric before the first step and at the end of the fit.

    Before the first step an adapted model equals its base, so the first column is the base model itself; an "after"
    that is worse than it is then hard to overlook. The first column comes from Lightning's sanity check, which has to
    run over the whole validation set: ``Trainer(num_sanity_val_steps=-1)``, as the command line sets it.

    Writes ``before_after.json`` into the run's folder, logs the first column at step 0, and prints a table.
    """

    def __init__(self) -> None:
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}
        self.after_step = 0

    def state_dict(self) -> dict[str, Any]:
        """The first column, so that a resumed fit still has it."""
        return {"before": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the first column over from the fit that is resumed."""
        self.before = state_dict["before"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember what this validation found."""
        found = {
            name: float(value) for name, value in trainer.callback_metrics.items() if not name.startswith("train/")
        }
        found.pop("loss", None)
        if trainer.sanity_checking:
            complete = all(
                math.isinf(n) or n == limit
                for n, limit in zip(trainer.num_val_batches, trainer.num_sanity_val_batches, strict=False)
            )
            if not complete:
                log.warning("num_sanity_val_steps is not -1: no comparison of before and after can be made")
                return
            self.before = found
            for logger in trainer.loggers:
                logger.log_metrics(found, step=0)
        else:
            self.after, self.after_step = found, trainer.global_step

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write and print the comparison."""
        folder = run_folder(trainer)
        if not trainer.is_global_zero or not self.before or not self.after:
            return
        names = [name for name in self.before if name in self.after]
        if folder is not None:
            write_json(
                folder / "before_after.json",
                {
                    "step": self.after_step,
                    "steps": trainer.global_step,
                    "metrics": {name: {"before": self.before[name], "after": self.after[name]} for name in names},
                },
            )
        log.info("\n%s", self.table(names))

    def table(self, names: list[str]) -> str:
        """The comparison as text, one metric a line."""
        width = max((len(name) for name in names), default=6)
        lines = [f"{'metric':<{width}}  {'before':>10}  {'after':>10}   (after {self.after_step} steps)"]
        lines += [f"{name:<{width}}  {self.before[name]:>10.4g}  {self.after[name]:>10.4g}" for name in names]
        return "\n".join(lines)
