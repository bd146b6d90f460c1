"""AdaLoRA in a fit, against PEFT's own model in a training loop as its documentation has it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim import SGD
from toy_scenes import ToyScenes

from lorasub.adapters import PEFT, LoRA
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.errors import ConfigError
from lorasub.tasks import GeometryTask

peft = pytest.importorskip("peft")

STEPS = 9
SCHEDULE = {"init_r": 4, "target_r": 2, "lora_alpha": 8, "tinit": 2, "tfinal": 3, "deltaT": 2, "orth_reg_weight": 0.1}


def make_task(config: VGGTConfig, adapter: Any = None) -> GeometryTask:
    torch.manual_seed(7)
    backbone = VGGT(config)
    adapter = adapter or PEFT(config={"peft_type": "ADALORA", **SCHEDULE}, targets=["*.attn.qkv", "*.attn.proj"])
    return GeometryTask(backbone, adapter, optimizer=lambda parameters: SGD(parameters, lr=2.0), warmup=0.0)


def make_trainer(folder: Path, **changes: Any) -> Trainer:
    settings: dict[str, Any] = {
        **{"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False},
        **{"default_root_dir": folder, "enable_checkpointing": False, "limit_val_batches": 0, "max_steps": STEPS},
    }
    return Trainer(**settings | changes)


class Keep(Callback):
    """Remembers batches and learning rates, to train with them once more by hand."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_a_fit_does_what_peft_does(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    task = make_task(tiny_config)
    paths = list(task.adapters.layers)
    start = {name: value.clone() for name, value in task.adapters.state_dict().items()}
    keep = Keep()
    make_trainer(tmp_path, callbacks=[keep]).fit(task, ToyScenes())

    plain = copy.deepcopy(make_task(tiny_config, LoRA(r=1)).adapters.unload())
    config = peft.AdaLoraConfig(**SCHEDULE, target_modules=paths, total_step=STEPS)
    theirs = peft.get_peft_model(plain, config)
    named = {name.removeprefix("base_model.model."): p for name, p in theirs.named_parameters()}
    with torch.no_grad():
        for name, value in start.items():
            named[name.replace("peft_layer.", "")].copy_(value)
    trained = [p for p in theirs.parameters() if p.requires_grad]
    optimizer = SGD(trained, lr=0.0)
    for step, (batch, rate) in enumerate(zip(keep.batches, keep.rates, strict=True), start=1):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        batch = task.prepare_batch(batch)
        loss = task.compute_loss(theirs(batch.images), batch).total.mean()
        # as in peft.AdaLoraModel.forward, which adds it for models that return their loss
        factors = [p if "lora_A" in name else p.T for name, p in named.items() if "lora_A" in name or "lora_B" in name]
        loss += 0.1 * sum(torch.norm(p @ p.T - torch.eye(len(p))) for p in factors) / len(factors)
        loss.backward()
        for parameter in trained:  # what no loss reaches; PEFT would fail on it
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        optimizer.step()
        theirs.base_model.update_and_allocate(step)

    for name, value in task.adapters.state_dict().items():
        torch.testing.assert_close(value, named[name.replace("peft_layer.", "")].detach(), rtol=1e-4, atol=1e-6)
    values = [value for name, value in task.adapters.state_dict().items() if "lora_E" in name]
    left = sum(int((value != 0).sum()) for value in values)
    assert 0 < left <= 2 * len(paths)
    assert sum(value.numel() for value in values) == 4 * len(paths)


def test_it_starts_as_the_base_model(tiny_config: VGGTConfig) -> None:
    task, plain = make_task(tiny_config), make_task(tiny_config, LoRA(r=1))
    images = torch.rand(1, 2, 3, 28, 28)
    torch.testing.assert_close(task(images).pose_encoding, plain(images).pose_encoding)


def test_a_fit_that_was_stopped_goes_on_with_the_same_ranks(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    whole = make_task(tiny_config)
    make_trainer(tmp_path).fit(whole, ToyScenes())

    every_step = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    make_trainer(tmp_path, callbacks=[every_step], enable_checkpointing=True).fit(make_task(tiny_config), ToyScenes())
    for stop in (4, 7):  # while ranks are being lowered, and after
        resumed = make_task(tiny_config)
        make_trainer(tmp_path).fit(resumed, ToyScenes(), ckpt_path=tmp_path / f"step={stop}.ckpt", weights_only=True)
        for name, value in whole.adapters.state_dict().items():
            assert torch.equal(value, resumed.adapters.state_dict()[name]), name


def test_settings_that_cannot_work_are_told(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    task = make_task(tiny_config)
    with pytest.raises(ConfigError, match="tinit=2 and tfinal=3 leave none of 5 steps"):
        make_trainer(tmp_path, max_steps=5).fit(task, ToyScenes())
    lora = PEFT(config={"peft_type": "LORA", "r": 2}, targets=["camera_head"])
    both = [PEFT(config={"peft_type": "ADALORA", **SCHEDULE}, targets=["*.attn.qkv"], exclude=["camera_head"]), lora]
    with pytest.raises(ConfigError, match="beside another PEFT adapter"):
        make_trainer(tmp_path).fit(make_task(tiny_config, both), ToyScenes())


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"r": 4}, "no r:"), ({"total_step": 9}, "no total_step:"), ({"init_r": 2, "target_r": 2}, "from 2 to 2")],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        PEFT(config={"peft_type": "ADALORA", **settings})
