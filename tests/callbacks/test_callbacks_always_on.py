"""What every run leaves behind, whether it is started from Python or from the command line."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from scene_examples import random_scenes
from torch.utils.data import DataLoader

from lorasub.adapters import LoRA, load_adapter_updates
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.callbacks import FinalCheckpoint, ScenePanels
from lorasub.files import read_json
from lorasub.structures import SceneBatch
from lorasub.tasks import GeometryTask


class Scenes(LightningDataModule):
    """Four scenes to train on, two to look at; loaded as anybody would."""

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(range(4))

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(range(4, 6))

    test_dataloader = val_dataloader

    def _loader(self, seeds: range) -> DataLoader[Any]:
        scenes = [random_scenes(1, 2, (28, 28), seed=seed, dtype=torch.float32) for seed in seeds]
        return DataLoader(scenes, batch_size=2, collate_fn=SceneBatch.concatenate)  # type: ignore[arg-type]


def make_task(config: VGGTConfig) -> GeometryTask:
    return GeometryTask(VGGT(config), LoRA(r=2, targets="blocks"))


def make_trainer(folder: Path, **options: Any) -> Trainer:
    return Trainer(
        **{
            "accelerator": "cpu",
            "max_steps": 3,
            "logger": CSVLogger(folder, name=None, version="run"),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "log_every_n_steps": 1,
            **options,
        }
    )


def test_a_fit_and_a_test_from_python_leave_adapter_tables_and_figures(
    tiny_config: VGGTConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task, folder = make_task(tiny_config), tmp_path / "run"
    trainer = make_trainer(tmp_path)
    with caplog.at_level(logging.INFO, "lorasub"):
        trainer.fit(task, Scenes())
    updates, _ = load_adapter_updates(folder / "adapter")
    assert set(updates) == set(task.adapters.layers)
    assert list((folder / "figures").glob("val_0_step*.png"))
    assert "frozen" in caplog.text
    assert "before" in caplog.text
    trainer.test(task, Scenes(), verbose=False)
    assert list((folder / "figures").glob("test_*_depth.png"))
    results = read_json(folder / "results.json")
    assert len(results["sets"]["test"]["scenes"]) == 2


@pytest.mark.parametrize("interval", [2, 100])
def test_before_and_after_are_those_of_the_first_and_of_the_last_step(
    tiny_config: VGGTConfig, tmp_path: Path, interval: int
) -> None:
    """Three steps, validated after the second only, and never on the way."""
    task = make_task(tiny_config)
    quiet = make_trainer(tmp_path / "quiet", logger=False)
    (before,) = quiet.validate(task, Scenes(), verbose=False)
    options = {"val_check_interval": interval, "check_val_every_n_epoch": None}
    make_trainer(tmp_path, callbacks=[ScenePanels(scenes=0)], **options).fit(task, Scenes())
    (after,) = quiet.validate(task, Scenes(), verbose=False)
    told = read_json(tmp_path / "run" / "before_after.json")
    assert (told["step"], told["steps"]) == (3, 3)
    assert len(told["metrics"]) > 5
    for name, values in told["metrics"].items():
        for found, expected in ((values["before"], before[name]), (values["after"], after[name])):
            assert math.isclose(found, expected, rel_tol=1e-5, abs_tol=1e-6) if found is not None else True, name


def test_without_a_folder_of_its_own_a_run_leaves_nothing(
    tiny_config: VGGTConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_trainer(tmp_path, logger=False).fit(make_task(tiny_config), Scenes())
    make_trainer(tmp_path, fast_dev_run=1, logger=None).fit(make_task(tiny_config), Scenes())
    assert list(tmp_path.iterdir()) == []
    make_trainer(tmp_path, logger=False, default_root_dir=tmp_path / "own").fit(make_task(tiny_config), Scenes())
    assert (tmp_path / "own" / "adapter" / "adapter_model.safetensors").is_file()


def test_what_the_trainer_has_already_stays_as_it_is(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    class OwnPanels(ScenePanels):
        pass

    class Other(Callback):
        pass

    trainer = make_trainer(tmp_path, callbacks=[Other(), OwnPanels(scenes=0)])
    trainer.fit(make_task(tiny_config), Scenes())
    kinds = [type(callback) for callback in trainer.callbacks]  # type: ignore[attr-defined]
    assert kinds[0] is FinalCheckpoint
    assert OwnPanels in kinds
    assert ScenePanels not in kinds
    assert len(kinds) == len(set(kinds))
    trainer.test(make_task(tiny_config), Scenes(), verbose=False)
    assert len(kinds) == len(trainer.callbacks)  # type: ignore[attr-defined]
    assert not list((tmp_path / "run" / "figures").glob("val*"))
