"""What a basis from gradients costs at VGGT-1B's size: COUNTED on tensors without storage, not measured.

    python -m benchmarks gradient_basis
    python -m benchmarks gradient_basis --views 1 4 8 --dim 64 --json gradient_basis.json

The pass itself runs (``visit_layers`` with ``LayerGradients``), on the meta device. Counted are

- ``pass``: operations of forward and backward of one scene, gradients of the blocks' weights alone;
- ``moments``: operations of G G^T and G^T G of all layers, for each gradient;
- memory: the weights, the moments, the largest gradient (no two are held at once), and what forward and backward hold.

A product and its sum are two operations. Seconds follow from rates that are given (``--pass_rate``, ``--moment_rate``,
in TFLOP/s; the first was measured for training steps on one H200, the second is assumed for float32 there). The leading
eigenvectors are found once, at the end: that is timed here in CPU time, for one side of each size, times their number.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.adapters import objective
from benchmarks.report import write_report
from lorasub import VGGT, FullFineTuning, GeometryTask, LayerGradients, estimate_memory
from lorasub.adapters.layer_pass import target_layers, visit_layers
from lorasub.subspaces.moment_basis import leading_eigenvectors

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Count:
    """What a basis from gradients costs.

    Attributes:
        layers: how many.
        views: of the scene.
        pass_flops: of forward and backward of one scene.
        moment_flops: of the products of all gradients of one scene with themselves.
        sides: size of a side -> how many there are.
        weight_bytes: of the model.
        moment_bytes: of both sides of all layers.
        gradient_bytes: of the largest layer.
        activation_bytes: most that forward and backward of one scene hold, under bfloat16 autocast.
    """

    layers: int
    views: int
    pass_flops: int
    moment_flops: int
    sides: dict[int, int]
    weight_bytes: int
    moment_bytes: int
    gradient_bytes: int
    activation_bytes: int

    @property
    def memory(self) -> int:
        """All of it at once."""
        return self.weight_bytes + self.moment_bytes + self.gradient_bytes + self.activation_bytes


def count(preset: str, *, views: int, size: int, targets: str = "blocks") -> Count:
    """Count a basis from gradients of a preset of VGGT, without storage.

    Args:
        preset: its name.
        views: of a scene.
        size: of square images.
        targets: which layers.
    """
    with torch.device("meta"):
        model = VGGT.from_preset(preset, heads=("camera", "depth"))
        images = torch.empty(1, views, 3, size, size)
    kept = LayerGradients(moments=True)
    flops = []
    for visit in (lambda layer, gradient: None, kept.add):
        with FlopCounterMode(display=False) as counter:
            visit_layers(model, (objective(model(images)) for _ in range(1)), targets=targets, gradient=visit)
        flops.append(counter.get_total_flops())
    layers = target_layers(model, targets)
    sides = [len(moment) for moments in (kept.output_moment, kept.input_moment) for moment in moments.values()]
    with torch.device("meta"):
        task = GeometryTask(model, FullFineTuning(targets=targets))
    memory = estimate_memory(task, scenes=1, views=views, image_size=(size, size), autocast=torch.bfloat16)
    return Count(
        layers=len(layers),
        views=views,
        pass_flops=flops[0],
        moment_flops=flops[1] - flops[0],
        sides=dict(Counter(sides)),
        weight_bytes=sum(memory.weights.values()),
        moment_bytes=sum(4 * n * n for n in sides),
        gradient_bytes=max(4 * layer.weight.numel() for layer in layers.values()),
        activation_bytes=memory.activations.peak,
    )


def decomposition_seconds(sides: dict[int, int], dim: int) -> float:
    """CPU seconds for the leading eigenvectors of all sides on this machine: one of each size is timed."""
    total = 0.0
    for n, number in sides.items():
        rows = torch.randn(2 * dim, n)
        started = time.process_time()
        leading_eigenvectors((rows.T @ rows).double(), dim)
        total += number * (time.process_time() - started)
    return total


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="vggt-1b")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--size", type=int, default=518, help="square images")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--scenes", type=int, default=256, help="of all attributes, one gradient each")
    parser.add_argument("--pass_rate", type=float, default=129.0)
    parser.add_argument("--moment_rate", type=float, default=40.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for views in options.views:
        found = count(options.preset, views=views, size=options.size)
        passes = options.scenes * found.pass_flops / options.pass_rate / 1e12
        moments = options.scenes * found.moment_flops / options.moment_rate / 1e12
        rows.append({**asdict(found), "memory": found.memory, "seconds_of_pass": passes, "seconds_of_moments": moments})
        print(
            f"{views:>2} views, {found.layers} layers: pass {found.pass_flops / 1e12:6.1f} TFLOP, moments "
            f"{found.moment_flops / 1e12:5.2f}; GiB: weights {found.weight_bytes / GIB:4.1f}, moments "
            f"{found.moment_bytes / GIB:4.1f}, gradient {found.gradient_bytes / GIB:5.3f}, activations "
            f"{found.activation_bytes / GIB:5.1f}, all {found.memory / GIB:5.1f}; {options.scenes} scenes: "
            f"{passes:5.0f} s pass + {moments:4.0f} s moments",
            flush=True,
        )
    seconds = decomposition_seconds(found.sides, options.dim)
    print(f"eigenvectors of {found.sides} sides, {options.dim} each, on this machine: {seconds:.0f} CPU seconds")
    rows[-1]["seconds_of_eigenvectors"] = seconds
    write_report(
        options.json, "gradient_basis", {"counted": True, "size": options.size, "scenes": options.scenes, "rows": rows}
    )


if __name__ == "__main__":
    main()
