"""The order of training data: stateless, split over ranks, and exact after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

from lorasub.data.loading import EpochSampler, training_loader
from lorasub.errors import ConfigError


class Names(Dataset[int]):
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index


class NameData(pl.LightningDataModule):
    def __init__(self, size: int, batch_size: int, num_workers: int = 0) -> None:
        super().__init__()
        self.size, self.batch_size, self.num_workers = size, batch_size, num_workers

    def train_dataloader(self) -> DataLoader[Any]:
        return training_loader(
            Names(self.size),
            batch_size=self.batch_size,
            seed=7,
            trainer=self.trainer,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Names(4), batch_size=2)


class Recorder(pl.LightningModule):
    """Writes down (epoch, items) of every step; a checkpoint at step n knows nothing of what came after."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, int, list[int]]] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.trainer.current_epoch, batch_idx, batch.tolist()))
        return self.weight * 0.0

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, max_steps: int, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "max_steps": max_steps,
            "max_epochs": -1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": folder,
            "num_sanity_val_steps": 0,
            **options,
        }
    )


def fit(folder: Path, max_steps: int, data: NameData, ckpt: Path | None = None, **options: Any) -> Recorder:
    model = Recorder()
    trainer(folder, max_steps, **options).fit(model, data, ckpt_path=ckpt)
    return model


@given(
    size=st.integers(1, 60),
    batch_size=st.integers(1, 5),
    world_size=st.integers(1, 4),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
)
def test_ranks_together_are_one_process_with_the_larger_batch(
    size: int, batch_size: int, world_size: int, seed: int, epoch: int
) -> None:
    if size < batch_size * world_size:
        with pytest.raises(ConfigError, match="fewer than one batch"):
            EpochSampler(Names(size), batch_size=batch_size, world_size=world_size)
        return
    whole = EpochSampler(Names(size), batch_size=batch_size * world_size, seed=seed)
    whole.set_epoch(epoch)
    one = list(whole)
    ranks = []
    for rank in range(world_size):
        sampler = EpochSampler(Names(size), batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)
        sampler.set_epoch(epoch)
        ranks.append(list(sampler))
        assert len(ranks[-1]) == len(sampler)
    assert len(set(one)) == len(one) == sum(map(len, ranks))
    for step in range(len(ranks[0]) // batch_size):
        union = {item for items in ranks for item in items[step * batch_size : (step + 1) * batch_size]}
        assert union == set(one[step * batch_size * world_size : (step + 1) * batch_size * world_size])


def test_epochs_and_seeds_have_their_own_orders() -> None:
    orders = [EpochSampler(Names(50), batch_size=1, seed=s).order(e) for s in range(3) for e in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 9


def test_unshuffled_keeps_the_order() -> None:
    assert list(EpochSampler(Names(5), batch_size=2, shuffle=False)) == [0, 1, 2, 3]


def test_an_iteration_begins_after_what_was_trained_on() -> None:
    plain = EpochSampler(Names(12), batch_size=2, seed=3)
    stream = [index for epoch in range(6) for index in plain.order(epoch)]
    for done in range(30):
        sampler = EpochSampler(Names(12), batch_size=2, seed=3, trained_batches=lambda done=done: done)
        sampler.set_epoch(99)  # the trainer's epoch is not asked
        assert list(sampler) == stream[2 * done : 2 * done + 12]
        assert len(sampler) == 12


# 10 batches an epoch; stops in the middle, on the last batch, just after, and in a later epoch
@pytest.mark.parametrize("stop", [4, 10, 17])
@pytest.mark.parametrize(("accumulate", "limit"), [(1, 1.0), (2, 1.0), (1, 4)])
def test_resumed_fit_sees_what_an_unbroken_one_sees(tmp_path: Path, stop: int, accumulate: int, limit: float) -> None:
    options: dict[str, Any] = {"accumulate_grad_batches": accumulate, "limit_train_batches": limit}
    # max_steps counts optimiser steps
    whole = fit(tmp_path, 24 // accumulate, NameData(21, 2), **options).seen
    assert len(whole) == 24
    stop_step = -(-stop // accumulate)
    saver = ModelCheckpoint(tmp_path / "ckpt", every_n_train_steps=stop_step, save_top_k=-1)
    first = fit(tmp_path, stop_step, NameData(21, 2), callbacks=[saver], **options).seen
    resumed = fit(tmp_path, 24 // accumulate, NameData(21, 2), ckpt=Path(saver.best_model_path), **options).seen
    assert first + resumed == whole


@pytest.mark.parametrize("when", ["epoch_end", "validation_end", "mid_validation"])
def test_resume_from_checkpoints_of_other_moments(tmp_path: Path, when: str) -> None:
    options: dict[str, Any] = {}
    if when == "mid_validation":
        options["val_check_interval"] = 4  # validates after batches 4 and 8
    whole = fit(tmp_path, 24, NameData(20, 2), **options).seen
    saver = ModelCheckpoint(
        tmp_path / "ckpt", save_top_k=-1, every_n_epochs=1, save_on_train_epoch_end=when == "epoch_end"
    )
    fit(tmp_path, 24, NameData(20, 2), callbacks=[saver], **options)
    checkpoints = sorted((tmp_path / "ckpt").glob("*.ckpt"))
    assert len(checkpoints) >= 2
    for ckpt in checkpoints:
        step = int(ckpt.stem.split("step=")[1].split("-")[0])
        assert fit(tmp_path, 24, NameData(20, 2), ckpt=ckpt, **options).seen == whole[step:], ckpt.name


def test_resume_after_an_exception_repeats_the_batch_that_failed(tmp_path: Path) -> None:
    class Stumbles(Recorder):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            if len(self.seen) == 6:
                raise RuntimeError("stumbled")
            return super().training_step(batch, batch_idx)

    whole = fit(tmp_path, 24, NameData(20, 2)).seen
    model, run = Stumbles(), trainer(tmp_path, 24)
    with pytest.raises(RuntimeError, match="stumbled"):
        run.fit(model, NameData(20, 2))
    run.save_checkpoint(tmp_path / "broken.ckpt")
    resumed = fit(tmp_path, 24, NameData(20, 2), ckpt=tmp_path / "broken.ckpt").seen
    assert model.seen + resumed == whole


def test_resume_with_workers_is_exact_although_they_prefetch(tmp_path: Path) -> None:
    whole = fit(tmp_path, 14, NameData(20, 2)).seen
    for stop in (3, 10):
        saver = ModelCheckpoint(tmp_path / f"ckpt{stop}", every_n_train_steps=stop, save_top_k=-1)
        first = fit(tmp_path, stop, NameData(20, 2, num_workers=2), callbacks=[saver]).seen
        ckpt = Path(saver.best_model_path)
        assert first + fit(tmp_path, 14, NameData(20, 2, num_workers=2), ckpt=ckpt).seen == whole


def _ddp_fit(rank: int, folder: Path, port: int) -> None:
    import os

    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        WORLD_SIZE="2",
        NODE_RANK="0",
        LOCAL_RANK=str(rank),
        RANK=str(rank),
    )
    from lightning.pytorch.strategies import DDPStrategy

    model = fit(folder / str(rank), 13, NameData(40, 2), strategy=DDPStrategy(process_group_backend="gloo"), devices=2)
    torch.save([items for _, _, items in model.seen], folder / f"rank{rank}.pt")


@pytest.mark.ddp
def test_two_processes_see_together_what_one_sees_with_the_doubled_batch(tmp_path: Path) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_ddp_fit, args=(tmp_path, port), nprocs=2)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    one = [items for _, _, items in fit(tmp_path, 13, NameData(40, 4)).seen]
    for ours, theirs, both in zip(*ranks, one, strict=True):
        assert not set(ours) & set(theirs)
        assert set(ours) | set(theirs) == set(both)
