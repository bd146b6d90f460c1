"""What the benchmarks share: interleaved timing, ratios with their spread, and one form of result file."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lorasub._version import __version__
from lorasub.files import write_json


def interleaved(cases: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of every case in every round.

    A round runs all cases one after the other, in turn forward and backward, so that a machine whose speed drifts
    treats them alike.

    Args:
        cases: name -> what to time. On a GPU each is waited for.
        rounds: how many times.
        warmup: rounds before that are not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for index in range(-warmup, rounds):
        for name in cases if index % 2 == 0 else reversed(list(cases)):
            synchronize()
            started = time.perf_counter()
            cases[name]()
            synchronize()
            if index >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return {"median": middle, "quartile_1": low, "quartile_3": high, "count": len(values)}


def ratio(seconds: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """``seconds / reference``, round by round, so that what slowed a whole round cancels."""
    return summary([one / other for one, other in zip(seconds, reference, strict=True)])


def spread(values: Mapping[str, float]) -> str:
    """A summary for people: ``0.97 (0.95 to 1.01)``, median and quartiles."""
    return f"{values['median']:.3g} ({values['quartile_1']:.3g} to {values['quartile_3']:.3g})"


def machine() -> dict[str, Any]:
    """Where this is measured."""
    model = platform.processor()
    if (info := Path("/proc/cpuinfo")).is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": model,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "lorasub": __version__,
    }


def write_report(path: Path | None, name: str, results: Any) -> None:
    """Write results with what they are of.

    Args:
        path: the JSON file; None writes nothing.
        name: of the benchmark.
        results: plain values.
    """
    if path is not None:
        content = {
            "benchmark": name,
            "command": f"{sys.argv[0]} {shlex.join(sys.argv[1:])}".strip(),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "results": results,
        }
        write_json(path, content)
