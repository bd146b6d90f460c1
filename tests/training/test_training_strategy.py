"""A sharded fit as a cluster starts it: torchrun, one process a device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lorasub.cli.main import main
from lorasub.files import read_json, read_tensors
from lorasub.training.strategy import several_processes


@pytest.mark.slow
@pytest.mark.ddp
def test_fsdp2_under_torchrun(repository: Path, tiny_weights: Path, tmp_path: Path) -> None:
    tiny = ["--model.backbone=lorasub.VGGT.from_pretrained", f"--model.backbone.source={tiny_weights}"]
    common = [f"--run.folder={tmp_path}", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    common += ["--data.image_size=28", "--data.num_views=2", "--data.batch_size=1", "--data.val_scenes=3"]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *("-m", "lorasub.cli.main", "fit", "--config", str(repository / "configs" / "geometry.yaml"), *tiny, *common),
        *("--trainer.strategy=fsdp2", "--trainer.devices=2", "--trainer.max_steps=2", "--trainer.val_check_interval=2"),
        "--panels.scenes=0",
    ]
    done = subprocess.run(
        command,
        cwd=repository,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("precision: 32-true") == 1  # the first process alone says it
    run = tmp_path / "geometry" / "0"
    told = read_json(run / "before_after.json")
    assert told["step"] == 2
    exported = read_tensors(run / "adapter" / "adapter_model.safetensors")
    assert all(type(value) is torch.Tensor and value.isfinite().all() for value in exported.values())
    assert any("lora_B" in name and value.any() for name, value in exported.items())

    # the checkpoint is one file of the usual form: one process scores it
    scenes = ["--data=SyntheticScenes", "--data.attribute=geometry", *common]
    assert main(["test", f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}", *scenes, "--run.name=test"]) == 0


@pytest.mark.parametrize(
    ("settings", "several"),
    [
        ({"devices": 1}, False),
        ({"devices": 2}, True),
        ({"devices": "2"}, True),
        ({"devices": "0,1"}, True),
        ({"devices": [3]}, False),
        ({"devices": "auto", "accelerator": "cpu"}, False),
        ({"devices": 1, "num_nodes": 2}, True),
    ],
)
def test_several_processes(settings: dict[str, object], several: bool) -> None:
    assert several_processes(settings) is several
