"""Several processes compute what one does with all their scenes: DDP, sharded weights, accumulated gradients."""

from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from scene_examples import random_scenes
from torch.optim import SGD
from torch.utils.data import DataLoader

from lorasub.adapters import FullFineTuning, LoRA
from lorasub.backbones import VGGT, ConstantGeometry, VGGTConfig
from lorasub.callbacks import AdapterExport
from lorasub.data.loading import evaluation_loader, training_loader
from lorasub.errors import ConfigError
from lorasub.files import read_tensors
from lorasub.structures import SceneBatch
from lorasub.tasks import GeometryTask
from lorasub.training.strategy import FullyShardedStrategy, choose_strategy, shard_backbone

#: Scenes that all processes take together in one step.
TOGETHER = 4
STEPS = 4


class VaryingViews(LightningDataModule):
    """Steps of two views and of three in turn, and five scenes to validate on: no share of 2 or 4 processes is even."""

    def __init__(self, world: int) -> None:
        super().__init__()
        self.world = world
        scenes = [scene(index, views=2 + index // TOGETHER % 2) for index in range(TOGETHER * STEPS)]
        self.train, self.held_out = scenes, [scene(100 + index, views=2) for index in range(5)]

    def train_dataloader(self) -> DataLoader[Any]:
        return training_loader(
            self.train,  # type: ignore[arg-type]
            batch_size=TOGETHER // self.world,
            seed=0,
            trainer=self.trainer,
            collate_fn=SceneBatch.concatenate,
            shuffle=False,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return evaluation_loader(self.held_out, batch_size=1, trainer=self.trainer, collate_fn=SceneBatch.concatenate)  # type: ignore[arg-type]


class Seen(Callback):
    """Which scenes this process was trained on, step by step, and validated on."""

    def __init__(self) -> None:
        self.trained: list[tuple[str, ...]] = []
        self.validated: list[str] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: SceneBatch, index: int) -> None:
        self.trained.append(batch.scene_ids)

    def on_validation_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: SceneBatch, *args: Any
    ) -> None:
        self.validated.extend(batch.scene_ids)


def scene(index: int, views: int) -> SceneBatch:
    found = random_scenes(1, views, (28, 28), seed=index, dtype=torch.float32)
    return found.replace(scene_ids=(f"toy/{index}",))


def make_task(config: VGGTConfig) -> GeometryTask:
    """With a descent whose steps do not blow up the rounding of small gradients, as Adam's do, and that has a state."""
    torch.manual_seed(7)
    backbone = VGGT(config)
    adapters = [LoRA(r=2, targets=["blocks", "camera_head"]), FullFineTuning(targets="depth_head")]
    return GeometryTask(backbone, adapters, optimizer=partial(SGD, lr=0.05, momentum=0.9))


def fit(
    config: VGGTConfig, folder: Path, world: int = 1, *, ckpt: Path | None = None, **changes: Any
) -> dict[str, Any]:
    """Fit in this process, which may be one of several, and say what came out."""
    task = make_task(config)
    settings: dict[str, Any] = {"accumulate_grad_batches": 2, "max_steps": STEPS // 2, "devices": world}
    settings |= {"callbacks": [Seen()], "enable_checkpointing": False, "gradient_clip_val": 1.0} | changes
    seen = settings["callbacks"][0]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = Trainer(accelerator="cpu", default_root_dir=folder, **quiet, **settings)
    trainer.fit(task, VaryingViews(world), ckpt_path=ckpt, weights_only=True if ckpt else None)
    scores = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    weights = {name: tensor.detach().clone() for name, tensor in task.adapters.state_dict().items()}
    return {"weights": weights, "trained": seen.trained, "validated": seen.validated, "scores": scores}


def processes(job: Any, world: int, config: VGGTConfig, folder: Path) -> list[dict[str, Any]]:
    """What ``job`` returns on each of several processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_process, args=(job, world, config, folder, port), nprocs=world)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(world)]


def _process(rank: int, job: Any, world: int, config: VGGTConfig, folder: Path, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(world), NODE_RANK="0")
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank))
    torch.set_num_threads(1)
    torch.save(job(world, config, folder), folder / f"rank{rank}.pt")


def with_ddp(world: int, config: VGGTConfig, folder: Path) -> dict[str, Any]:
    return fit(config, folder, world, strategy=choose_strategy({"devices": world, "accelerator": "cpu"}))


def sharded(world: int, config: VGGTConfig, folder: Path) -> dict[str, Any]:
    """A whole fit, and its second half again from the checkpoint in its middle."""
    saver = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    strategy = {"strategy": "fsdp2", "devices": world}
    whole = fit(
        config,
        folder,
        world,
        strategy=choose_strategy(strategy),
        callbacks=[Seen(), saver, AdapterExport()],
        enable_checkpointing=True,
    )
    ckpt = folder / "step=1.ckpt"
    resumed = fit(config, folder / "resumed", world, strategy=choose_strategy(strategy), ckpt=ckpt, limit_val_batches=0)
    names = torch.load(ckpt, weights_only=True)["state_dict"].keys()
    return whole | {"resumed": resumed["weights"], "names": sorted(names)}


def assert_same_fit(ranks: list[dict[str, Any]], alone: dict[str, Any], *, tolerance: float) -> None:
    for step, together in enumerate(alone["trained"]):
        shares = [scene for rank in ranks for scene in rank["trained"][step]]
        assert sorted(shares) == sorted(together)  # no scene twice, none left out
    assert {len(rank["trained"]) for rank in ranks} == {len(alone["trained"])}
    for rank in ranks:
        assert rank["weights"].keys() == alone["weights"].keys()
        for name, value in alone["weights"].items():
            torch.testing.assert_close(rank["weights"][name], value, rtol=2e-3, atol=tolerance, msg=name)


@pytest.mark.ddp
@pytest.mark.parametrize("world", [2, 4])
def test_processes_agree_with_one(world: int, tiny_config: VGGTConfig, tmp_path: Path) -> None:
    """Views vary from step to step, gradients are accumulated, and the held-out scenes do not divide evenly."""
    start = make_task(tiny_config).adapters.state_dict()
    alone = fit(tiny_config, tmp_path / "alone")
    ranks = processes(with_ddp, world, tiny_config, tmp_path)
    assert_same_fit(ranks, alone, tolerance=2e-6)
    moved = [name for name, value in alone["weights"].items() if (value - start[name]).abs().max() > 1e-4]
    assert len(moved) > 20
    assert sorted(scene for rank in ranks for scene in rank["validated"]) == sorted(alone["validated"])
    assert {"val/loss", "val/abs_rel"} <= alone["scores"].keys()
    for rank in ranks:
        torch.testing.assert_close(rank["scores"], alone["scores"], rtol=1e-3, atol=1e-5)


@pytest.mark.ddp
def test_sharded_weights_agree_with_whole_ones(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    trained = {f"backbone.{name}" for name in make_task(tiny_config).adapters.state_dict()}
    alone = fit(tiny_config, tmp_path / "alone")
    ranks = processes(sharded, 2, tiny_config, tmp_path)
    assert_same_fit(ranks, alone, tolerance=2e-6)
    for name, value in ranks[0]["weights"].items():
        assert torch.equal(ranks[0]["resumed"][name], value), name
    stored = set(ranks[0]["names"])
    assert trained <= stored
    assert not any("base_layer.weight" in name for name in stored)  # nothing that is frozen
    exported = read_tensors(tmp_path / "adapter" / "lorasub.safetensors")
    assert exported.keys() == alone["weights"].keys()
    for name, value in exported.items():
        assert torch.equal(value, ranks[0]["weights"][name]), name


def test_accumulated_gradients_weigh_every_scene_the_same(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    """Two batches whose views differ in number, against one descent on the mean over all of their scenes."""
    after = fit(tiny_config, tmp_path, max_steps=1, gradient_clip_val=None)["weights"]
    task, data = make_task(tiny_config), VaryingViews(1)
    losses = [
        task.compute_loss(task(one.images), one).total.squeeze(0)
        for one in (task.prepare_batch(scene) for scene in data.train[: 2 * TOGETHER])
    ]
    torch.stack(losses).mean().backward()
    # the schedule starts at the full rate: 5% of two steps are no warm-up
    for name, parameter in task.adapters.trainable_parameters().items():
        expected = parameter.detach() - 0.05 * parameter.grad
        torch.testing.assert_close(after[name], expected, rtol=1e-4, atol=1e-7, msg=name)


def test_names_of_strategies() -> None:
    ddp = choose_strategy({"strategy": "auto", "devices": 2})
    assert isinstance(ddp, DDPStrategy)
    assert ddp._ddp_kwargs["broadcast_buffers"] is False
    assert isinstance(choose_strategy({"strategy": "fsdp2"}), FullyShardedStrategy)
    assert choose_strategy({"strategy": "auto", "devices": 1, "accelerator": "cpu"}) == "auto"
    assert choose_strategy({"strategy": "ddp_notebook"}) == "ddp_notebook"
    assert choose_strategy({"strategy": ddp}) is ddp


def test_what_cannot_be_sharded_is_said() -> None:
    with pytest.raises(ConfigError, match="Linear has none"):
        shard_backbone(torch.nn.Linear(2, 2), None)
    task = torch.nn.ModuleDict({"backbone": ConstantGeometry(), "head": torch.nn.Linear(2, 2)})
    with pytest.raises(ConfigError, match=r"'head\.weight' is trained"):
        shard_backbone(task, None)
