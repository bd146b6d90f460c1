"""The tasks for downstream cases: what they measure, forget and remember."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from scene_examples import random_scenes
from torch.utils.data import DataLoader

from lorasub.adapters import LoRA
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.callbacks import ResultsWriter
from lorasub.data.loading import evaluation_loader
from lorasub.errors import ConfigError
from lorasub.metrics.results import Results
from lorasub.structures import SceneBatch
from lorasub.tasks import IndoorTask, PlanarOrRealTask, SceneTask, TransparentObjectsTask


class MaskedScenes(LightningDataModule):
    """Four scenes with masks and labels, to train and to test on."""

    def __init__(self) -> None:
        super().__init__()
        self.scenes = []
        for index in range(4):
            scene = random_scenes(1, 3, (28, 28), seed=index, dtype=torch.float32)
            masks = torch.zeros_like(scene.valid)
            masks[..., 8:20, 8:20] = True
            label = torch.tensor([index % 2])
            self.scenes.append(scene.replace(scene_ids=(f"{index}",), object_masks=masks, labels=label))

    def train_dataloader(self) -> DataLoader[Any]:
        return self.test_dataloader()

    def val_dataloader(self) -> DataLoader[Any]:
        return self.test_dataloader()

    def test_dataloader(self) -> DataLoader[Any]:
        return evaluation_loader(self.scenes, batch_size=2, trainer=self.trainer, collate_fn=SceneBatch.concatenate)  # type: ignore[arg-type]


def run(task: SceneTask, folder: Path, steps: int = 0) -> Results:
    settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = Trainer(
        default_root_dir=folder,
        callbacks=[ResultsWriter()],
        max_steps=steps,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        **settings,
    )
    data = MaskedScenes()
    if steps:
        trainer.fit(task, data)
    trainer.test(task, data, verbose=False)
    return Results.load(folder)


def backbone(config: VGGTConfig) -> VGGT:
    torch.manual_seed(5)
    return VGGT(config)


def test_transparent_objects_are_scored_inside_their_masks(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    found = run(TransparentObjectsTask(backbone(tiny_config)), tmp_path).sets["test"]
    names = {"abs_rel", "objects_abs_rel", "objects_delta@1.05", "background_rmse", "objects_point_error"}
    assert names <= found.overall.keys()
    for scene in found.scenes:
        parts = scene.weights["objects_abs_rel"] + scene.weights["background_abs_rel"]
        assert parts == scene.weights["abs_rel"] > scene.weights["objects_abs_rel"] > 0
        whole = sum(
            scene.values[f"{part}_abs_rel"] * scene.weights[f"{part}_abs_rel"] for part in ("objects", "background")
        )
        assert whole / parts == pytest.approx(scene.values["abs_rel"], rel=1e-4)  # one alignment for both parts


def test_indoor_depth_out_of_reach_is_forgotten(tiny_config: VGGTConfig) -> None:
    task = IndoorTask(max_depth=2.0, backbone=backbone(tiny_config), protocols=["default"])
    raw = random_scenes(dtype=torch.float32)
    raw = raw.replace(metric=torch.tensor([True, False]))
    batch = task.prepare_batch(raw)
    torch.testing.assert_close(batch.valid[0], raw.valid[0] & (raw.depth[0] <= 2.0))
    assert torch.equal(batch.valid[1], raw.valid[1])
    assert (batch.depth[0] * batch.scale[0]).max() <= 2.0 + 1e-5
    with pytest.raises(ConfigError, match="max_depth"):
        IndoorTask(max_depth=0.0, backbone=backbone(tiny_config))


def test_planar_or_real_learns_a_threshold_and_keeps_it(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    task = PlanarOrRealTask(window=8, backbone=backbone(tiny_config), adapter=LoRA(r=2, targets="global_blocks"))
    assert task.threshold != task.threshold  # nothing seen yet
    found = run(task, tmp_path, steps=2).sets["test"]
    seen = task.recent[~task.recent.isnan().any(dim=1)]
    assert sorted(seen[:, 1].tolist()) == [0, 0, 1, 1]
    assert seen[:, 0].min() <= task.threshold <= seen[:, 0].max()
    assert {"auroc", "accuracy"} <= found.overall.keys()
    assert 0 <= found.whole["auroc"] <= 1
    scores = [scene.values["relief_real" if int(scene.scene) % 2 else "relief_planar"] for scene in found.scenes]
    right = [
        (score > task.threshold) == bool(int(scene.scene) % 2)
        for score, scene in zip(scores, found.scenes, strict=True)
    ]
    assert found.overall["accuracy"] == pytest.approx(sum(right) / 4)
    assert "recent" in task._saved_names()


def test_the_window_keeps_the_latest(tiny_config: VGGTConfig) -> None:
    task = PlanarOrRealTask(window=3, backbone=backbone(tiny_config))
    task._remember(torch.tensor([0.1, 0.2, torch.nan]), torch.tensor([0, 1, 1]))
    task._remember(torch.tensor([0.3, 0.4, 0.5]), torch.tensor([-1, 0, 1]))
    torch.testing.assert_close(task.recent, torch.tensor([[0.2, 1.0], [0.4, 0.0], [0.5, 1.0]]))
    with pytest.raises(ConfigError, match="window"):
        PlanarOrRealTask(window=1, backbone=backbone(tiny_config))
