"""Leaves the trained backbone in the run's folder, as weights that load by themselves."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lorasub.callbacks.run_folder import run_folder
from lorasub.contracts import SavableModel, backbone_of
from lorasub.errors import ConfigError

log = logging.getLogger(__name__)

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class BackboneExport(Callback):
    """Writes ``backbone/model.safetensors`` whenever validation begins and when the fit ends.

    What is written are the weights that are validated: with one of Lightning's weight averaging callbacks, the averaged
    ones. The file is replaced as a whole, so it can be taken, or loaded by ``VGGT.from_pretrained``, at any time.

    Args:
        dtype: of the tensors in the file; they are float32 again when loaded.
    """

    def __init__(self, dtype: Literal["float32", "float16", "bfloat16"] = "float16") -> None:
        if dtype not in _DTYPES:
            raise ConfigError(f"BackboneExport dtype '{dtype}' is unknown; choose from {', '.join(_DTYPES)}")
        self.dtype = dtype

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Export before the first batch: here averaged weights stand in the model, whatever the callbacks' order."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if batch_idx == 0 and dataloader_idx == 0 and fitting:
            self._export(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export what the fit ended with, and say where."""
        path = self._export(trainer, pl_module)
        if path is not None:
            log.info("backbone: %s", path)

    def _export(self, trainer: Trainer, pl_module: LightningModule) -> Path | None:
        folder = run_folder(trainer)
        backbone = backbone_of(pl_module)
        if not isinstance(backbone, SavableModel):
            raise ConfigError(
                f"BackboneExport needs a task whose backbone has save_pretrained; {type(pl_module).__name__} has none"
            )
        if folder is None or not trainer.is_global_zero:
            return None
        return backbone.save_pretrained(folder / "backbone", dtype=_DTYPES[self.dtype])
