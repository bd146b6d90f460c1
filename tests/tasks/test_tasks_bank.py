"""A fit of a bank against fits of its adapters alone, through Lightning's whole loop."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from scene_examples import random_scenes
from torch.optim import Adafactor
from toy_scenes import ToyScenes

from lorasub.adapters import AdapterBank, LoRA, LoRABank, load_adapter_updates
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.callbacks import AdapterExport
from lorasub.data import SceneBank
from lorasub.errors import ConfigError
from lorasub.losses import LossTerms
from lorasub.structures import Predictions, SceneBatch
from lorasub.tasks import GeometryTask, PlanarOrRealTask

SEEDS = (4, 9)
TARGETS = ["blocks", "camera_head"]
BANK = LoRABank(count=2, r=2, targets=TARGETS, seeds=SEEDS)
CLIP = 0.05


class OwnScenes(ToyScenes):
    """Toy scenes of a seed of their own, in float64."""

    def __init__(self, member: int, batch_size: int = 2, scenes: int = 6) -> None:
        super().__init__(batch_size)
        made = [random_scenes(1, 2, (28, 28), seed=100 * member + index) for index in range(scenes + 2)]
        named = [scene.replace(scene_ids=(f"{member}/{index}",)) for index, scene in enumerate(made)]
        self.train, self.held_out = named[:scenes], named[scenes:]


def make_task(config: VGGTConfig, adapter: Any, kind: type[GeometryTask] = GeometryTask, **options: Any) -> Any:
    torch.manual_seed(7)
    return kind(backbone=VGGT(config).double(), adapter=adapter, **options)


def make_trainer(folder: Path, **changes: Any) -> Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "default_root_dir": folder,
        "max_steps": 5,
        "gradient_clip_val": CLIP,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(**settings | changes)


class Norms(Callback):
    """The norms that gradients have before they are clipped."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
        grads = [p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]
        self.found.append(float(torch.cat(grads).norm()))


def fit_alone(config: VGGTConfig, index: int, folder: Path, **changes: Any) -> tuple[GeometryTask, list[float]]:
    task = make_task(config, None)
    task.adapters.unload()
    torch.manual_seed(SEEDS[index])
    task.adapters = task.configure_adapters(task.backbone, LoRA(r=2, targets=TARGETS))
    norms = Norms()
    make_trainer(folder, callbacks=[norms], **changes).fit(task, OwnScenes(index))
    return task, norms.found


def assert_equal_adapters(together: AdapterBank, singles: list[GeometryTask], tolerance: float) -> None:
    for index, single in enumerate(singles):
        expected = single.adapters.state_dict()
        assert any(name.endswith("lora_B.weight") and value.abs().max() > 1e-4 for name, value in expected.items())
        with together.only(index):
            for name, value in together.state_dict().items():
                torch.testing.assert_close(value, expected[name], rtol=tolerance, atol=tolerance)


def test_a_bank_fits_the_adapters_of_separate_fits(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    """Five steps of AdamW with a cosine, over the end of an epoch, gradients clipped; float64, to 1e-7.

    Adam divides by the size of the gradient, so that what is nearly zero is known to fewer digits than it is summed to.
    """
    singles, norms = zip(*(fit_alone(tiny_config, index, tmp_path) for index in range(2)), strict=True)
    # both are clipped at some step, and by different factors
    assert all(max(found) > CLIP for found in norms)
    assert abs(norms[0][0] - norms[1][0]) > 0.01 * norms[0][0]

    task = make_task(tiny_config, BANK)
    make_trainer(tmp_path).fit(task, SceneBank([OwnScenes(0), OwnScenes(1)]))
    assert_equal_adapters(task.adapters, list(singles), 1e-7)


def test_with_clipping_by_value_and_accumulation_too(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    options = {"gradient_clip_algorithm": "value", "gradient_clip_val": 1e-3, "accumulate_grad_batches": 2}
    singles = [fit_alone(tiny_config, index, tmp_path, max_steps=3, **options)[0] for index in range(2)]
    task = make_task(tiny_config, BANK)
    make_trainer(tmp_path, max_steps=3, **options).fit(task, SceneBank([OwnScenes(0), OwnScenes(1)]))
    assert_equal_adapters(task.adapters, singles, 1e-7)


class StopAfter(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise ZeroDivisionError("killed")


@pytest.mark.parametrize("stop", [3, 4])
def test_resuming_a_bank_is_exact(tiny_config: VGGTConfig, tmp_path: Path, stop: int) -> None:
    """After a stop at the end of an epoch of three steps, and in the middle of one."""
    data = partial(lambda: SceneBank([OwnScenes(0), OwnScenes(1)]))
    whole = make_task(tiny_config, BANK)
    make_trainer(tmp_path).fit(whole, data())
    callbacks = [ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=1), StopAfter(stop)]
    with pytest.raises(ZeroDivisionError):
        make_trainer(tmp_path, callbacks=callbacks, enable_checkpointing=True).fit(make_task(tiny_config, BANK), data())
    resumed = make_task(tiny_config, LoRABank(count=2, r=2, targets=TARGETS, seeds=(1, 2)))
    make_trainer(tmp_path).fit(resumed, data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    end, again = whole.adapters.state_dict(), resumed.adapters.state_dict()
    assert end.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in end.items())


def test_each_evaluation_set_meets_its_own_adapter(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    singles = [fit_alone(tiny_config, index, tmp_path, max_steps=2)[0] for index in range(2)]
    task = make_task(tiny_config, BANK)
    data = SceneBank([OwnScenes(0), OwnScenes(1)])
    make_trainer(tmp_path, max_steps=2).fit(task, data)
    first, second = make_trainer(tmp_path).validate(task, data, verbose=False)
    for index, (found, name) in enumerate(((first, "val"), (second, "adapter_1"))):
        (expected,) = make_trainer(tmp_path).validate(singles[index], OwnScenes(index), verbose=False)
        assert expected
        for key, value in expected.items():
            own = found[key.replace("val/", f"{name}/")]
            assert own == pytest.approx(value, rel=1e-5, abs=1e-7, nan_ok=True), key


def test_every_adapter_is_exported_and_has_its_loss_in_the_log(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    task = make_task(tiny_config, BANK)
    logger = CSVLogger(tmp_path, name=None, version="log")
    trainer = make_trainer(tmp_path, max_steps=1, logger=logger, log_every_n_steps=1, callbacks=[AdapterExport()])
    trainer.fit(task, SceneBank([OwnScenes(0), OwnScenes(1)]))
    for index in range(2):
        updates, _ = load_adapter_updates(tmp_path / "log" / "adapter" / f"adapter_{index}")
        with task.adapters.only(index):
            assert all(torch.equal(update.B, updates[path].B) for path, update in task.adapters.updates().items())
    logged = trainer.logged_metrics
    mean = (logged["train/loss_adapter_0"] + logged["train/loss_adapter_1"]) / 2
    torch.testing.assert_close(logged["train/loss"], mean)
    assert logged["train/loss_adapter_0"] != logged["train/loss_adapter_1"]


class SharedScale(GeometryTask):
    """A task with a number of its own that it trains."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.factor = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def compute_loss(self, predictions: Predictions, batch: SceneBatch) -> LossTerms:
        terms = super().compute_loss(predictions, batch)
        return LossTerms(terms.total * self.factor, terms.parts)


def test_what_would_join_the_adapters_is_refused(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    data = SceneBank([OwnScenes(0), OwnScenes(1)])
    with pytest.raises(ConfigError, match="factor"):
        make_trainer(tmp_path).fit(make_task(tiny_config, BANK, SharedScale), data)
    with pytest.raises(ConfigError, match="recent"):
        make_trainer(tmp_path).fit(make_task(tiny_config, BANK, PlanarOrRealTask), data)
    with pytest.raises(ConfigError, match="Adafactor looks at whole tensors"):
        make_trainer(tmp_path).fit(make_task(tiny_config, BANK, optimizer=Adafactor), data)


def test_adapters_and_groups_of_scenes_must_be_equally_many(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    three = SceneBank([OwnScenes(index) for index in range(3)])
    with pytest.raises(ConfigError, match=r"2 adapter\(s\) but batches of 3 group"):
        make_trainer(tmp_path).fit(make_task(tiny_config, BANK), three)
    with pytest.raises(ConfigError, match=r"2 adapter\(s\) but batches of 1 group"):
        make_trainer(tmp_path).fit(make_task(tiny_config, BANK), OwnScenes(0))
    with pytest.raises(ConfigError, match=r"2 adapter\(s\) but batches of 1 group"):
        make_trainer(tmp_path).validate(make_task(tiny_config, BANK), OwnScenes(0))
    with pytest.raises(ConfigError, match=r"1 adapter\(s\) but batches of 3 group"):
        make_trainer(tmp_path).fit(make_task(tiny_config, LoRA(r=2)), three)


def test_members_of_different_length_or_batch_are_refused(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"equally many steps in an epoch, not \[3, 2\]"):
        make_trainer(tmp_path).fit(make_task(tiny_config, BANK), SceneBank([OwnScenes(0), OwnScenes(1, scenes=4)]))
    with pytest.raises(ConfigError, match=r"one size, not \[2, 1\]"):
        make_trainer(tmp_path).fit(
            make_task(tiny_config, BANK), SceneBank([OwnScenes(0), OwnScenes(1, batch_size=1, scenes=3)])
        )
    with pytest.raises(ConfigError, match="at least one"):
        SceneBank([])
