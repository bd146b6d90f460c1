"""One progress bar for the whole fit, counted in steps, that begins where a resumed run goes on."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar


class StepProgress(TQDMProgressBar):
    """Lightning's bars, but for the fit: one bar over all steps in place of one for each epoch."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the step that the fit begins with, so that the remaining time is right after resuming, too."""
        bar = self.init_train_tqdm()
        total = trainer.estimated_stepping_batches
        bar.total = None if math.isinf(total) else total
        bar.initial = bar.n = bar.last_print_n = trainer.global_step
        bar.set_description("fit")
        self.train_progress_bar = bar

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Epochs have no bar of their own."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move to the optimiser's step."""
        bar = self.train_progress_bar
        if self._should_update(trainer.global_step, bar.total):
            bar.n = trainer.global_step
            bar.set_postfix(self.get_metrics(trainer, pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Epochs have no bar of their own."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """As Lightning, without the run's number."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}
