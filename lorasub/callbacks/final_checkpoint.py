"""The last checkpoint is that of the last step."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


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
