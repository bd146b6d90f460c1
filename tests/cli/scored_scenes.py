"""Five random scenes to test on: a data module that costs nothing."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningDataModule
from scene_examples import random_scenes
from torch.utils.data import DataLoader

from lorasub.data.loading import evaluation_loader
from lorasub.structures import SceneBatch


class ScoredScenes(LightningDataModule):
    """Scenes that depend on a seed."""

    def __init__(self, seed: int = 0, batch_size: int = 2) -> None:
        super().__init__()
        self.batch_size = batch_size
        scenes = [random_scenes(1, 3, (28, 28), seed=10 * seed + index, dtype=torch.float32) for index in range(5)]
        self.scenes = [scene.replace(scene_ids=(f"{seed}/{index}",)) for index, scene in enumerate(scenes)]

    def test_dataloader(self) -> DataLoader[SceneBatch]:
        return evaluation_loader(
            self.scenes,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            collate_fn=SceneBatch.concatenate,
        )
