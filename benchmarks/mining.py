"""Mining and overlap at the size of VGGT-1B: time, memory, and the dense implementation beside it.

    python -m benchmarks mining                  # all 192 layers, four attributes
    python -m benchmarks mining --blocks 4       # the first 4 blocks of each kind only, marked as such
    python -m benchmarks mining --json out.json

Adapters are drawn layer by layer as they are asked for, as they would be read from files; the time for that is counted
apart. The dense implementation forms the (out, in) matrices and takes an SVD of their mean in every iteration; one such
iteration is timed once for every shape of layer and EXTRAPOLATED to all layers and iterations.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import write_report
from lorasub.rng import subspace_generator
from lorasub.subspaces import LowRankUpdate, SubspaceBasis, mine_updates, overlap_matrix

#: (out, in) of the four linear layers of each of VGGT-1B's 24 frame and 24 global blocks.
SHAPES = {"attn.qkv": (3072, 1024), "attn.proj": (1024, 1024), "mlp.fc1": (4096, 1024), "mlp.fc2": (1024, 4096)}
BLOCKS = 24


class DrawnAdapter(Mapping[str, LowRankUpdate]):
    """An adapter of an attribute: half of its rank in the attribute's own subspace, half of its own.

    Attributes:
        wall: seconds spent drawing, which stands for reading and is no part of mining.
        cpu: seconds of CPU likewise.
    """

    wall = cpu = 0.0

    def __init__(self, attribute: str, index: int, r: int, shapes: Mapping[str, tuple[int, int]]) -> None:
        self.attribute, self.index, self.r, self.shapes = attribute, index, r, shapes

    def __getitem__(self, path: str) -> LowRankUpdate:
        start, start_cpu = time.perf_counter(), time.process_time()
        out, in_ = self.shapes[path]
        shared, own = (
            subspace_generator(0, self.attribute, path),
            subspace_generator(0, self.attribute, path, self.index),
        )
        half = self.r // 2
        B = [rng.standard_normal((out, n), dtype=np.float32) for rng, n in ((shared, half), (own, self.r - half))]
        A = [rng.standard_normal((n, in_), dtype=np.float32) for rng, n in ((shared, half), (own, self.r - half))]
        update = LowRankUpdate(
            torch.from_numpy(np.hstack(B)) / out**0.5, torch.from_numpy(np.vstack(A)) / in_**0.5, 2.0
        )
        DrawnAdapter.wall += time.perf_counter() - start
        DrawnAdapter.cpu += time.process_time() - start_cpu
        return update

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def layer_shapes(blocks: int) -> dict[str, tuple[int, int]]:
    """Layer path -> (out, in)."""
    return {
        f"aggregator.{stage}.{block}.{part}": shape
        for stage in ("frame_blocks", "global_blocks")
        for block in range(blocks)
        for part, shape in SHAPES.items()
    }


def dense_iteration(shape: tuple[int, int], k: int, r: int, dim: int) -> dict[str, float]:
    """Seconds of one iteration on full matrices in float64: mean, SVD, truncation, distances.

    ``wall`` is the faster of one thread and all threads; ``cpu`` is that of one thread, which other load hardly moves.
    """
    updates = [
        torch.randn(shape[0], r, dtype=torch.float64) @ torch.randn(r, shape[1], dtype=torch.float64) for _ in range(k)
    ]
    threads, walls, cpu = torch.get_num_threads(), [], 0.0
    for count in (threads, 1):
        torch.set_num_threads(count)
        start, start_cpu = time.perf_counter(), time.process_time()
        C = torch.stack(updates).mean(0)
        U, S, Vh = torch.linalg.svd(C, full_matrices=False)
        L = (U[:, :dim] * S[:dim]) @ Vh[:dim]
        _ = [float((L - D).square().sum()) for D in updates]
        walls.append(time.perf_counter() - start)
        cpu = time.process_time() - start_cpu
    torch.set_num_threads(threads)
    return {"wall": min(walls), "cpu": cpu}


def mine_all(
    args: argparse.Namespace, shapes: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, SubspaceBasis], dict[str, float]]:
    """Mine four attributes; the bases, and medians over them."""
    bases, seconds, cpu = {}, [], []
    for name in ("geometry", "texture", "camera", "light"):
        adapters = [DrawnAdapter(name, index, args.rank, shapes) for index in range(args.adapters)]
        DrawnAdapter.wall = DrawnAdapter.cpu = 0.0
        start, start_cpu = time.perf_counter(), time.process_time()
        bases[name] = mine_updates(adapters, dim=args.dim, attribute=name)
        seconds.append(time.perf_counter() - start - DrawnAdapter.wall)
        cpu.append(time.process_time() - start_cpu - DrawnAdapter.cpu)
    iterations = [len(layer.record.objective) for layer in bases["geometry"].layers.values() if layer.record]
    return bases, {
        "seconds_per_attribute": float(np.median(seconds)),
        "cpu_seconds_per_attribute": float(np.median(cpu)),
        "iterations_per_layer": float(np.mean(iterations)),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    shapes = layer_shapes(args.blocks)
    bases, mining = mine_all(args, shapes)
    start, start_cpu = time.perf_counter(), time.process_time()
    matrix = overlap_matrix(bases)
    overlap = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - start_cpu,
        "pairs": len(matrix.reports),
        "largest_absolute_z_of_phi": max(
            abs(mean.z)
            for pair in itertools.combinations(bases, 2)
            for side in ("output", "input")
            if (mean := matrix.reports[pair].mean("phi", side)) is not None
        ),
    }
    dense = {part: dense_iteration(shape, args.adapters, args.rank, args.dim) for part, shape in SHAPES.items()}
    passes = 2 * args.blocks * mining["iterations_per_layer"]
    dense_total = {clock: passes * sum(seconds[clock] for seconds in dense.values()) for clock in ("wall", "cpu")}
    return {
        "layers": len(shapes),
        "complete": args.blocks == BLOCKS,
        "adapters": args.adapters,
        "rank": args.rank,
        "dim": args.dim,
        "cores": os.cpu_count(),
        "load_before": args.load,
        "torch": torch.__version__,
        "mining": mining,
        "dense_seconds_per_iteration_and_layer": dense,
        "dense_seconds_extrapolated": dense_total,
        "times_faster": {
            "wall": dense_total["wall"] / mining["seconds_per_attribute"],
            "cpu": dense_total["cpu"] / mining["cpu_seconds_per_attribute"],
        },
        "overlap": overlap,
    }


def table(result: Mapping[str, Any]) -> str:
    """The figures for people."""
    mining, overlap, dense = result["mining"], result["overlap"], result["dense_seconds_extrapolated"]
    each = result["dense_seconds_per_iteration_and_layer"]
    rows = [
        ("mining, one attribute", mining["seconds_per_attribute"], mining["cpu_seconds_per_attribute"], "s"),
        ("dense, extrapolated", dense["wall"], dense["cpu"], "s"),
        ("times faster than dense", result["times_faster"]["wall"], result["times_faster"]["cpu"], ""),
        (f"overlap of {overlap['pairs']} pairs with nulls", overlap["seconds"], overlap["cpu_seconds"], "s"),
    ]
    lines = [
        f"{result['layers']} layers{'' if result['complete'] else ' (NOT the whole model)'}, k={result['adapters']}, "
        f"r={result['rank']}, d={result['dim']}, {result['cores']} cores, load before {result['load_before']:.1f}, "
        f"torch {result['torch']}",
        f"{'':32}{'wall':>10}{'CPU':>10}",
        *(f"{name:32}{wall:10.1f}{cpu:10.1f} {unit}" for name, wall, cpu, unit in rows),
        f"iterations per layer {mining['iterations_per_layer']:.1f}; peak memory {mining['peak_memory_gb']:.2f} GB "
        f"with all four bases kept; largest |z| of phi between these unrelated subspaces "
        f"{overlap['largest_absolute_z_of_phi']:.1f}",
        "dense iteration, one layer: " + ", ".join(f"{part} {s['wall']:.2f} s" for part, s in each.items()),
    ]
    return "\n".join(lines)


def main() -> None:
    """Run, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=10, help="k")
    parser.add_argument("--rank", type=int, default=16, help="r of each adapter")
    parser.add_argument("--dim", type=int, default=16, help="d of the subspace")
    parser.add_argument("--blocks", type=int, default=BLOCKS, help="frame and global blocks, 24 in VGGT-1B")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    args = parser.parse_args()
    args.load = os.getloadavg()[0]
    result = measure(args)
    print(table(result))
    write_report(args.json, "mining", result)


if __name__ == "__main__":
    main()
