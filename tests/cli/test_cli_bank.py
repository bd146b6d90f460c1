"""``lorasub fit`` with a bank against ``lorasub fit`` of each of its adapters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lorasub.cli.main import main
from lorasub.files import read_json, read_tensors

PARTITIONS = (0, 2)


def scenes(partition: int) -> dict[str, Any]:
    options = {"attribute": "geometry", "partition": partition, "num_views": 2, "image_size": 28, "batch_size": 2}
    more = {"num_scenes": 8, "val_scenes": 2, "antialias": False, "shadow_samples": 1}
    return {"class_path": "SyntheticScenes", "init_args": {**options, **more}}


def config(name: str, folder: Path, weights: Path, adapter: str, data: dict[str, Any]) -> Path:
    options = {"r": 2, "targets": ["blocks", "camera_head"]} | ({"count": 2} if adapter == "LoRABank" else {})
    content = {
        "seed_everything": 3,
        "run": {"folder": str(folder / "runs"), "name": name},
        "trainer": {
            "accelerator": "cpu",
            "precision": "32-true",
            "max_steps": 3,
            "val_check_interval": 3,
            "enable_progress_bar": False,
        },
        "panels": {"scenes": 0},
        "model": {
            "class_path": "GeometryTask",
            "init_args": {
                "backbone": {"class_path": "lorasub.VGGT.from_pretrained", "init_args": {"source": str(weights)}},
                "adapter": {"class_path": adapter, "init_args": options},
                # not AdamW: it makes a whole step of a gradient that is nothing but rounding
                "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05, "weight_decay": 0.05}},
            },
        },
        "data": data,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def bank(name: str, folder: Path, weights: Path, members: list[dict[str, Any]]) -> Path:
    return config(name, folder, weights, "LoRABank", {"class_path": "SceneBank", "init_args": {"members": members}})


def adapter_of(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "adapter_model.safetensors")


def test_a_bank_gives_the_adapters_of_single_fits(tiny_weights: Path, tmp_path: Path) -> None:
    """Starts and scenes included: three steps of SGD in float32, to 1e-5."""
    members = [scenes(partition) for partition in PARTITIONS]
    assert main(["fit", "--config", str(bank("bank", tmp_path, tiny_weights, members))]) == 0
    run = tmp_path / "runs" / "bank" / "0"
    metrics = read_json(run / "before_after.json")["metrics"]
    for index, partition in enumerate(PARTITIONS):
        name = f"single{partition}"
        path = config(name, tmp_path, tiny_weights, "LoRA", scenes(partition))
        assert main(["fit", "--config", str(path)]) == 0
        together, alone = (
            adapter_of(run / "adapter" / f"adapter_{index}"),
            adapter_of(tmp_path / "runs" / name / "0" / "adapter"),
        )
        assert together.keys() == alone.keys()
        assert max(value.abs().max() for key, value in alone.items() if "lora_B" in key) > 1e-3
        for key, value in alone.items():
            torch.testing.assert_close(together[key], value, rtol=0, atol=1e-5)
        own = read_json(tmp_path / "runs" / name / "0" / "before_after.json")["metrics"]["val/point_error"]
        found = metrics["val/point_error" if index == 0 else f"adapter_{index}/point_error"]
        assert found == pytest.approx(own, rel=1e-4)


def test_the_checkpoint_of_a_bank_is_tested_member_by_member(tiny_weights: Path, tmp_path: Path) -> None:
    members = [scenes(partition) for partition in PARTITIONS]
    path = bank("bank", tmp_path, tiny_weights, members)
    assert main(["fit", "--config", str(path)]) == 0
    checkpoint = tmp_path / "runs" / "bank" / "0" / "checkpoints" / "last.ckpt"
    data = tmp_path / "data.yaml"
    content = {"data": {"class_path": "SceneBank", "init_args": {"members": members}}}
    data.write_text(yaml.safe_dump(content), encoding="utf-8")
    words = [f"--ckpt_path={checkpoint}", f"--config={data}", f"--run.folder={tmp_path / 'runs'}", "--run.name=test"]
    assert main(["test", *words, "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]) == 0
    assert set(read_json(tmp_path / "runs" / "test" / "0" / "results.json")["sets"]) == {"test", "adapter_1"}


@pytest.mark.ddp
def test_two_processes_find_the_bank_of_one_with_the_doubled_batch(
    repository: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    def fit(name: str, batch_size: int, *words: str) -> Path:
        members = [scenes(partition) for partition in PARTITIONS]
        for member in members:
            member["init_args"] |= {"num_scenes": 16, "val_scenes": 4, "batch_size": batch_size}
        path = bank(name, tmp_path, tiny_weights, members)
        command = [sys.executable, "-m", "lorasub.cli.main", "fit", "--config", str(path), *words]
        command += ["--model.optimizer=SGD", "--model.optimizer.lr=0.05", "--trainer.precision=32-true"]
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, done.stderr[-3000:]
        return tmp_path / "runs" / name / "0" / "adapter"

    alone = fit("alone", 4)
    together = fit("together", 2, "--trainer.devices=2", "--trainer.strategy=ddp")
    for index in range(2):
        one, two = adapter_of(alone / f"adapter_{index}"), adapter_of(together / f"adapter_{index}")
        assert max(value.abs().max() for key, value in one.items() if "lora_B" in key) > 1e-4
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=2e-3, atol=2e-6)
