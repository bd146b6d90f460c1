"""The last checkpoint is that of the last step."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class FinalCheckpoint(Callback):
    """Brings ``last.ckpt`` up to date when training ends.

    ``ModelCheckpoint`` saves every so many steps, so that after a fit its last file can be some steps old; testing it
    would then score another adapter than the one that was validated and exported.
    """

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save on all ranks together, into the folder of the first checkpoint callback that keeps a last one."""
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.save_last and callback.dirpath:
                name = f"{callback.CHECKPOINT_NAME_LAST}{callback.FILE_EXTENSION}"
                trainer.save_checkpoint(Path(callback.dirpath) / name, weights_only=False)
                return
