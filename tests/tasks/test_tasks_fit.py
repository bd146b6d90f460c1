"""A fit from end to end on a tiny model: what it changes, what it keeps, how it stops and goes on."""

from __future__ import annotations

import math
import re
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.optim import SGD
from toy_scenes import ToyScenes

from lorasub.adapters import FullFineTuning, LoRA, TruncatedFineTuning
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.callbacks import AdapterExport, BeforeAfter, FinalCheckpoint
from lorasub.errors import ArtefactError, ConfigError, NumericalError
from lorasub.files import read_json
from lorasub.losses import LossTerms
from lorasub.tasks import GeometryTask


def make_task(config: VGGTConfig, seed: int = 0, adapter: Any = "lora") -> GeometryTask:
    torch.manual_seed(7)
    backbone = VGGT(config)
    torch.manual_seed(seed)
    if adapter == "lora":
        adapter = LoRA(r=2, targets=["global_blocks", "camera_head"], dropout=0.1)
    return GeometryTask(backbone, adapter)


def make_trainer(folder: Path, **changes: Any) -> Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "max_steps": 6,
        "logger": CSVLogger(folder, name=None, version="log"),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": -1,
        "log_every_n_steps": 1,
    }
    settings.update(changes)
    settings.setdefault("callbacks", [ModelCheckpoint(folder, save_last=True, every_n_train_steps=1)])
    settings.setdefault("enable_checkpointing", any(isinstance(c, ModelCheckpoint) for c in settings["callbacks"]))
    return Trainer(**settings)


class StopAfter(Callback):
    """A fit that is killed in the middle of an epoch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise ZeroDivisionError("killed")


def trained(task: GeometryTask) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in task.adapters.state_dict().items()}


def test_a_fit_moves_the_adapter_only_and_tells_before_and_after(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    task, data = make_task(tiny_config), ToyScenes()
    frozen = {n: p.detach().clone() for n, p in task.named_parameters() if not p.requires_grad}
    start = trained(task)
    make_trainer(tmp_path, max_steps=3, callbacks=[BeforeAfter(), AdapterExport()]).fit(task, data)

    parameters = dict(task.named_parameters())
    assert frozen
    assert all(torch.equal(parameters[name], value) for name, value in frozen.items())
    assert any(not torch.equal(value, start[name]) for name, value in trained(task).items())

    told = read_json(tmp_path / "log" / "before_after.json")
    base = make_task(tiny_config, adapter=None)
    found = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False).validate(
        base, data, verbose=False
    )
    merged = {name: value for part in found for name, value in part.items()}
    compared = [name for name in told["metrics"] if name in merged]
    assert len(compared) >= 5
    for name in compared:
        before = told["metrics"][name]["before"]
        assert before == pytest.approx(merged[name], rel=1e-5, abs=1e-6, nan_ok=True), name
    assert (tmp_path / "log" / "adapter" / "adapter_model.safetensors").is_file()


def test_checkpoint_holds_what_was_trained_and_nothing_unsafe(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    task = make_task(tiny_config)
    make_trainer(tmp_path, max_steps=1).fit(task, ToyScenes())
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == {f"backbone.{name}" for name in task.adapters.state_dict()}
    assert checkpoint["optimizer_states"]


@pytest.mark.parametrize("stop", [3, 5])
def test_resuming_is_exact(tiny_config: VGGTConfig, tmp_path: Path, stop: int) -> None:
    """After a stop at the end of an epoch of three steps, and in the middle of one. Dropout draws random numbers."""
    whole = make_task(tiny_config)
    make_trainer(tmp_path / "whole", max_steps=7, callbacks=[]).fit(whole, ToyScenes())

    killed = make_task(tiny_config)
    trainer = make_trainer(
        tmp_path / "cut",
        max_steps=7,
        callbacks=[ModelCheckpoint(tmp_path / "cut", save_last=True, every_n_train_steps=1), StopAfter(stop)],
    )
    with pytest.raises(ZeroDivisionError):
        trainer.fit(killed, ToyScenes())
    resumed = make_task(tiny_config, seed=99)
    torch.rand(17)
    make_trainer(tmp_path / "again", max_steps=7, callbacks=[]).fit(
        resumed, ToyScenes(), ckpt_path=tmp_path / "cut" / "last.ckpt", weights_only=True
    )
    end, again = trained(whole), trained(resumed)
    assert any(not torch.equal(value, trained(killed)[name]) for name, value in end.items())
    assert all(torch.equal(value, again[name]) for name, value in end.items())


def test_the_last_checkpoint_is_the_end_and_a_longer_fit_goes_on_from_it(
    tiny_config: VGGTConfig, tmp_path: Path
) -> None:
    task = make_task(tiny_config)
    callbacks = [ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=3), FinalCheckpoint()]
    make_trainer(tmp_path, max_steps=4, callbacks=callbacks).fit(task, ToyScenes())
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 4
    assert all(
        torch.equal(checkpoint["state_dict"][f"backbone.{name}"], value) for name, value in trained(task).items()
    )
    seen: list[str] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            seen.extend(batch.scene_ids)

    longer = make_trainer(tmp_path / "longer", max_steps=6, callbacks=[Watch()])
    longer.fit(make_task(tiny_config), ToyScenes(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert longer.global_step == 6
    whole: list[str] = []
    Watch.on_train_batch_start = lambda self, trainer, pl_module, batch, batch_idx: whole.extend(batch.scene_ids)  # type: ignore[method-assign]
    make_trainer(tmp_path / "whole", max_steps=6, callbacks=[Watch()]).fit(make_task(tiny_config), ToyScenes())
    assert seen == whole[8:]


def test_full_fine_tuning_resumes_too(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    task = make_task(tiny_config, adapter=FullFineTuning(targets="depth_head"))
    make_trainer(tmp_path, max_steps=2).fit(task, ToyScenes())
    again = make_task(tiny_config, adapter=FullFineTuning(targets="depth_head"))
    make_trainer(tmp_path / "more", max_steps=3).fit(again, ToyScenes(), ckpt_path=tmp_path / "last.ckpt")
    assert again.global_step == 3


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape", "other base", "drawn base", "not ours"])
def test_a_checkpoint_that_does_not_fit_is_refused(tiny_config: VGGTConfig, tmp_path: Path, damage: str) -> None:
    task = make_task(tiny_config)
    make_trainer(tmp_path, max_steps=1).fit(task, ToyScenes())
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    name = next(iter(checkpoint["state_dict"]))
    if damage == "missing":
        del checkpoint["state_dict"][name]
    elif damage == "unexpected":
        checkpoint["state_dict"]["backbone.extra"] = torch.zeros(1)
    elif damage == "shape":
        checkpoint["state_dict"][name] = torch.zeros(1)
    elif damage == "other base":
        checkpoint["lorasub"]["base_model_hash"] = "0" * 64
    elif damage == "drawn base":  # a class of one's own, without a name for its weights
        task.backbone.model_id = "VGGT"
        checkpoint["lorasub"] |= {"base_model_hash": "0" * 64, "base_model_id": "VGGT"}
    else:
        del checkpoint["lorasub"]
    torch.save(checkpoint, tmp_path / "damaged.ckpt")
    says = {
        "missing": name,
        "unexpected": "extra",
        "shape": name,
        "other base": "000000000000",
        "drawn base": "draws its weights at random",
        "not ours": "not written",
    }
    before = trained(task)
    with pytest.raises(ArtefactError, match=re.escape(says[damage])):
        make_trainer(tmp_path, max_steps=2).fit(task, ToyScenes(), ckpt_path=tmp_path / "damaged.ckpt")
    assert all(torch.equal(value, before[key]) for key, value in trained(task).items())


def test_metrics_that_nothing_was_measured_for_are_named_below_the_table() -> None:
    comparison = BeforeAfter()
    comparison.before = {"val/abs_rel": 0.25, "val/rra@5": math.nan, "val/mae": math.nan}
    comparison.after = {"val/abs_rel": 0.2, "val/rra@5": math.nan, "val/mae": 0.5}
    lines = comparison.table(list(comparison.before)).splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == ["val/abs_rel", "val/mae"]
    assert lines[-1] == "nothing to measure: val/rra@5"


def test_a_loss_that_is_not_finite_names_the_scenes(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    class Broken(GeometryTask):
        def compute_loss(self, predictions: Any, batch: Any) -> LossTerms:
            terms = super().compute_loss(predictions, batch)
            factor = torch.ones(len(batch))
            factor[1] = float("nan")
            return LossTerms(terms.total * factor, terms.parts)

    task = Broken(VGGT(tiny_config), LoRA(r=2))
    with pytest.raises(NumericalError, match="toy/") as caught:
        make_trainer(tmp_path, num_sanity_val_steps=0).fit(task, ToyScenes())
    assert "learning rate" in str(caught.value)
    assert str(caught.value).count("toy/") == 1


def test_nothing_to_train_is_said(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to train"):
        make_trainer(tmp_path).fit(make_task(tiny_config, adapter=None), ToyScenes())


def test_optimizer_and_schedule(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    rates: list[float] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    task = GeometryTask(VGGT(tiny_config), LoRA(r=2), optimizer=partial(SGD, lr=1.0), warmup=0.4)
    make_trainer(tmp_path, max_steps=10, callbacks=[Watch()]).fit(task, ToyScenes())
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == pytest.approx(1.0)
    assert rates[7] == pytest.approx(0.5)  # half-way down the cosine from step 4 to 10
    assert all(a > b for a, b in pairwise(rates[4:]))


def test_logged_numbers(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    make_trainer(tmp_path, max_steps=3).fit(make_task(tiny_config), ToyScenes())
    header = (tmp_path / "log" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "train/depth_error", "val/loss", "val/depth_error"} <= set(header)


def test_adapters_train_in_training_mode_on_a_backbone_that_was_loaded_for_evaluation(tiny_config: VGGTConfig) -> None:
    """Dropout and truncated fine-tuning depend on it."""
    task = GeometryTask(VGGT(tiny_config).eval(), TruncatedFineTuning(r=2))
    assert all(layer.training for layer in task.adapters.layers.values())
