"""Pictures while it trains: what the model sees, says, and should have said."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from lorasub.callbacks.run_folder import run_folder
from lorasub.errors import ConfigError
from lorasub.figures.panels import depth_panels
from lorasub.figures.style import save_figure
from lorasub.structures import Predictions, SceneBatch


class ScenePanels(Callback):
    """Draws input, predicted depth, true depth and error for the first validation scenes.

    The pictures go to TensorBoard, and as PNG into ``figures/`` of the run's folder.

    Args:
        scenes: how many scenes of the first validation batch are drawn; 0 for none.
        max_views: how many views of each.
    """

    def __init__(self, scenes: int = 1, max_views: int = 4) -> None:
        if scenes < 0 or max_views < 1:
            raise ConfigError(f"panels need scenes >= 0 and max_views >= 1, not {scenes} and {max_views}")
        self.scenes = scenes
        self.max_views = max_views
        self._outputs: dict[int, tuple[SceneBatch, Predictions]] = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first batch of each validation set."""
        if batch_idx == 0 and self.scenes and trainer.is_global_zero and isinstance(outputs, tuple):
            self._outputs[dataloader_idx] = outputs[0], outputs[1]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw and write what was kept."""
        folder = run_folder(trainer)
        outputs, self._outputs = self._outputs, {}
        step = trainer.global_step
        for loader, (batch, predictions) in outputs.items():
            if predictions.depth is None or folder is None:
                continue
            for scene in range(min(self.scenes, len(batch))):
                figure = depth_panels(batch, predictions, scene=scene, max_views=self.max_views)
                name = f"val{loader or ''}_{scene}"
                for logger in trainer.loggers:
                    if isinstance(logger, TensorBoardLogger):
                        logger.experiment.add_figure(f"panels/{name}", figure, global_step=step, close=False)
                save_figure(figure, folder / "figures" / f"{name}_step{step:06d}.png", dpi=100)
