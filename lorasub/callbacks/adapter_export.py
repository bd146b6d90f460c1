"""Leaves the fitted adapter in the run's folder, in the format that PEFT reads."""

from __future__ import annotations

import logging

from lightning.pytorch import Callback, LightningModule, Trainer

from lorasub.adapters import attached_adapters
from lorasub.callbacks.run_folder import run_folder

log = logging.getLogger(__name__)


class AdapterExport(Callback):
    """Writes ``adapter/`` at the end of a fit: weights, configuration and a card. Any module with adapters will do.

    A bank's adapters go to ``adapter/adapter_0``, ``adapter/adapter_1``, ...
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says how many parameters are trained, group by group."""
        adapters = attached_adapters(pl_module)
        if trainer.is_global_zero and adapters is not None:
            log.info("\n%s", adapters.table())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves on the first rank."""
        folder = run_folder(trainer)
        adapters = attached_adapters(pl_module)
        if folder is not None and trainer.is_global_zero and adapters is not None:
            log.info("adapter: %s", adapters.save(folder / "adapter"))
