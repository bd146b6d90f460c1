"""Everything worth measuring on a GPU, within a time limit, as one JSON file and a table.

    python -m benchmarks.gpu --json gpu.json                    # some seven minutes on one card
    python -m benchmarks.gpu --parts rates vggt --views 4 8
    python -m benchmarks.gpu --rehearse                         # seconds on a CPU, to see that it runs

The card's own rates come first, so that everything else can be told as a share of them. The file is written again
after every row: what was measured is there even if the machine goes away. Parts that begin after the limit are left out
and named.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import vggt_steps
from benchmarks.report import write_report
from lorasub.files import read_json

ROOT = Path(__file__).resolve().parents[2]
#: Other benchmarks: their words on a card, and in a rehearsal.
OTHERS = {
    "pretraining": (
        ["pretraining", "--config", "configs/pretrain_nano_gpu.yaml", "--steps", "100"],
        ["pretraining", "--config", "configs/continue_nano.yaml", "--steps", "1", "--skip", "1"],
    ),
    "renderer": (["rendering", "--rounds", "3"], ["rendering", "--rounds", "1"]),
    "bank": (
        ["adapter_bank", "--device", "cuda", "--counts", "4", "8", "--rounds", "5"],
        ["adapter_bank", "--counts", "2", "--rounds", "1", "--no-memory"],
    ),
}
PARTS = ("rates", "vggt", *OTHERS)


def rates(device: torch.device, rehearse: bool) -> dict[str, float]:
    """The card's own rates: what everything else is a share of."""
    found = {
        "product_flops": vggt_steps.product_rate(device, 256 if rehearse else 8192),
        "copy_bytes": vggt_steps.copy_rate(device, 2**20 if rehearse else 2**31),
    }
    print(f"bfloat16 product {found['product_flops'] / 1e12:.0f} TFLOP/s, copy {found['copy_bytes'] / 1e9:.0f} GB/s")
    return found


def vggt(
    results: dict[str, Any], options: argparse.Namespace, save: Callable[[], None], left: Callable[[], float]
) -> None:
    """Steps of VGGT-1B, case by case."""
    preset, size, rounds = ("nano", 112, 1) if options.rehearse else ("vggt-1b", 518, 5)
    product = results.get("rates", {}).get("product_flops")
    print(f"{'':<15}{'views':>6}{'s a step':>10}{'images/s':>10}{'TFLOP/s':>9}{'share':>7}{'GiB':>7}")
    for case in options.cases:
        if left() <= 0:
            results.setdefault("left_out", []).append(f"vggt {case}")
            continue
        views = [1, 2] if options.rehearse else options.views
        for row in vggt_steps.measure(
            case, preset=preset, views=views, size=size, rounds=rounds, device=options.device
        ):
            results.setdefault("vggt", []).append(row)
            save()
            print(line(row, product), flush=True)


def line(row: dict[str, Any], product: float | None) -> str:
    """A row for people."""
    head = f"{row['case']:<15}{row['views']:>6}"
    if row.get("out_of_memory"):
        return f"{head}  out of memory"
    rate = row["flops"] / row["seconds"]
    share = "-" if product is None else f"{rate / product:.0%}"
    peak = "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.1f}"
    return f"{head}{row['seconds']:>10.3f}{row['views'] / row['seconds']:>10.1f}{rate / 1e12:>9.1f}{share:>7}{peak:>7}"


def other(name: str, rehearse: bool, limit: float) -> Any:
    """Another benchmark in a process of its own; what it printed is shown, its results are returned."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        words = [sys.executable, "-m", "benchmarks", *OTHERS[name][rehearse], "--json", str(path)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(words, cwd=ROOT, timeout=limit, check=False)
            if done.returncode == 0:
                return read_json(path)["results"]
            return {"failed": done.returncode}
        return {"failed": f"not done after {limit:.0f} s"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cases", nargs="+", choices=vggt_steps.CASES, default=list(vggt_steps.CASES))
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=440.0, help="no part begins after that")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, on a CPU if need be")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.device.type == "cpu" and not options.rehearse:
        raise SystemExit("there is no GPU here; --rehearse runs everything with tiny sizes on the CPU")
    torch.set_float32_matmul_precision("high")
    started, results = time.perf_counter(), dict[str, Any]()

    def left() -> float:
        return float(options.seconds) - (time.perf_counter() - started)

    def save() -> None:
        write_report(options.json, "gpu", results)

    for part in options.parts:
        if left() <= 0:
            results.setdefault("left_out", []).append(part)
        elif part == "rates":
            results["rates"] = rates(options.device, options.rehearse)
        elif part == "vggt":
            vggt(results, options, save, left)
        else:
            results[part] = other(part, options.rehearse, max(left(), 30.0))
        save()
    if left_out := results.get("left_out"):
        print(f"left out, since {options.seconds:.0f} s were over: {', '.join(left_out)}")


if __name__ == "__main__":
    main()
