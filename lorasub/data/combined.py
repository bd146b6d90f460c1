"""Data modules that are made of others: mixed in every batch, or side by side for a bank of adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset

from lorasub.contracts import BatchShape, described
from lorasub.data.base import MemberHook, ScenesOfMembers
from lorasub.data.loading import EpochSampler, training_loader
from lorasub.data.splits import apportion
from lorasub.errors import ConfigError
from lorasub.rng import torch_generator
from lorasub.structures import SceneBatch


@dataclass(frozen=True, slots=True)
class MixedBatch:
    """Loaded parts of one batch, before scenes are made of them.

    Attributes:
        batches: name of the part -> its scenes, in the order of the parts.
    """

    batches: Mapping[str, Any]


class MixedScenes(ScenesOfMembers):
    """Training scenes of several data modules, in given proportions, in every batch as they come.

    Every epoch has the same number of scenes of each part, shuffled. A part goes through its own epochs: where it gives
    more scenes than it has, they come again; where it gives fewer, the next epoch goes on with others. The order is a
    pure function of (seed, epoch), splits over processes and resumes exactly, like that of any data module here.

    Parts make their scenes as they do alone: synthetic ones are rendered, real ones augmented. They must agree in the
    number of views and in image size. Only the augmentation of a real part depends on the number of processes.

    Args:
        parts: name -> data module.
        weights: name -> share of an epoch, in any unit; None makes all parts equal.
        batch_size: scenes per process and step; the parts' own batch sizes count for evaluation only.
        scenes_per_epoch: None takes as many as the parts have together.
        evaluate: the part whose validation, test and prediction sets are used; None takes the first.
        seed: of the order.
        num_workers: worker processes that load.

    Raises:
        ConfigError: fewer than two parts, names that are none of them, or weights that are not positive.

    Example:
        >>> parts = {"glass": SyntheticScenes("transparent"), "rooms": SyntheticScenes("indoor")}
        >>> MixedScenes(parts, weights={"glass": 3.0, "rooms": 1.0}, batch_size=8).batch_shape
        BatchShape(scenes=8, views=4, height=112, width=112)
    """

    def __init__(
        self,
        parts: dict[str, pl.LightningDataModule],
        weights: dict[str, float] | None = None,
        batch_size: int = 4,
        scenes_per_epoch: int | None = None,
        evaluate: str | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(list(parts.values()))
        if len(parts) < 2:
            raise ConfigError(f"MixedScenes mixes two or more parts, not {len(parts)}")
        named = set(weights or parts)
        if named != set(parts):
            raise ConfigError(f"MixedScenes: weights name {sorted(named)}, the parts are {sorted(parts)}")
        if evaluate is not None and evaluate not in parts:
            raise ConfigError(f"MixedScenes: evaluate names '{evaluate}', the parts are {sorted(parts)}")
        for name, value in (weights or {}).items():
            if not 0 < value < float("inf"):
                raise ConfigError(f"MixedScenes: the weight of '{name}' must be positive, not {value}")
        counts = {"batch_size": batch_size, "scenes_per_epoch": scenes_per_epoch}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise ConfigError(f"MixedScenes: {name} must be at least 1, not {count}")
        self.parts = dict(parts)
        self.weights = [1.0 if weights is None else float(weights[name]) for name in parts]
        self.batch_size = batch_size
        self.scenes_per_epoch = scenes_per_epoch
        self.evaluated = next(iter(parts)) if evaluate is None else evaluate
        self.seed = seed
        self.num_workers = num_workers

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """Names of the test loaders of the evaluated part."""
        return described(self.parts[self.evaluated]).evaluation_names

    @property
    def batch_shape(self) -> BatchShape | None:
        """The scenes of a batch, of the size that all parts have."""
        shapes = [described(part).batch_shape for part in self.parts.values()]
        known = next((shape for shape in shapes if shape is not None), None)
        return None if known is None else known._replace(scenes=self.batch_size)

    @property
    def identity(self) -> str:
        """Name made of the parts' identities, their weights and the order."""
        own = super().identity
        return f"{own} {self.weights} {self.scenes_per_epoch} {self.seed}" if own else ""

    def train_dataloader(self) -> DataLoader[Any]:
        """Scenes of all parts, in an order of each epoch's own."""
        loaders = {name: part.train_dataloader() for name, part in self.parts.items()}
        for name, loader in loaders.items():
            if not isinstance(loader, DataLoader) or not isinstance(loader.sampler, EpochSampler):
                raise ConfigError(
                    f"part '{name}' of MixedScenes must load with lorasub.data.loading.training_loader, as "
                    f"SyntheticScenes and PosedRGBD do; {type(self.parts[name]).__name__} does not"
                )
        mixed = _MixedItems(loaders, self.weights, self.scenes_per_epoch)
        return training_loader(
            mixed,
            batch_size=self.batch_size,
            seed=self.seed,
            trainer=self.trainer,
            num_workers=self.num_workers,
            collate_fn=mixed.collate,
            sampler_class=_MixedSampler,
        )

    def val_dataloader(self) -> Any:
        """Returns the validation loaders of the evaluated part."""
        return self.parts[self.evaluated].val_dataloader()

    def test_dataloader(self) -> Any:
        """Returns the test loaders of the evaluated part."""
        return self.parts[self.evaluated].test_dataloader()

    def predict_dataloader(self) -> Any:
        """Returns the prediction loaders of the evaluated part."""
        return self.parts[self.evaluated].predict_dataloader()

    def for_each_member(self, batch: Any, dataloader_idx: int, hook: MemberHook) -> Any:
        """Training batches hold scenes of several parts; others are of the part that is evaluated."""
        if not isinstance(batch, MixedBatch):
            return hook(self.parts[self.evaluated], batch, dataloader_idx)
        return MixedBatch({name: hook(self.parts[name], own, dataloader_idx) for name, own in batch.batches.items()})

    def join(self, batch: Any) -> SceneBatch:
        """Scenes of all parts, one part after the other."""
        return super().join(
            SceneBatch.concatenate(list(batch.batches.values())) if isinstance(batch, MixedBatch) else batch
        )


class _MixedItems(Dataset[tuple[str, Any]]):
    """Items of all parts' training sets; each knows whose it is.

    Args:
        loaders: of the parts.
        weights: their shares.
        length: items of an epoch.
    """

    def __init__(self, loaders: Mapping[str, DataLoader[Any]], weights: Sequence[float], length: int | None) -> None:
        self._datasets: dict[str, Any] = {name: loader.dataset for name, loader in loaders.items()}
        self._collates = {name: loader.collate_fn for name, loader in loaders.items()}
        self._samplers: dict[str, EpochSampler] = {}
        for name, loader in loaders.items():
            own: Any = loader.sampler
            self._samplers[name] = type(own)(loader.dataset, batch_size=1, seed=own.seed, shuffle=own.shuffle)
        total = sum(map(len, self._datasets.values())) if length is None else length
        self._counts = dict(zip(loaders, apportion(weights, total), strict=True))
        if none := [name for name, count in self._counts.items() if not count]:
            raise ConfigError(
                f"MixedScenes: '{none[0]}' would have none of the {total} scenes of an epoch; raise its weight or "
                "scenes_per_epoch"
            )
        self._length = total

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: tuple[str, Any]) -> tuple[str, Any]:
        name, own = key
        return name, self._datasets[name][own]

    def keys(self, epoch: int) -> list[tuple[str, Any]]:
        """Batches of one epoch, part after part."""
        return [(name, key) for name, count in self._counts.items() for key in self._successive(name, epoch, count)]

    def _successive(self, name: str, epoch: int, count: int) -> list[Any]:
        """``count`` keys of a part, from where the epoch before left it."""
        size = len(self._datasets[name])
        first, last = epoch * count, (epoch + 1) * count
        found: list[Any] = []
        for round_ in range(first // size, (last - 1) // size + 1):
            found += self._samplers[name].order(round_)[max(first - round_ * size, 0) : last - round_ * size]
        return found

    def collate(self, items: list[tuple[str, Any]]) -> MixedBatch:
        """The batch of each part that has items in it, as it collates its own."""
        names = [name for name in self._datasets if any(name == whose for whose, _ in items)]
        own = {name: [item for whose, item in items if whose == name] for name in names}
        collates: dict[str, Callable[[list[Any]], Any]] = self._collates
        return MixedBatch({name: collates[name](mine) for name, mine in own.items()})


class _MixedSampler(EpochSampler):
    """Yields the parts' keys, shuffled."""

    def order(self, epoch: int) -> list[tuple[str, Any]]:  # type: ignore[override]
        """The keys of all ranks in the given epoch."""
        mixed: Any = self.dataset
        keys: list[tuple[str, Any]] = mixed.keys(epoch)
        order = torch.randperm(len(keys), generator=torch_generator(self.seed, "mixed", epoch)).tolist()
        return [keys[index] for index in order][: self.total_size]


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
        """Identity of each member, in order."""
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
