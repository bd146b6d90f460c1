"""Where the time goes between ``lorasub fit`` and its first step: imports, settings, model.

    python -m benchmarks startup
    python -m benchmarks startup --rounds 9 --json startup.json

Each round is a fresh process, with files in the system's cache. More about the imports:
``python -X importtime -c "import lorasub.training"``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PHASES = {
    "python": "start Python (CPU time)",
    "torch": "import torch",
    "lightning": "import lightning.pytorch (brings torchmetrics)",
    "lorasub": "import lorasub.training (brings kornia)",
    "parsers": "make the command line's parser",
    "settings": "read the command line and the config",
    "objects": "make task, data and trainer; weights are read and hashed, adapters injected",
}


def phases(config: str, seconds_now: Callable[[], float]) -> dict[str, float]:
    """Seconds of each phase, in this process, which must not have imported anything yet."""
    seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def clock(name: str) -> Iterator[None]:
        started = seconds_now()
        yield
        seconds[name] = seconds_now() - started

    seconds["python"] = time.process_time()
    with clock("torch"):
        import torch  # noqa: F401
    with clock("lightning"):
        import lightning.pytorch  # noqa: F401
    with clock("lorasub"):
        from lorasub.training.parser import training_parser
        from lorasub.training.runner import make_run
        from lorasub.training.sources import read_sources
    with clock("parsers"):
        parser = training_parser("fit")
    with clock("settings"):
        words = ["--config", config, "--trainer.fast_dev_run=1", "--trainer.accelerator=cpu"]
        sources = read_sources("fit", parser, words)
    with clock("objects"):
        make_run("fit", parser, sources)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/geometry.yaml")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: other work disturbs it less")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(phases(options.config, CLOCKS[options.clock])))
        return
    rows = []
    for _ in range(options.rounds + 1):
        words = [sys.executable, "-m", "benchmarks.startup", "--one", "--config", options.config]
        words += ["--clock", options.clock]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the process that was to be timed failed:\n{done.stderr[-2000:]}")
        row = json.loads(done.stdout.splitlines()[-1])
        rows.append({**row, "sum": sum(row.values())})
    from benchmarks.report import summary, write_report

    found = {name: summary([row[name] for row in rows[1:]]) for name in rows[0]}  # the first fills the system's cache
    for name, text in {**PHASES, "sum": "all of it"}.items():
        print(f"{found[name]['median']:7.2f} s  {text}")
    write_report(
        options.json, "startup", {"settings": {"config": options.config, "clock": options.clock}, "seconds": found}
    )


if __name__ == "__main__":
    main()
