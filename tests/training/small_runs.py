"""Fits of a tiny backbone whose steps take milliseconds, and what they leave."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lorasub.cli.main import main
from lorasub.files import read_tensors

GEOMETRY = Path(__file__).resolve().parents[2] / "configs" / "geometry.yaml"
DATA = [
    "--data.image_size=28",
    "--data.num_scenes=8",
    "--data.val_scenes=2",
    "--data.num_views=2",
    "--data.batch_size=2",
]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
NO_PICTURES = ["--panels.scenes=0", "--figures.scenes=0", "--overlap.references={}"]


class PressCtrlC(Callback):
    """Sends this process the signal of Ctrl-C while a step is being done."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: object) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def words(weights: Path, *more: str) -> list[str]:
    """The words of ``fit`` for a tiny backbone."""
    tiny = ["--model.backbone=lorasub.VGGT.from_pretrained", f"--model.backbone.source={weights}"]
    return [f"--config={GEOMETRY}", *tiny, *DATA, *QUIET, *NO_PICTURES, *more]


def fit(weights: Path, *more: str) -> int:
    """Run ``fit`` in the working folder."""
    return main(["fit", *words(weights, *more)])


def adapter(run: Path) -> dict[str, torch.Tensor]:
    """The tensors of a run's adapter."""
    return read_tensors(run / "adapter" / "adapter_model.safetensors")


def same_bits(first: Path, second: Path) -> bool:
    """Whether two runs' adapters are equal, bit for bit."""
    one, two = adapter(first), adapter(second)
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())
