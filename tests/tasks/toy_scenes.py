"""A data module without a renderer: random scenes that cost nothing, loaded like real ones."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from scene_examples import random_scenes
from torch.utils.data import DataLoader

from lorasub.data.loading import evaluation_loader, training_loader
from lorasub.structures import SceneBatch


class ToyScenes(LightningDataModule):
    """Six training scenes in three batches, two to validate on."""

    def __init__(self, batch_size: int = 2) -> None:
        super().__init__()
        self.batch_size = batch_size
        scenes = [random_scenes(1, 2, (28, 28), seed=seed, dtype=torch.float32) for seed in range(8)]
        named = [scene.replace(scene_ids=(f"toy/{index}",)) for index, scene in enumerate(scenes)]
        self.train, self.held_out = named[:6], named[6:]

    def train_dataloader(self) -> DataLoader[Any]:
        return training_loader(
            self.train,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            seed=0,
            trainer=self.trainer,
            collate_fn=SceneBatch.concatenate,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return evaluation_loader(self.held_out, batch_size=2, trainer=self.trainer, collate_fn=SceneBatch.concatenate)  # type: ignore[arg-type]
