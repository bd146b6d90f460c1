"""fit, test and predict as a user runs them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
import yaml
from lightning.pytorch import LightningDataModule

from lorasub.cli.main import main
from lorasub.errors import ConfigError
from lorasub.files import read_json, read_tensors
from lorasub.training.memory import batch_of
from lorasub.training.precision import precision_dtypes
from lorasub.training.runner import mixed_seed

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.precision=32-true",
    "--trainer.enable_progress_bar=false",
    "--data.image_size=28",
]


def tiny(weights: Path) -> list[str]:
    """The configs' backbone replaced by one whose steps take milliseconds."""
    return ["--model.backbone=lorasub.VGGT.from_pretrained", f"--model.backbone.source={weights}"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_config_says_how_it_is_run_and_runs(
    config: Path, real_data: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = config.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"--config configs/{config.name}" in text
    words = ["fit", "--config", str(config), *SMALL, *tiny(tiny_weights), "--trainer.fast_dev_run=1"]
    if "members:" in text:  # data modules in a data module are not reached by flags
        words.remove("--data.image_size=28")
    if "stages:" in text:
        words += ["--data.pool=1", "--data.renewed=1", "--data.val_scenes=2", "--data.num_views=2", small_stages(text)]
    if "num_workers:" in text:
        words += ["--data.num_workers=2"]
    if "base_folder:" in text:
        words += [f"--data.base_folder={real_data}"]
    if "root: ???" in text:
        words += [f"--data.root={real_data / '7scenes_redkitchen'}", "--data.batch_size=2"]
    assert main(words) == 0
    assert list(tmp_path.iterdir()) == []  # a quick check leaves nothing behind


def small_stages(text: str) -> str:
    """The stages of a config as they are, with few scenes of few pixels."""
    stages = yaml.safe_load(text)["data"]["init_args"]["stages"]
    few = {"image_size": 28, "batch_size": 2, "views": [2, 2], "rendered_views": 2}
    return f"--data.stages={json.dumps([stage | few for stage in stages])}"


def test_fit_test_predict(repository: Path, tiny_weights: Path, tmp_path: Path) -> None:
    common = [f"--run.folder={tmp_path}", *SMALL]
    sizes = ["--data.num_scenes=8", "--data.val_scenes=2", "--data.num_views=2", "--data.batch_size=2"]
    config = str(repository / "configs" / "geometry.yaml")
    steps = ["--trainer.max_steps=4", "--trainer.val_check_interval=2"]
    assert main(["fit", "--config", config, *tiny(tiny_weights), *common, *sizes, *steps]) == 0

    run = tmp_path / "geometry" / "0"
    assert {path.name for path in run.iterdir()} >= {"config.yaml", "adapter", "checkpoints", "figures"}
    assert any(path.name.startswith("events.out") for path in run.iterdir())
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["class_path"].endswith("GeometryTask")
    told = read_json(run / "before_after.json")
    assert told["step"] == told["steps"] == 4
    assert {"val/abs_rel", "val/rotation_deg", "val/loss"} <= set(told["metrics"])

    # nothing but the checkpoint and the data: the task is built again from the checkpoint
    checkpoint = f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"
    scenes = ["--data=SyntheticScenes", "--data.attribute=geometry", *sizes]
    assert main(["test", checkpoint, *scenes, *common, "--run.name=test"]) == 0
    assert main(["predict", checkpoint, *scenes, *common, "--run.name=predict"]) == 0
    (scene, *_) = sorted((tmp_path / "predict" / "0" / "predictions").iterdir())
    names = {str(path.relative_to(scene)) for path in scene.rglob("*") if path.is_file()}
    assert names >= {"panel.png", "points.ply", "points.glb", "transforms.json", "trajectory.txt"}
    files = sorted((scene / "depth").glob("*.npy"))
    assert len(files) == 2
    depth = np.load(files[0])
    assert depth.shape == (28, 28)
    assert (depth > 0).all()
    cloud = trimesh.load(scene / "points.ply")
    assert 0.85 * 2 * 28 * 28 < len(cloud.vertices) <= 2 * 28 * 28


def test_a_second_run_gets_a_folder_of_its_own_and_another_start(
    repository: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    config = str(repository / "configs" / "geometry.yaml")
    sizes = ["--data.num_scenes=2", "--data.val_scenes=2", "--data.num_views=2", "--data.batch_size=2"]
    for partition in (0, 1, 0):
        words = ["--trainer.max_steps=1", "--trainer.val_check_interval=1", f"--data.partition={partition}"]
        words += [*SMALL, *tiny(tiny_weights), *sizes, "--panels.scenes=0"]
        assert main(["fit", "--config", config, f"--run.folder={tmp_path}", *words]) == 0
    first, other, again = (
        read_tensors(tmp_path / "geometry" / version / "adapter" / "adapter_model.safetensors")
        for version in ("0", "1", "2")
    )
    name = next(name for name in first if "lora_A" in name and "blocks" in name)
    assert not torch.allclose(first[name], other[name], atol=1e-3)  # a step of Adam moves each entry by 1e-3 at most
    assert all(torch.equal(value, again[key]) for key, value in first.items())


@pytest.mark.ddp
def test_two_processes_find_the_adapter_of_one_with_the_doubled_batch(
    repository: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    def fit(name: str, *words: str) -> dict[str, torch.Tensor]:
        command = [
            *(sys.executable, "-m", "lorasub.cli.main", "fit", "--config", repository / "configs" / "geometry.yaml"),
            *(f"--run.folder={tmp_path}", f"--run.name={name}", *SMALL, "--data.num_scenes=16", "--data.val_scenes=4"),
            *("--data.num_views=2", "--trainer.max_steps=3", "--trainer.val_check_interval=3", *tiny(tiny_weights)),
            *("--model.optimizer=SGD", "--model.optimizer.lr=0.05", "--panels.scenes=0", *words),
        ]
        done = subprocess.run(
            list(map(str, command)), cwd=repository, capture_output=True, text=True, check=False, timeout=280
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return read_tensors(tmp_path / name / "0" / "adapter" / "adapter_model.safetensors")

    alone = fit("alone", "--data.batch_size=4")
    together = fit("together", "--data.batch_size=2", "--trainer.devices=2", "--trainer.strategy=ddp")
    assert alone.keys() == together.keys()
    moved = [name for name in alone if "lora_B" in name and alone[name].abs().max() > 1e-4]
    assert len(moved) > 20
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=2e-3, atol=2e-6)


def test_seed_depends_on_which_data_but_not_on_how_it_is_loaded() -> None:
    data = {"class_path": "SyntheticScenes", "init_args": {"attribute": "geometry", "partition": 0, "batch_size": 4}}
    other = {"class_path": "SyntheticScenes", "init_args": {"attribute": "geometry", "partition": 1, "batch_size": 4}}
    slower = {"class_path": "SyntheticScenes", "init_args": {"attribute": "geometry", "partition": 0, "batch_size": 2}}
    assert mixed_seed(0, data) == mixed_seed(0, slower)
    assert len({mixed_seed(0, data), mixed_seed(0, other), mixed_seed(1, data)}) == 3
    grouped = {"class_path": "D", "init_args": {"root": "x", "decoding": {"num_workers": 0, "cache_mb": 1024.0}}}
    slower = {"class_path": "D", "init_args": {"root": "x", "decoding": {"num_workers": 4, "cache_mb": 64.0}}}
    mixed = {"class_path": "M", "init_args": {"parts": {"a": grouped}}}
    assert mixed_seed(0, grouped) == mixed_seed(0, slower)
    assert mixed_seed(0, mixed) == mixed_seed(0, {"class_path": "M", "init_args": {"parts": {"a": slower}}})
    # by default it is what it was before these settings had a group
    text = json.dumps([0, grouped["init_args"]], sort_keys=True)
    assert mixed_seed(0, grouped) == int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def test_estimate_prints_the_memory_and_makes_nothing(
    repository: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    config = str(repository / "configs" / "geometry.yaml")
    assert main(["fit", "--config", config, *tiny(tiny_weights), *SMALL, "--estimate"]) == 0
    printed = capsys.readouterr().out
    assert "2 x 4 views of 28 x 28" in printed
    assert all(word in printed for word in ("camera_head", "gradients", "optimizer", "activations", "total"))
    assert list(tmp_path.iterdir()) == []


def test_the_estimate_says_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match="LightningDataModule does not tell it"):
        batch_of(LightningDataModule())
    assert precision_dtypes("bf16-mixed") == precision_dtypes("bf16") == (torch.bfloat16, torch.float32)
    with pytest.raises(ConfigError, match="transformer-engine"):
        precision_dtypes("transformer-engine")
