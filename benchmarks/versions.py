"""Compare the speed of this checkout with that of an older one: rendering, a step of an adapter's fit, mining.

    git worktree add ../older COMMIT
    python -m benchmarks versions ../older

One process for each checkout does the same work in turn (A B, B A, A B, ...). The time is the process's user CPU
seconds on one thread, which other work on the machine disturbs less than the clock. Each work also returns a number
that depends on all of its result, so that it can be seen whether both did the same.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch


def render() -> Callable[[], float]:
    """32 views of 112 x 112: 8 scenes of 15 objects and 2 lights with sharp shadows."""
    from lorasub.scenes.presets import SceneSampler
    from lorasub.scenes.ranges import GeometryRanges, LightingRanges, SceneRanges
    from lorasub.scenes.rendering.renderer import Renderer

    ranges = SceneRanges(geometry=GeometryRanges(count=(15, 15)), lighting=LightingRanges(count=(2, 2), soft=0.0))
    scenes = SceneSampler(attribute="all", num_views=4, ranges=ranges).sample(range(8))
    renderer = Renderer((112, 112), antialias=False)
    return lambda: float(renderer.render(scenes).rgb.double().mean())


def fit_step() -> Callable[[], float]:
    """Forward, loss, backward, clipping and AdamW of LoRA (r = 16, all of the blocks) on nano, 2 x 4 views, float32."""
    import lorasub as ls

    data = ls.SyntheticScenes(attribute="all", num_views=4, batch_size=2, image_size=112)
    batch = data.on_after_batch_transfer(data.train_sampler.sample([0, 1]), 0)
    config = ls.VGGT.from_preset("nano").config
    torch.manual_seed(0)
    task = ls.GeometryTask(backbone=ls.VGGT(config), adapter=ls.LoRA(r=16, targets="blocks")).train()
    trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)

    def step() -> float:
        prepared = task.prepare_batch(batch)
        loss = task.compute_loss(task.backbone(prepared.images), prepared).total.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


def mine() -> Callable[[], float]:
    """The subspace of 10 adapters of rank 16 in 8 layers of VGGT-1B's shapes."""
    import lorasub as ls

    torch.manual_seed(0)
    shapes = [(3072, 1024), (1024, 1024), (4096, 1024), (1024, 4096)] * 2
    adapters = [
        {
            f"layer{index}": ls.LowRankUpdate(torch.randn(out, 16), torch.randn(16, in_))
            for index, (out, in_) in enumerate(shapes)
        }
        for _ in range(10)
    ]
    return lambda: float(sum(layer.S.sum() for layer in ls.mine_subspace(adapters, dim=16).layers.values()))


WORK = {"render": render, "fit_step": fit_step, "mine": mine}


class Checkout:
    """A process that imports the package of one checkout and waits for orders."""

    def __init__(self, folder: Path, work: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(folder.resolve()), "OMP_NUM_THREADS": "1"}
        # -P: not this folder, so that only the checkout's package is seen
        command = [sys.executable, "-P", __file__, str(folder), "--work", work, "--worker"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def once(self) -> tuple[float, float]:
        """Do the work once: user CPU seconds, and the number that stands for its result."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print("go", file=self.process.stdin, flush=True)
        while not (line := self.process.stdout.readline()).startswith("done "):
            if not line:
                raise SystemExit(f"the process of {self.process.args} ended")
        _, seconds, result = line.split()
        return float(seconds), float(result)

    def end(self) -> None:
        """Close the process's input, which ends it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def work_to_order(name: str) -> None:
    """Do the work once for each line of the input."""
    import lorasub

    torch.set_num_threads(1)
    print(f"{name}: {lorasub.__file__}", file=sys.stderr, flush=True)
    once = WORK[name]()
    for _ in sys.stdin:
        started = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        result = once()
        print("done", resource.getrusage(resource.RUSAGE_SELF).ru_utime - started, result, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("older", type=Path, help="the checkout to compare with")
    parser.add_argument("--work", choices=WORK, nargs="+", default=list(WORK))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work_to_order(options.work[0])
        return
    from benchmarks.report import ratio, spread, summary, write_report

    results = {}
    for name in options.work:
        sides = {"older": Checkout(options.older, name), "this": Checkout(Path(__file__).parents[1], name)}
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        outcome: dict[str, float] = {}
        for index in range(-1, options.rounds):  # the round -1 warms up
            for side in sides if index % 2 == 0 else reversed(sides):
                taken, value = sides[side].once()
                if index < 0:
                    outcome[side] = value
                else:
                    seconds[side].append(taken)
        for checkout in sides.values():
            checkout.end()
        found = ratio(seconds["this"], seconds["older"])
        results[name] = {"ratio": found, "user_seconds": seconds, "results": outcome}
        print(f"{name}: this / older {spread(found)}", flush=True)
        for side in sides:
            print(f"  {side:<5} {summary(seconds[side])['median']:.2f} s; result {outcome[side]:.9g}", flush=True)
    write_report(options.json, "versions", results)


if __name__ == "__main__":
    main()
