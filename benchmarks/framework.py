"""What Lightning and lorasub's callbacks add to a training step: ``fit`` against a bare loop over the same step.

    python -m benchmarks framework                          # tiny, for milliseconds a step, and nano, for the share
    python -m benchmarks framework --models nano --rounds 60 --json framework.json

Both sides train an adapter of the same backbone on the same scenes, loaded by one loader each: normalise, forward,
loss, backward, clip, AdamW, schedule. ``fit`` runs with the callbacks, the logger, the checkpoints and the log interval
of the command line. After each of its steps one step of the bare loop is run, so that both see the same machine. A step
of ``fit`` lasts from one batch's start to the next one's, less the bare step in between: loading, hooks, logging and
checkpoints are all in it. ``--clock cpu`` counts the process's CPU time, which other work on the machine
disturbs less; it means something with one thread only. Synthetic scenes are made before, so that neither side waits for
a renderer.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from benchmarks.report import ratio, spread, summary, write_report
from lorasub import VGGT, GeometryTask, LoRA, SceneBatch, SyntheticScenes, VGGTConfig
from lorasub.callbacks import (
    AdapterExport,
    BeforeAfter,
    EvaluationFigures,
    FinalCheckpoint,
    PredictionWriter,
    ResultsWriter,
    ScenePanels,
    SubspaceOverlap,
)
from lorasub.data.loading import training_loader
from lorasub.tasks import warmup_cosine

#: So small that what is around the step is a large part of it.
TINY = VGGTConfig(
    image_size=28,
    embed_dim=16,
    num_heads=2,
    encoder_depth=1,
    num_pairs=4,
    taps=(0, 1, 2, 3),
    camera_heads=2,
    camera_depth=1,
    camera_iterations=2,
    dense_features=8,
    dense_channels=(8, 8, 8, 8),
)
#: name -> (backbone, image size)
MODELS: dict[str, tuple[Callable[[], VGGT], int]] = {
    "tiny": (lambda: VGGT(TINY), 28),
    "nano": (lambda: VGGT.from_preset("nano"), 112),
}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Scenes(LightningDataModule):
    """Scenes that were rendered before."""

    def __init__(self, scenes: list[SceneBatch], batch_size: int) -> None:
        super().__init__()
        self.scenes = scenes
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled, as every training loader."""
        return training_loader(
            self.scenes,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            seed=0,
            trainer=self.trainer,
            collate_fn=SceneBatch.concatenate,
        )


class BareLoop:
    """The same step in plain PyTorch."""

    def __init__(self, task: GeometryTask, scenes: list[SceneBatch], batch_size: int, steps: int) -> None:
        self.task = task.train()
        self.loader = DataLoader(
            scenes,  # type: ignore[arg-type]
            batch_size=batch_size,
            shuffle=True,
            drop_last=True,
            collate_fn=SceneBatch.concatenate,
        )
        self.batches = iter(self.loader)
        self.trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
        self.optimizer = task.make_optimizer()
        self.scheduler = warmup_cosine(self.optimizer, steps, 0.05)

    def step(self) -> None:
        """One batch."""
        try:
            batch = next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        batch = self.task.prepare_batch(batch)
        loss = self.task.compute_loss(self.task.backbone(batch.images), batch).total.mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.scheduler.step()


class InTurn(Callback):
    """Runs a bare step after each step of the fit, and takes the time of both."""

    def __init__(self, bare: BareLoop, clock: Callable[[], float]) -> None:
        self.bare = bare
        self.clock = clock
        self.fit_seconds: list[float] = []
        self.bare_seconds: list[float] = []
        self._started: float | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A step of the fit has come full circle."""
        now = self.clock()
        if self._started is not None:
            self.fit_seconds.append(now - self._started - self.bare_seconds[-1])
        self._started = now

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Now the other one."""
        started = self.clock()
        self.bare.step()
        self.bare_seconds.append(self.clock() - started)


def measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of both kinds of step."""
    make, size = MODELS[model]
    data = SyntheticScenes("geometry", num_scenes=8 * options.scenes, num_views=options.views, image_size=size)
    rendered = [
        data.on_after_batch_transfer(description, 0)
        for description in DataLoader(data.train_dataloader().dataset, collate_fn=lambda items: items[0])
    ]
    steps = options.rounds + options.warmup + 1

    def task() -> GeometryTask:
        torch.manual_seed(0)
        return GeometryTask(make(), LoRA(r=16, targets=["blocks", "heads"]))

    turn = InTurn(BareLoop(task(), rendered, options.scenes, steps), CLOCKS[options.clock])
    with tempfile.TemporaryDirectory() as folder:
        callbacks: list[Callback] = [
            # first among those at a batch's start and end, so that the others' time is the fit's
            turn,
            *(FinalCheckpoint(), ModelCheckpoint(save_last=True, every_n_train_steps=100), ScenePanels()),
            *(EvaluationFigures(), PredictionWriter(), SubspaceOverlap(), BeforeAfter(), AdapterExport()),
            *(ResultsWriter(), LearningRateMonitor(logging_interval="step")),
        ]
        trainer = Trainer(
            accelerator="cpu",
            max_steps=steps,
            gradient_clip_val=1.0,
            log_every_n_steps=10,
            logger=TensorBoardLogger(folder),
            callbacks=callbacks,
            enable_progress_bar=options.progress_bar,
            enable_model_summary=False,
        )
        trainer.fit(task(), Scenes(rendered, options.scenes))
    seconds = {"fit": turn.fit_seconds[options.warmup :], "bare": turn.bare_seconds[options.warmup : -1]}
    added = [one - other for one, other in zip(seconds["fit"], seconds["bare"], strict=True)]
    return {
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "added_seconds": summary(added),
        "fit_to_bare": ratio(seconds["fit"], seconds["bare"]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--scenes", type=int, default=2)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--progress_bar", action="store_true", help="with Lightning's progress bar")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    results = {}
    for model in options.models:
        results[model] = row = measure(model, options)
        medians = {name: 1000 * values["median"] for name, values in row["seconds"].items()}
        print(
            f"{model:<6} {options.scenes} x {options.views} views: fit {medians['fit']:.1f} ms a step, "
            f"bare {medians['bare']:.1f} ms; added {1000 * row['added_seconds']['median']:.1f} ms; "
            f"fit / bare {spread(row['fit_to_bare'])}",
            flush=True,
        )
    settings = {name: value for name, value in vars(options).items() if name != "json"}
    write_report(options.json, "framework", {"settings": settings, "models": results})


if __name__ == "__main__":
    main()
