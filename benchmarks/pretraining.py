"""Scenes a second of pre-training through ``lorasub fit``, and where a step's time goes.

    python -m benchmarks pretraining                                             # configs/continue_nano.yaml
    python -m benchmarks pretraining --config configs/pretrain_nano_gpu.yaml --steps 200 --json pretraining.json
    python -m benchmarks pretraining --data.num_workers 4                        # the rest goes to ``lorasub fit``

The fit is the config's own, with its callbacks, but without validation, checkpoints and logger. The first steps fill
the pool and compile, and are not counted. The phases of a step, in this order:

waiting      until the loader has the step's descriptions, and they are on the device
rendering    the block that enters the pool, spread over the steps
scenes       the rest of what makes a batch: choice from the pool, colours, sensor
forward      normalisation, backbone, losses
backward
optimiser    clipping, the update, averaged weights, and everything else around the step

On a GPU the clock waits for the device at every boundary, so that phases add up; a fit without a clock overlaps them.
``describing`` is what one process takes to describe a scene, wherever that happens. ``--clock cpu`` counts the CPU time
of the process, which other work on the machine disturbs less: for a CPU, with one thread and no workers.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.report import synchronize, write_report
from lorasub.data.pretraining import PretrainingScenes
from lorasub.scenes.rendering.renderer import Renderer
from lorasub.structures import SceneBatch
from lorasub.training import prepare

ROOT = Path(__file__).parents[1]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PHASES = ("waiting", "rendering", "scenes", "forward", "backward", "optimiser")


class PhaseClock(Callback):
    """Adds up the seconds of each phase of each step.

    Args:
        data: whose batches are clocked.
        skipped: first steps that are not counted.
        now: the clock, in seconds.
    """

    def __init__(self, data: PretrainingScenes, skipped: int, now: Callable[[], float] = time.perf_counter) -> None:
        self.skipped = skipped
        self.now = now
        self.steps: list[dict[str, float]] = []
        self.scenes: list[int] = []
        self.views: list[int] = []
        self._now: dict[str, float] = defaultdict(float)
        self._last = now()
        make, render = data.on_after_batch_transfer, Renderer.render

        def clocked_make(batch: Any, dataloader_idx: int) -> SceneBatch:
            self.mark("waiting")
            made = make(batch, dataloader_idx)
            self.mark("scenes")
            return made

        def clocked_render(renderer: Renderer, *arguments: Any) -> Any:
            self.mark("scenes")
            layers = render(renderer, *arguments)
            self.mark("rendering")
            return layers

        data.on_after_batch_transfer = clocked_make  # type: ignore[method-assign]
        self.clocked_render = clocked_render

    def mark(self, phase: str) -> None:
        """The phase ends now."""
        synchronize()
        now = self.now()
        self._now[phase] += now - self._last
        self._last = now

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Forward is over."""
        self.mark("forward")

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Backward is over."""
        self.mark("backward")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The step is over."""
        self.mark("optimiser")
        self.steps.append(dict(self._now))
        self.scenes.append(len(batch) * trainer.world_size)
        self.views.append(len(batch) * batch.num_views * trainer.world_size)
        self._now.clear()

    def result(self) -> dict[str, Any]:
        """Scenes and views a second, and the mean milliseconds a step of each phase."""
        counted = self.steps[self.skipped :]
        seconds = [sum(step.values()) for step in counted]
        return {
            "scenes_per_second": sum(self.scenes[self.skipped :]) / sum(seconds),
            "views_per_second": sum(self.views[self.skipped :]) / sum(seconds),
            "scenes_per_step": statistics.fmean(self.scenes[self.skipped :]),
            "step_ms": 1e3 * statistics.fmean(seconds),
            "phases_ms": {phase: 1e3 * statistics.fmean(step.get(phase, 0.0) for step in counted) for phase in PHASES},
        }


def describing(data: PretrainingScenes, now: Callable[[], float], scenes: int = 64) -> float:
    """Milliseconds that one process takes to describe a scene of the first stage."""
    mixture = data.curriculum.mixtures[0]
    mixture.describe(range(4))
    started = now()
    mixture.describe(range(scenes))
    return 1e3 * (now() - started) / scenes


def measure(
    config: Path, steps: int, skipped: int, words: list[str], now: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Run a fit and clock it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"--config={config}", f"--run.folder={folder}", f"--trainer.max_steps={skipped + steps}"]
        settings += ["--trainer.limit_val_batches=0", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]
        settings += [
            "--ckpt_path=null",
            "--checkpoint.train_time_interval=1:00:00",
            f"--trainer.default_root_dir={folder}",
        ]
        run = prepare("fit", [*settings, *words])
        assert isinstance(run.data, PretrainingScenes)
        clock = PhaseClock(run.data, skipped, now)
        run.trainer.callbacks.append(clock)  # type: ignore[attr-defined]
        with mock.patch.object(Renderer, "render", clock.clocked_render):
            run.start()
        return {**clock.result(), "describing_ms": describing(run.data, now), "precision": str(run.trainer.precision)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "continue_nano.yaml")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--skip", type=int, default=2, help="first steps that are not counted")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--json", type=Path)
    options, words = parser.parse_known_args()
    found = measure(options.config, options.steps, options.skip, words, CLOCKS[options.clock])
    print(f"{found['scenes_per_second']:.2f} scenes/s, {found['views_per_second']:.1f} views/s, {found['precision']}")
    print(f"{found['step_ms']:.0f} ms a step of {found['scenes_per_step']:.0f} scenes:")
    for phase, milliseconds in found["phases_ms"].items():
        print(f"  {phase:<10}{milliseconds:9.1f} ms {milliseconds / found['step_ms']:6.1%}")
    print(f"describing: {found['describing_ms']:.2f} ms a scene in one process")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    write_report(options.json, "pretraining", {"device": where, "config": str(options.config), **found})


if __name__ == "__main__":
    main()
