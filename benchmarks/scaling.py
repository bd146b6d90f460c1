"""How a training step grows: over views, image size, rank, dimensions of a projected adapter, adapters at once.

    python -m benchmarks scaling
    python -m benchmarks scaling --axes views size --rounds 5 --json scaling.json --figure scaling.png

One thing is changed at a time, around one scene of 4 views of 112 x 112 and a LoRA of rank 16 in the blocks of nano.
Times are medians over interleaved rounds. Memory and operations are counted from shapes, as ``fit --estimate`` does.
``exponent`` is the slope between a row and the one before it on logarithmic scales: 1 is linear.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.adapters import objective
from benchmarks.report import interleaved, summary, write_report
from lorasub import VGGT, AdapterSpec, GeometryTask, LoRA, LoRABank, RandomBasis, estimate_memory, inject_adapters
from lorasub.figures import save_figure
from lorasub.figures.style import COLORS, MARKERS, new_figure


@dataclass(frozen=True)
class Setting:
    """What a training step is made of."""

    views: int = 4
    size: int = 112
    adapter: Callable[[], AdapterSpec] = lambda: LoRA(r=16)
    scenes: int = 1


#: Axis -> value on it -> setting.
AXES: dict[str, dict[int, Setting]] = {
    "views": {views: Setting(views=views) for views in (1, 2, 4, 8, 16)},
    "size": {size: Setting(size=size) for size in (56, 112, 168, 224)},
    "rank": {rank: Setting(adapter=lambda rank=rank: LoRA(r=rank)) for rank in (1, 4, 16, 64)},
    "dim": {dim: Setting(adapter=lambda dim=dim: RandomBasis(dim=dim)) for dim in (4, 16, 64, 128)},
    "adapters": {
        count: Setting(adapter=lambda count=count: LoRABank(count=count, r=16), scenes=count) for count in (1, 2, 4, 8)
    },
}


class Step:
    """A model that takes training steps of one setting."""

    def __init__(self, setting: Setting) -> None:
        torch.manual_seed(0)
        self.model = VGGT.from_preset("nano")
        inject_adapters(self.model, setting.adapter())
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-5)
        self.images = torch.rand(setting.scenes, setting.views, 3, setting.size, setting.size)

    def __call__(self) -> None:
        """Forward, backward, optimiser."""
        self.optimizer.zero_grad()
        objective(self.model(self.images)).backward()
        self.optimizer.step()


def counted(setting: Setting) -> tuple[int, int]:
    """Bytes and operations of a step."""
    with torch.device("meta"):
        task = GeometryTask(VGGT.from_preset("nano"), setting.adapter())
    found = estimate_memory(task, scenes=setting.scenes, views=setting.views, image_size=(setting.size, setting.size))
    return found.total, found.activations.flops


def measure(axis: str, rounds: int) -> list[dict[str, Any]]:
    """The rows of one axis."""
    seconds = interleaved({str(value): Step(setting) for value, setting in AXES[axis].items()}, rounds=rounds)
    rows: list[dict[str, Any]] = []
    for value, setting in AXES[axis].items():
        memory, flops = counted(setting)
        row = {"axis": axis, "value": value, "step": summary(seconds[str(value)]), "bytes": memory, "flops": flops}
        row["seconds"] = row["step"]["median"]
        if rows:
            apart = math.log(value / rows[-1]["value"])
            for name in ("seconds", "bytes", "flops"):
                row[f"{name}_exponent"] = math.log(row[name] / rows[-1][name]) / apart
        rows.append(row)
    return rows


def figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Time, memory and operations over each axis, each as a multiple of its first row."""
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    drawn, panels = new_figure(2.2 * len(axes) + 0.4, 2.6, 1, len(axes), sharey=True)
    for panel, axis in zip(panels, axes, strict=True):
        own = [row for row in rows if row["axis"] == axis]
        for number, (name, label) in enumerate((("seconds", "time"), ("bytes", "memory"), ("flops", "operations"))):
            values = [row[name] / own[0][name] for row in own]
            panel.plot([row["value"] for row in own], values, color=COLORS[number], marker=MARKERS[number], label=label)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        panel.set_xticks([row["value"] for row in own], [str(row["value"]) for row in own])
        panel.minorticks_off()
        panel.set_xlabel(axis)
    panels[0].set_ylabel("times the first")
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].legend(fontsize="small")
    save_figure(drawn, path, dpi=100)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    print(f"{'':<9} {'':>5}" + "".join(f" {head:>8} {'exponent':>8}" for head in ("ms", "MiB", "GFLOP")))
    for axis in options.axes:
        for row in measure(axis, options.rounds):
            rows.append(row)
            cells = [
                f"{row[name] * unit:>8.0f} {row.get(f'{name}_exponent', math.nan):>8.2f}"
                for name, unit in (("seconds", 1e3), ("bytes", 2.0**-20), ("flops", 1e-9))
            ]
            print(f"{axis:<9} {row['value']:>5} {' '.join(cells)}", flush=True)
    if options.figure:
        figure(rows, options.figure)
    write_report(options.json, "scaling", {"rows": rows})


if __name__ == "__main__":
    main()
