"""The few scenes that methods learn from: the same ones for all of them, whatever data module they come from."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from lorasub.contracts import BatchShape, described
from lorasub.data.base import MemberHook, ScenesOfMembers
from lorasub.data.loading import EpochSampler, training_loader
from lorasub.errors import ConfigError


class TrainingScenes(ScenesOfMembers):
    """The first scenes of another data module, in an order of its own; all that is not training stays as it is.

    Learning curves need "the same 4 scenes" for every method and other 4 for every seed, on the same validation data.

    Args:
        data: where scenes come from.
        scenes: how many: the first ones of the order that ``seed`` gives. They are the same in every epoch and are
            kept in memory. None for all of them, as the data module makes them.
        seed: which scenes, and their order in each epoch.
    """

    def __init__(self, data: pl.LightningDataModule, scenes: int | None = None, seed: int = 0) -> None:
        super().__init__([data])
        if scenes is not None and scenes < 1:
            raise ConfigError(f"scenes must be at least 1, not {scenes}")
        self.data = data
        self.scenes = scenes
        self.seed = seed

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """Those of the data module."""
        return described(self.data).evaluation_names

    @property
    def batch_shape(self) -> BatchShape | None:
        """That of the data module, but for scenes that are fewer."""
        shape = described(self.data).batch_shape
        if shape is None or self.scenes is None:
            return shape
        return shape._replace(scenes=min(shape.scenes, self.scenes))

    @property
    def identity(self) -> str:
        """That of the data module, and which of its scenes."""
        own = super().identity
        return f"{own} {self.scenes} {self.seed}" if own else ""

    def train_dataloader(self) -> DataLoader[Any]:
        """The chosen scenes; a batch is never larger than their number.

        Raises:
            ConfigError: there are fewer scenes than wanted.
        """
        whole = self.data.train_dataloader()
        sampler = whole.sampler
        assert isinstance(sampler, EpochSampler), "a loader of lorasub.data.loading.training_loader"
        dataset, sampler_class, size = whole.dataset, type(sampler), whole.batch_size or 1
        if self.scenes is not None:
            keys = sampler_class(dataset, batch_size=1, seed=self.seed).order(0)
            if len(keys) < self.scenes:
                raise ConfigError(f"{self.scenes} training scenes were asked for, but there are {len(keys)}")
            # indices from here on: the scenes themselves no longer depend on the epoch
            dataset, sampler_class = [dataset[key] for key in keys[: self.scenes]], EpochSampler
            size = min(size, self.scenes)
        return training_loader(
            dataset,
            batch_size=size,
            seed=self.seed,
            trainer=self.trainer,
            num_workers=whole.num_workers if self.scenes is None else 0,
            collate_fn=whole.collate_fn,
            sampler_class=sampler_class,
        )

    def val_dataloader(self) -> Any:
        """Those of the data module."""
        return self.data.val_dataloader()

    def test_dataloader(self) -> Any:
        """Those of the data module."""
        return self.data.test_dataloader()

    def for_each_member(self, batch: Any, dataloader_idx: int, hook: MemberHook) -> Any:
        """All batches are those of the data module."""
        return hook(self.data, batch, dataloader_idx)
