"""One batch for several adapters: the batches of several data modules, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from lorasub.errors import ConfigError
from lorasub.structures import SceneBatch


class SceneBank(pl.LightningDataModule):
    """The data of a bank of adapters (:class:`lorasub.LoRABank`): adapter i trains on the i-th of these data modules.

    A training batch is one batch of every member, the first member's scenes first. Each member loads as it does alone:
    the same scenes in the same order, on any number of processes and after any restart. Validation, test and prediction
    have one loader for each member, in which the model carries that member's adapter only.

    Args:
        members: the data modules, one for each adapter. They must agree in batch size, number of views, image size, and
            steps in an epoch, and have one loader each where they are evaluated.

    Raises:
        ConfigError: there are none.
    """

    def __init__(self, members: list[pl.LightningDataModule]) -> None:
        super().__init__()
        if not members:
            raise ConfigError("SceneBank needs at least one data module in members")
        self.members = list(members)

    @property
    def scene_groups(self) -> int:
        """How many equal groups of scenes a training batch has, which is how many adapters it trains."""
        return len(self.members)

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """Names of the loaders of an evaluation; the task calls the first as it calls a single one."""
        return tuple(f"adapter_{index}" for index in range(len(self.members)))

    @property
    def augmentation(self) -> tuple[Any, ...] | None:
        """What changes the images of training scenes in some member; None where nothing does."""
        found = [getattr(m, "augmentation", None) or getattr(m, "color_jitter", None) for m in self.members]
        return tuple(found) if any(found) else None

    def prepare_data(self) -> None:
        """Let each member prepare its data."""
        for member in self.members:
            member.prepare_data()

    def setup(self, stage: str) -> None:
        """Set each member up, with this trainer."""
        for member in self.members:
            member.trainer = self.trainer
            member.setup(stage)

    def teardown(self, stage: str) -> None:
        """Let each member clean up."""
        for member in self.members:
            member.teardown(stage)

    def train_dataloader(self) -> list[DataLoader[Any]]:
        """One loader for each member; Lightning takes a batch of every one in each step.

        Raises:
            ConfigError: their epochs differ in length, so that they would not stay in step.
        """
        loaders = [member.train_dataloader() for member in self.members]
        steps = [len(loader) for loader in loaders]
        if len(set(steps)) > 1:
            raise ConfigError(f"the members of a SceneBank need equally many steps in an epoch, not {steps}")
        return loaders

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """The validation scenes of each member."""
        return _one_each([member.val_dataloader() for member in self.members])

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """The test scenes of each member."""
        return _one_each([member.test_dataloader() for member in self.members])

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        """The scenes of each member that are to be predicted."""
        return _one_each([member.predict_dataloader() for member in self.members])

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Move a training step's batches, or one batch of an evaluation, as its members do."""
        if not isinstance(batch, list):
            return self.members[dataloader_idx].transfer_batch_to_device(batch, device, 0)
        pairs = zip(self.members, batch, strict=True)
        return [member.transfer_batch_to_device(part, device, 0) for member, part in pairs]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """As its members do."""
        if not isinstance(batch, list):
            return self.members[dataloader_idx].on_before_batch_transfer(batch, 0)
        pairs = zip(self.members, batch, strict=True)
        return [member.on_before_batch_transfer(part, 0) for member, part in pairs]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> SceneBatch:
        """Let each member make its scenes, and join them.

        Raises:
            ConfigError: the members' batches differ in their number of scenes.
            DataError: they differ in views or image size.
        """
        if not isinstance(batch, list):
            return self.members[dataloader_idx].on_after_batch_transfer(batch, 0)  # type: ignore[no-any-return]
        pairs = zip(self.members, batch, strict=True)
        scenes = [member.on_after_batch_transfer(part, 0) for member, part in pairs]
        if len({len(part) for part in scenes}) > 1:
            raise ConfigError(
                f"the members of a SceneBank need batches of one size, not {[len(part) for part in scenes]} scenes"
            )
        return SceneBatch.concatenate(scenes)


def _one_each(loaders: Sequence[Any]) -> list[DataLoader[Any]]:
    single = [loader[0] if isinstance(loader, list | tuple) and len(loader) == 1 else loader for loader in loaders]
    for index, loader in enumerate(single):
        if not isinstance(loader, DataLoader):
            raise ConfigError(
                f"member {index} of a SceneBank has {len(loader)} evaluation sets, but each member has one: evaluate "
                "the fitted adapters one by one"
            )
    return single
