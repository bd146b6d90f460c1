"""The base of data modules: what tasks, callbacks and the memory estimate ask of them, with default answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch

from lorasub.contracts import BatchShape, described
from lorasub.structures import SceneBatch


class SceneDataModule(pl.LightningDataModule):
    """A LightningDataModule whose batches are scenes. Override what differs from the defaults.

    Batches must be a :class:`~lorasub.structures.SceneBatch` at the latest after ``on_after_batch_transfer``. Any other
    LightningDataModule works, too; then the defaults hold.
    """

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """Names of the loaders of ``test``, in order; empty where there is one. Results are logged under them."""
        return ()

    @property
    def images_change(self) -> bool:
        """Whether a training scene comes with other images in another epoch, as augmented ones do."""
        return False

    @property
    def scene_groups(self) -> int:
        """Equal groups of scenes in a training batch: one for each adapter of a bank."""
        return 1

    @property
    def batch_shape(self) -> BatchShape | None:
        """The largest training batch of one process; None where it is not known before loading."""
        return None

    @property
    def identity(self) -> str:
        """Name of the scenes it trains on, different between data sets; empty where it is not known.

        Adapters start from random numbers that depend on it, so that adapters of different data never share a start.
        How scenes are loaded (workers, batch size) is not part of it.
        """
        return ""

    @property
    def identities(self) -> tuple[str, ...]:
        """The identity of each group of scenes."""
        return (self.identity,)


class ScenesOfMembers(SceneDataModule):
    """Base of data modules that are made of others: forwards every hook to the members.

    A subclass makes the loaders, and says in :meth:`for_each_member` which part of a batch is whose.

    Args:
        members: the data modules. They share this module's trainer.
    """

    def __init__(self, members: Sequence[pl.LightningDataModule]) -> None:
        super().__init__()
        self.members = list(members)

    @property
    def images_change(self) -> bool:
        """Whether the images of any member change."""
        return any(described(member).images_change for member in self.members)

    @property
    def identity(self) -> str:
        """Name made of the members' identities; empty if one of them has none."""
        own = self.member_identities()
        return f"{type(self).__name__}({'; '.join(own)})" if all(own) else ""

    def member_identities(self) -> list[str]:
        """Names of the scenes of each member."""
        return [described(member).identities[0] for member in self.members]

    def prepare_data(self) -> None:
        """Lets each member prepare its data."""
        for member in self.members:
            member.prepare_data()

    def setup(self, stage: str) -> None:
        """Sets each member up, with this trainer."""
        for member in self.members:
            member.trainer = self.trainer
            member.setup(stage)

    def teardown(self, stage: str) -> None:
        """Lets each member clean up."""
        for member in self.members:
            member.teardown(stage)

    @abstractmethod
    def for_each_member(self, batch: Any, dataloader_idx: int, hook: MemberHook) -> Any:
        """Calls a hook with each member that has a part in the batch, and returns the batch of the results.

        Args:
            batch: as a loader of this module gives it, or as this method returned it before.
            dataloader_idx: of the loader, as Lightning counts.
            hook: to call with the member, its part, and the index that the member's own loader has.
        """

    def join(self, batch: Any) -> SceneBatch:
        """Returns one batch of what :meth:`for_each_member` left when all members had made their scenes."""
        assert isinstance(batch, SceneBatch)
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves a batch as the members do."""
        return self.for_each_member(
            batch, dataloader_idx, lambda member, part, index: member.transfer_batch_to_device(part, device, index)
        )

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Lets the members prepare their parts."""
        return self.for_each_member(
            batch, dataloader_idx, lambda member, part, index: member.on_before_batch_transfer(part, index)
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> SceneBatch:
        """Lets the members make their scenes, and joins them.

        Raises:
            DataError: members differ in views or image size.
        """
        made = self.for_each_member(
            batch, dataloader_idx, lambda member, part, index: member.on_after_batch_transfer(part, index)
        )
        return self.join(made)


#: ``(member, its part of the batch, index of the member's loader) -> the part afterwards``.
MemberHook = Callable[[pl.LightningDataModule, Any, int], Any]
