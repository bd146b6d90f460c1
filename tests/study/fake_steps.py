"""Steps that do nothing, in processes of their own: they say that they begin, may wait for a gate, leave a record."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lorasub.errors import ConfigError
from lorasub.files import read_json, write_json
from lorasub.study import Graph, Outcome, Output, ProcessWorkers, Step, Store, run_graph


@dataclass(frozen=True, kw_only=True)
class Fake:
    """Settings: a place with a diary and a gate, whether to wait for it, and whether to fail."""

    place: str
    name: str
    inputs: tuple[Output, ...] = ()
    waits: bool = False
    fails: bool = False


def do(here: Path) -> None:
    """Does the one that is described in a folder."""
    step = read_json(here / "step.json")
    place = Path(step["spec"]["place"])
    with (place / "diary").open("a", encoding="utf-8") as diary:
        diary.write(step["name"] + "\n")
    sys.stdout.write(f"threads {os.environ['OMP_NUM_THREADS']}, GPU {os.environ['CUDA_VISIBLE_DEVICES']}\n")
    (here / "pid").write_text(str(os.getpid()), encoding="utf-8")
    while step["spec"]["waits"] and not (place / "gate").exists():
        time.sleep(0.01)
    if step["spec"]["fails"]:
        raise ConfigError("no luck")
    record = {"key": step["key"], "name": step["name"], "seconds": 1.0, "work": step["work"], "finished": 0.0}
    write_json(here / "record.json", record)


def fake_step(name: str, place: Path, *inputs: Output, waits: bool = False, fails: bool = False) -> Step:
    """One of them."""
    return Step(kind="mine", name=name, spec=Fake(place=str(place), name=name, inputs=inputs, waits=waits, fails=fails))


def chain(place: Path) -> Graph:
    """Four steps, one after the other; the third waits."""
    graph = Graph()
    last: tuple[Output, ...] = ()
    for name in ("one", "two", "three", "four"):
        last = (graph.add(fake_step(name, place, *last, waits=name == "three")),)
    return graph


def workers(jobs: int = 1) -> ProcessWorkers:
    """Processes for such steps."""
    return ProcessWorkers(jobs, do)


def run_chain(place: Path) -> Outcome:
    """Do the four steps in processes of this machine."""
    return run_graph(chain(place), Store(place / "study"), workers())
