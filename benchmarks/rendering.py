"""Views per second of the renderer: over image sizes, quality settings, objects and lights.

    python -m benchmarks rendering
    python -m benchmarks rendering --json out.json

Every figure is the median over interleaved rounds, so that a machine whose speed drifts treats all rows alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import write_report
from lorasub.scenes.description import SceneDescription
from lorasub.scenes.presets import SceneSampler
from lorasub.scenes.ranges import GeometryRanges, LightingRanges, SceneRanges
from lorasub.scenes.rendering.renderer import Renderer

SCENES, VIEWS = 8, 4


def scenes(objects: int, lights: int, count: int = SCENES) -> SceneDescription:
    """Scenes with a fixed number of objects and of shadowed, sharp lights."""
    ranges = SceneRanges(
        geometry=GeometryRanges(count=(objects, objects)), lighting=LightingRanges(count=(lights, lights), soft=0.0)
    )
    return SceneSampler(attribute="all", num_views=VIEWS, ranges=ranges).sample(range(count))


def cases() -> list[dict[str, Any]]:
    """One row each: what differs from 112 x 112 pixels, 15 objects, 2 lights, plain quality."""
    base = {"size": 112, "objects": 15, "lights": 2, "antialias": False, "scenes": SCENES}
    changes: list[dict[str, Any]] = [
        {},
        {"antialias": True},
        {"objects": 5},
        {"objects": 25},
        {"lights": 1},
        {"lights": 4},
        {"size": 56},
        {"size": 224, "scenes": 4},
        {"size": 518, "scenes": 1},
    ]
    return [{**base, **change} for change in changes]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = cases()
    work = []
    for row in rows:
        renderer = Renderer((row["size"],) * 2, antialias=row["antialias"])
        described = scenes(row["objects"], row["lights"], row["scenes"])
        started = time.perf_counter()
        renderer.render(described)  # warm-up
        row["first_seconds"] = time.perf_counter() - started
        work.append((renderer, described, []))
    for _ in range(options.rounds):
        for renderer, described, seconds in work:
            started = time.perf_counter()
            renderer.render(described)
            seconds.append(time.perf_counter() - started)
    print(f"{options.threads} threads, torch {torch.__version__}, load before {os.getloadavg()[0]:.1f}")
    heads = ("size", "objects", "lights", "antialias")
    print(" ".join(f"{head:>9}" for head in (*heads, "views/s", "first s")))
    for row, (_, _, seconds) in zip(rows, work, strict=True):
        row["views_per_second"] = row["scenes"] * VIEWS / statistics.median(seconds)
        figures = f"{row['views_per_second']:>9.1f} {row['first_seconds']:>9.1f}"
        print(" ".join(f"{row[head]!s:>9}" for head in heads), figures)
    write_report(options.json, "rendering", {"rows": rows})


if __name__ == "__main__":
    main()
