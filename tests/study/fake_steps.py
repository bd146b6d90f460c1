"""Steps that do nothing, in processes of their own: they say that they begin, may wait for a gate, leave a record."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from lorasub.files import read_json, write_json
from lorasub.study import Graph, Outcome, ProcessWorkers, Step, Store, run_graph


def do(folder: str) -> int:
    """A step whose settings name a ``place`` with a diary and a gate, and say whether it ``waits`` or ``fails``."""
    here = Path(folder)
    step = read_json(here / "step.json")
    place = Path(step["config"]["place"])
    with (place / "diary").open("a", encoding="utf-8") as diary:
        diary.write(step["name"] + "\n")
    sys.stdout.write(f"threads {os.environ['OMP_NUM_THREADS']}\n")
    (here / "pid").write_text(str(os.getpid()), encoding="utf-8")
    while step["config"].get("waits") and not (place / "gate").exists():
        time.sleep(0.01)
    if step["config"].get("fails"):
        (here / "failure.txt").write_text("no luck", encoding="utf-8")
        return 1
    record = {"key": step["key"], "name": step["name"], "seconds": 1.0, "work": step["work"], "finished": 0.0}
    write_json(here / "record.json", record)
    return 0


def fake_step(name: str, place: Path, inputs: dict[str, str] | None = None, **settings: Any) -> Step:
    """One of them."""
    config = {"place": str(place), "name": name, **settings}
    return Step(kind="mine", name=name, config=config, code="", inputs=inputs or {})


def chain(place: Path) -> Graph:
    """Four steps, one after the other; the third waits."""
    graph, last = Graph(), ""
    for name in ("one", "two", "three", "four"):
        last = graph.add(fake_step(name, place, {"last": last} if last else {}, waits=name == "three"))
    return graph


def workers(jobs: int = 1) -> ProcessWorkers:
    """Processes for such steps."""
    return ProcessWorkers(jobs, do, preload=("fake_steps",))


def run_chain(place: Path) -> Outcome:
    """Do the four steps in processes of this machine."""
    return run_graph(chain(place), Store(place / "study"), workers())
