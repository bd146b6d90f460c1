"""n adapters fitted one after the other against one bank of n: time and memory of training steps.

    python -m benchmarks adapter_bank
    python -m benchmarks adapter_bank --counts 4 --rounds 5 --json bank.json

Both sides do the same work: forward, backward, clipping, AdamW, LoRA of rank 16 on every Linear of the frame and global
blocks, so many scenes for each adapter. A round takes n steps of a model with one LoRA, and one step of a model with a
bank of n; the ratio is taken round by round. Peak memory is that of steps in a process of its own, beyond what it held
before; what it held (weights, Python, torch) stands beside it. n processes at the same time would take n times both,
n fits one after the other what one takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.adapters import MODELS, RANK, Held, objective
from benchmarks.report import interleaved, ratio, spread, summary, write_report
from lorasub import AdapterBank, LoRA, LoRABank, inject_adapters

CLIP = 1.0


class Case:
    """A model with one LoRA, or with a bank of them.

    Args:
        count: how many adapters; 0 for one that is no bank.
        options: of the command line.
    """

    def __init__(self, count: int, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.model = MODELS[options.model]().to(options.device)
        spec = LoRABank(count=count, r=RANK, seeds=list(range(count))) if count else LoRA(r=RANK)
        self.adapters = inject_adapters(self.model, spec)
        self.trained = list(self.adapters.trainable_parameters().values())
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-5)
        shape = (max(count, 1) * options.scenes, options.views, 3, options.size, options.size)
        self.images = torch.rand(shape, device=options.device)

    def step(self) -> None:
        """Forward, backward, clipping, optimiser."""
        self.optimizer.zero_grad()
        (objective(self.model(self.images)) * self.adapters.count).backward()
        if isinstance(self.adapters, AdapterBank):
            self.adapters.clip_gradients(CLIP)
        else:
            torch.nn.utils.clip_grad_norm_(self.trained, CLIP)
        self.optimizer.step()


def memory(count: int, options: argparse.Namespace) -> dict[str, int]:
    """Bytes held before steps, and the most beyond that in them."""
    case = Case(count, options)
    held = Held(case.images.device)
    for _ in range(2):
        case.step()
    return {"held_bytes": held.before, "peak_bytes": held.peak()}


def memory_in_own_process(count: int, options: argparse.Namespace) -> dict[str, int]:
    """:func:`memory`, measured by a fresh process."""
    words = [sys.executable, "-m", "benchmarks.adapter_bank", "--one", str(count)]
    for option in ("model", "scenes", "views", "size", "threads", "device"):
        words += [f"--{option}", str(getattr(options, option))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"measuring the memory of {count} adapters failed:\n{done.stderr[-2000:]}")
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """One count of adapters: seconds of a round, scenes per second, and the ratio bank / separate."""
    alone, bank = Case(0, options), Case(count, options)

    def separate() -> None:
        for _ in range(count):
            alone.step()

    seconds = interleaved({"separate": separate, "bank": bank.step}, rounds=options.rounds)
    scenes = count * options.scenes
    return {
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "scenes_per_second": {name: scenes / summary(values)["median"] for name, values in seconds.items()},
        "bank_to_separate": ratio(seconds["bank"], seconds["separate"]),
    }


def table(rows: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{'n':>3}{'separate s':>12}{'bank s':>9}  {'bank / separate':<24}{'scenes/s':>16}{'peak MB':>16}"]
    for count, row in rows.items():
        seconds, speed = row["seconds"], row["scenes_per_second"]
        peaks = [f"{case['peak_bytes'] / 1e6:.0f}" for case in row.get("memory", {}).values()]
        lines.append(
            f"{count:>3}{seconds['separate']['median']:>12.2f}{seconds['bank']['median']:>9.2f}  "
            f"{spread(row['bank_to_separate']):<24}"
            f"{speed['separate']:>7.2f} to {speed['bank']:>5.2f}{' to '.join(peaks):>16}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="nano")
    parser.add_argument("--counts", nargs="+", type=int, default=[2, 4, 8], help="adapters in the bank")
    parser.add_argument("--scenes", type=int, default=2, help="of each adapter in a step")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave the peak memory out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one is not None:
        print(json.dumps(memory(options.one, options)))
        return
    rows = {str(count): measure(count, options) for count in options.counts}
    if options.memory:
        alone = memory_in_own_process(0, options)
        for count, row in rows.items():
            row["memory"] = {"separate": alone, "bank": memory_in_own_process(int(count), options)}
    print(f"{options.model}, {options.scenes} x {options.views} views of {options.size} for each of n adapters")
    print(table(rows), flush=True)
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "one")}
    write_report(options.json, "adapter_bank", {"settings": settings, "counts": rows})


if __name__ == "__main__":
    main()
