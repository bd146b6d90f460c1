"""Leaves what was trained in the run's folder: adapter, backbone, and a last checkpoint of the last step."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from lorasub.adapters import attached_adapters
from lorasub.callbacks.run_folder import run_folder
from lorasub.contracts import SavableModel, backbone_of
from lorasub.errors import ConfigError

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


class FinalCheckpoint(Callback):
    """Brings ``last.ckpt`` up to date when training ends.

    ``ModelCheckpoint`` saves every so many steps, so that after a fit its last file can be some steps old; testing it
    would then score another adapter than the one that was validated and exported.

    Put it before callbacks that change the model when training ends, as weight averaging does: a fit that is continued
    needs the weights that were trained.
    """

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save on all ranks together, into the folder of the first checkpoint callback that keeps a last one."""
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.save_last and callback.dirpath:
                name = f"{callback.CHECKPOINT_NAME_LAST}{callback.FILE_EXTENSION}"
                path = Path(callback.dirpath) / name
                trainer.save_checkpoint(path, weights_only=False)
                # a callback that has not saved yet would now do so under another name, later than this
                callback.last_model_path = callback._last_checkpoint_saved = str(path)
                return
