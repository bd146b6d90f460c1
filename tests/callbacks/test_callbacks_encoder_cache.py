"""The encoder's cache in fits: used, explained, taken away, and without influence on the result."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from scene_examples import random_scenes
from torch.utils.data import DataLoader

from lorasub.adapters import FullFineTuning, LoRA
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.callbacks import EncoderCache
from lorasub.data import SceneDataModule
from lorasub.data.loading import training_loader
from lorasub.errors import ConfigError
from lorasub.structures import SceneBatch
from lorasub.tasks import GeometryTask


class Scenes(SceneDataModule):
    images_change = False

    def __init__(self) -> None:
        super().__init__()
        self.scenes = [random_scenes(1, 2, (28, 28), seed=seed, dtype=torch.float32) for seed in range(4)]

    def train_dataloader(self) -> DataLoader[Any]:
        return training_loader(
            self.scenes,  # type: ignore[arg-type]
            batch_size=2,
            seed=0,
            trainer=self.trainer,
            collate_fn=SceneBatch.concatenate,
        )


def fit(config: VGGTConfig, callbacks: list[Any], adapter: Any = None, data: Any = None) -> GeometryTask:
    torch.manual_seed(1)
    task = GeometryTask(VGGT(config), adapter or LoRA(r=2, targets="blocks"))
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, data or Scenes())
    return task


def test_a_fit_ends_with_the_same_adapter_and_tells_its_share(
    tiny_config: VGGTConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = fit(tiny_config, []).adapters.state_dict()
    with caplog.at_level(logging.INFO, "lorasub"):
        task = fit(tiny_config, [EncoderCache(folder=str(tmp_path))])
    found = task.adapters.state_dict()
    moved = max(float(value.abs().max()) for name, value in expected.items() if "lora_B" in name)
    assert moved > 3e-3
    for name, value in expected.items():
        assert (found[name] - value).abs().max() < 0.1 * moved, name
    assert "67% of 24 images" in caplog.text
    assert len(list(tmp_path.rglob("*.safetensors"))) == 8
    assert task.backbone.aggregator.token_cache is None  # type: ignore[union-attr]
    # a later run on the same folder, as after an interruption, finds the very same tokens
    again = fit(tiny_config, [EncoderCache(folder=str(tmp_path), memory_mb=0)]).adapters.state_dict()
    assert all(torch.equal(again[name], value) for name, value in found.items())


@pytest.mark.parametrize("case", ["augmentation", "training"])
def test_it_says_why_it_is_off(tiny_config: VGGTConfig, caplog: pytest.LogCaptureFixture, case: str) -> None:
    data = Scenes()
    data.images_change = case == "augmentation"  # type: ignore[misc]
    adapter = FullFineTuning(targets="encoder") if case == "training" else None
    with caplog.at_level(logging.INFO, "lorasub"):
        fit(tiny_config, [EncoderCache()], adapter, data)
    says = {"augmentation": "augmentation changes the images", "training": "the encoder trains"}[case]
    assert f"not cached: {says}" in caplog.text
    assert "came from the cache" not in caplog.text


def test_a_fit_that_fails_leaves_no_cache_behind(tiny_config: VGGTConfig) -> None:
    class Broken(Scenes):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            raise ZeroDivisionError

    cache = EncoderCache()
    with pytest.raises(ZeroDivisionError):
        fit(tiny_config, [cache], data=Broken())
    assert cache._cache is None


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(ConfigError, match="negative"):
        EncoderCache(memory_mb=-1)
