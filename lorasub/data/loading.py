"""Loader pieces that every data module shares: a stateless order of scenes, split over ranks, that can begin anywhere.

A training loader is made by one call in ``LightningDataModule.train_dataloader``::

    return training_loader(dataset, batch_size=4, seed=0, trainer=self.trainer, num_workers=2, collate_fn=collate)

What it promises, with W ranks and batch size B:

- the order of epoch e is a pure function of (seed, e), the same on every machine;
- step t of rank r takes items ``r, r + W, ...`` of the slice ``[t W B, (t + 1) W B)`` of that order: ranks differ,
  take the same number of steps, and together see what one process with batch size ``W B`` sees;
- after a restart from a checkpoint it goes on at exactly the next batch.

Validation, test and prediction need no order: :func:`evaluation_loader`. Neither kind of loader draws from the global
random stream, so that loading never changes what dropout or an augmentation draws.

How this fits Lightning 2.6. The position is the number of batches that the trainer has *trained on*, restored from the
checkpoint and read whenever an iteration begins. A loader's own counter would be ahead by what its workers have
prefetched; and the epoch that Lightning hands to ``set_epoch`` is one too large after a restart from a checkpoint that
was saved at the end of an epoch. A ``DistributedSampler`` is left alone by ``Trainer(use_distributed_sampler=True)``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sized
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from lorasub.errors import ConfigError
from lorasub.rng import torch_generator
from lorasub.structures import SceneBatch


class EpochSampler(DistributedSampler[int]):
    """This rank's indices of each epoch, in an order that depends on (seed, epoch) only.

    The tail that does not fill a batch on every rank is left out, so that all ranks take the same number of steps;
    since every epoch has another order, nothing is left out for good.

    Args:
        dataset: anything with a length.
        batch_size: items a rank takes in one step.
        seed: seed of the order.
        rank: this process, in ``[0, world_size)``.
        world_size: number of processes.
        shuffle: false keeps the data set's own order in every epoch.
        trained_batches: tells how many batches each rank has been trained on so far; an iteration goes on from there.
            Without it, iterations begin where ``set_epoch`` says, as for any ``DistributedSampler``.

    Raises:
        ConfigError: the data set is smaller than one batch on every rank.
    """

    def __init__(
        self,
        dataset: Sized,
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        trained_batches: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed, drop_last=True)  # type: ignore[arg-type]
        self.batch_size = batch_size
        self.steps = len(dataset) // (batch_size * world_size)
        if self.steps == 0:
            raise ConfigError(
                f"{len(dataset)} scenes are fewer than one batch of {batch_size} on each of {world_size} processes; "
                "lower the batch size or add scenes"
            )
        self.num_samples = self.steps * batch_size
        self.total_size = self.num_samples * world_size
        self.trained_batches = trained_batches

    def __iter__(self) -> Iterator[int]:
        done = self.trained_batches() if self.trained_batches else self.epoch * self.steps
        epoch, batch = divmod(done, self.steps)
        yield from self.order(epoch)[self.rank :: self.num_replicas][batch * self.batch_size :]
        # Begun in the middle: what completes the count belongs to the next epoch. The trainer asks for it only under
        # `limit_train_batches`, where its epochs are shorter than ours.
        yield from self.order(epoch + 1)[self.rank :: self.num_replicas][: batch * self.batch_size]

    def __len__(self) -> int:
        return self.num_samples

    def order(self, epoch: int) -> list[int]:
        """The indices of all ranks in the given epoch; rank r takes every W-th from the r-th on."""
        size = len(self.dataset)  # type: ignore[arg-type]
        if not self.shuffle:
            return list(range(size))[: self.total_size]
        return torch.randperm(size, generator=torch_generator(self.seed, "order", epoch)).tolist()[: self.total_size]


class ResumableLoader(DataLoader[Any]):
    """A loader whose sampler knows where to go on, and that therefore needs no state of its own in the checkpoint.

    Lightning asks for these two methods before it believes that a restart in the middle of an epoch is exact.
    """

    def state_dict(self) -> dict[str, Any]:
        """Returns an empty state: the sampler knows the position."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Does nothing: there is no state."""


def training_loader(
    dataset: Dataset[Any],
    *,
    batch_size: int,
    seed: int,
    trainer: pl.Trainer | None,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    shuffle: bool = True,
    sampler_class: type[EpochSampler] = EpochSampler,
) -> ResumableLoader:
    """The training loader with the promises of this module.

    Args:
        dataset: a map-style data set with a length.
        batch_size: scenes a process takes in one step.
        seed: seed of the order.
        trainer: the data module's trainer; None outside of Lightning (one process; ``loader.sampler.set_epoch`` works).
        num_workers: worker processes; they are kept between epochs.
        collate_fn: as for ``torch.utils.data.DataLoader``.
        shuffle: false keeps the data set's own order.
        sampler_class: a subclass may hand the data set something else than indices (see :meth:`EpochSampler.order`).

    Raises:
        ConfigError: the data set is smaller than one batch on every process.
    """
    sampler = sampler_class(
        dataset,  # type: ignore[arg-type]
        batch_size=batch_size,
        seed=seed,
        rank=trainer.global_rank if trainer else 0,
        world_size=trainer.world_size if trainer else 1,
        shuffle=shuffle,
        trained_batches=functools.partial(trained_batches, trainer) if trainer else None,
    )
    return ResumableLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=collate_fn,
        generator=torch.Generator(),
    )


def evaluation_loader(
    dataset: Dataset[Any],
    *,
    batch_size: int,
    trainer: pl.Trainer | None = None,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> DataLoader[Any]:
    """A loader in the data set's own order, for validation, test and prediction.

    On W processes rank r takes items ``r, r + W, ...``; each item comes once. Where that would leave a process without
    any, or where all must take the same number of steps because weights are sharded, some items come twice.

    Args:
        dataset: a map-style data set with a length.
        batch_size: scenes a process takes in one step.
        trainer: the data module's trainer. None on one process; on several it leaves the split to Lightning, which
            hands out some items twice.
        num_workers: worker processes.
        collate_fn: as for ``torch.utils.data.DataLoader``.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=_evaluation_sampler(dataset, trainer),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=collate_fn,
        # Every iteration draws a seed for its workers. From the global stream, that draw would make a resumed fit,
        # which begins its epochs and validations at other moments, differ from one that was never stopped.
        generator=torch.Generator(),
    )


def _evaluation_sampler(dataset: Dataset[Any], trainer: pl.Trainer | None) -> DistributedSampler[Any] | None:
    """This rank's share; Lightning leaves a sampler of this kind as it is."""
    if trainer is None or trainer.world_size == 1:
        return None
    size: int = len(dataset)  # type: ignore[arg-type]
    lockstep = isinstance(trainer.strategy, ModelParallelStrategy) or size < trainer.world_size
    sampler_class = DistributedSampler if lockstep else UnrepeatedDistributedSampler
    return sampler_class(dataset, num_replicas=trainer.world_size, rank=trainer.global_rank, shuffle=False)


def trained_batches(trainer: pl.Trainer) -> int:
    """Number of batches that each process has been trained on, restarts included."""
    # "processed", not "completed": a checkpoint saved when a batch ends already holds that batch's update
    return int(trainer.fit_loop.epoch_loop.batch_progress.total.processed)  # type: ignore[attr-defined]


def training_batches(data: pl.LightningDataModule, device: torch.device) -> Iterator[SceneBatch]:
    """Yields one epoch of a data module's training batches, on a device, without a trainer.

    Raises:
        ConfigError: there is a loader for each adapter of a bank.
    """
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    if isinstance(loader, list | tuple):
        raise ConfigError(f"{type(data).__name__} has {len(loader)} training sets; take its members one by one")
    for batch in loader:
        yield data.on_after_batch_transfer(data.transfer_batch_to_device(batch, device, 0), 0)
