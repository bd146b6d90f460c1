"""One batch for several adapters: the batches of several data modules, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from lorasub.contracts import BatchShape, described
from lorasub.data.base import MemberHook, ScenesOfMembers
from lorasub.errors import ConfigError
from lorasub.structures import SceneBatch


class SceneBank(ScenesOfMembers):
    """The data of a bank of adapters (:class:`lorasub.LoRABank`): adapter i trains on the i-th of these data modules.

    A training batch is one batch of every member, the first member's scenes first. Each member loads as it does alone:
    the same scenes in the same order, on any number of processes and after any restart. Validation, test and prediction
    have one loader for each member, in which the model carries that member's adapter only.

    Args:
        members: the data modules, one for each adapter. They must agree in batch size, number of views, image size, and
            steps in an epoch, and have one loader each where they are evaluated.

    Raises:
        ConfigError: there are none.

    Example:
        >>> bank = SceneBank([SyntheticScenes("geometry", partition=p, batch_size=2) for p in range(3)])
        >>> bank.scene_groups, bank.batch_shape.scenes
        (3, 6)
    """

    def __init__(self, members: list[pl.LightningDataModule]) -> None:
        if not members:
            raise ConfigError("SceneBank needs at least one data module in members")
        super().__init__(members)

    @property
    def scene_groups(self) -> int:
        """Number of equal groups of scenes in a training batch: one for each adapter."""
        return len(self.members)

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """Names of the loaders of an evaluation; the task calls the first as it calls a single one."""
        return tuple(f"adapter_{index}" for index in range(len(self.members)))

    @property
    def batch_shape(self) -> BatchShape | None:
        """The batches of all members together."""
        shapes = [described(member).batch_shape for member in self.members]
        known = [shape for shape in shapes if shape is not None]
        return known[0]._replace(scenes=sum(shape.scenes for shape in known)) if len(known) == len(shapes) else None

    @property
    def identities(self) -> tuple[str, ...]:
        """Those of the members, one by one."""
        return tuple(self.member_identities())

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

    def for_each_member(self, batch: Any, dataloader_idx: int, hook: MemberHook) -> Any:
        """A training step has a batch of every member, an evaluation one batch of one member."""
        if not isinstance(batch, list):
            return hook(self.members[dataloader_idx], batch, 0)
        return [hook(member, part, 0) for member, part in zip(self.members, batch, strict=True)]

    def join(self, batch: Any) -> SceneBatch:
        """The first member's scenes first.

        Raises:
            ConfigError: the members' batches differ in their number of scenes.
        """
        if not isinstance(batch, list):
            return super().join(batch)
        if len({len(part) for part in batch}) > 1:
            raise ConfigError(
                f"the members of a SceneBank need batches of one size, not {[len(part) for part in batch]} scenes"
            )
        return SceneBatch.concatenate(batch)


def _one_each(loaders: Sequence[Any]) -> list[DataLoader[Any]]:
    single = [loader[0] if isinstance(loader, list | tuple) and len(loader) == 1 else loader for loader in loaders]
    for index, loader in enumerate(single):
        if not isinstance(loader, DataLoader):
            raise ConfigError(
                f"member {index} of a SceneBank has {len(loader)} evaluation sets, but each member has one: evaluate "
                "the fitted adapters one by one"
            )
    return single
