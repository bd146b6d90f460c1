"""Memory of fits of VGGT-1B and other backbones, over views and methods: COUNTED from shapes, not measured.

    python -m benchmarks memory
    python -m benchmarks memory --model da3-large --sizes 504
    python -m benchmarks memory --views 1 2 4 --methods lora full --json memory.json

The same counting as ``lorasub fit --estimate``; ``lorasub/training/memory.py`` says what it holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.models import MODELS, on_meta
from benchmarks.report import write_report
from lorasub import VGGT, AdapterSpec, DepthAnything3, FullFineTuning, GeometryTask, LoRA, RandomBasis, estimate_memory

METHODS: dict[str, Callable[[], AdapterSpec]] = {
    "lora": lambda: LoRA(r=16),
    "projected": lambda: RandomBasis(dim=64),
    "full": lambda: FullFineTuning(targets="blocks"),
}
GIB = 2**30


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="vggt-1b")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--sizes", type=int, nargs="+", default=[518], help="square images")
    parser.add_argument("--float32", action="store_true", help="without bfloat16 autocast")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing, one view to a chunk")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for method in options.methods:
        backbone = on_meta(options.model)
        with torch.device("meta"):
            task = GeometryTask(backbone, METHODS[method]())
        if options.checkpointing:
            if not isinstance(backbone, VGGT | DepthAnything3):
                parser.error(f"{options.model} has no gradient checkpointing")
            backbone.gradient_checkpointing, backbone.frames_per_chunk = True, 1
        for size in options.sizes:
            for views in options.views:
                found = estimate_memory(
                    task,
                    scenes=1,
                    views=views,
                    image_size=(size, size),
                    autocast=None if options.float32 else torch.bfloat16,
                )
                rows.append({"method": method, "size": size, "views": views, **found.to_dict()})
                print(
                    f"{method:<10} {size:>4} px {views:>3} views: weights {sum(found.weights.values()) / GIB:6.2f}  "
                    f"gradients {found.gradients / GIB:6.2f}  optimizer {found.optimizer / GIB:6.2f}  "
                    f"kept {found.activations.saved / GIB:7.2f}  peak {found.activations.peak / GIB:7.2f}  "
                    f"total {found.total / GIB:7.2f} GiB",
                    flush=True,
                )
    write_report(options.json, "memory", {"counted": True, "rows": rows})


if __name__ == "__main__":
    main()
