"""Runs a step graph in parallel; retries failures once, skips finished steps."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from lorasub.study.graph import Graph, Step
from lorasub.study.steps import KINDS
from lorasub.study.store import Store
from lorasub.study.workers import Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of a study; ``event`` is ``begins``, ``done``, ``again`` (will be begun once more) or ``failed``."""

    step: Step
    event: str
    done: int
    total: int
    seconds_left: float
    error: str = ""


@dataclass(slots=True)
class Outcome:
    """Outcome of a run: keys of steps that are done, that failed (and why), and that are left out."""

    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    out_of_time: bool = False


def estimated_seconds(steps: Iterable[Step], timings: Mapping[str, float]) -> float:
    """Returns seconds for steps one after the other, from timings of their kinds, or else from stated guesses."""
    return sum(step.work * timings.get(step.kind, KINDS[step.kind].guess) for step in steps)


def run_graph(
    graph: Graph,
    store: Store,
    workers: Workers,
    *,
    retries: int = 1,
    budget_hours: float | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Runs every step that is not done yet; a step that fails for good takes only those that need it with it.

    Steps begin in the order of the graph, as soon as what they need is there: one method is finished before the next.
    A step is done if its record is there, whatever its worker says.

    Args:
        graph: the steps.
        store: where they are kept.
        workers: what does them. They are closed when this ends, by an error or an interruption too.
        retries: of each step that fails.
        budget_hours: no step is begun later than that.
        report: called in this thread when a step begins or ends.

    Raises:
        ConfigError: another run is using the store.
    """
    deadline = time.monotonic() + 3600 * (float("inf") if budget_hours is None else budget_hours)
    outcome = Outcome()
    running: dict[Future[None], Step] = {}
    attempts: Counter[str] = Counter()

    def tell(step: Step, event: str, error: str = "") -> None:
        left = [*running.values(), *map(graph.__getitem__, outcome.left_out)]
        seconds = estimated_seconds(left, store.timings()) / workers.slots
        done = len(outcome.done)
        report(Progress(step=step, event=event, done=done, total=len(graph), seconds_left=seconds, error=error))

    with store.lock(), contextlib.closing(workers):
        for step in graph.values():
            (outcome.done if store.done(step) else outcome.left_out).add(step.key)
        while True:
            ready = [step for step in graph.values() if step.key in outcome.left_out and step.inputs <= outcome.done]
            outcome.out_of_time = bool(ready) and time.monotonic() > deadline
            for step in ready[: 0 if outcome.out_of_time else workers.slots - len(running)]:
                tell(step, "begins")
                attempts[step.key] += 1
                outcome.left_out.remove(step.key)
                running[workers.submit(store.prepare(step))] = step
            if not running:
                return outcome
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                error = str(future.exception() or store.failure(step))
                if store.done(step):
                    outcome.done.add(step.key)
                    tell(step, "done")
                elif attempts[step.key] <= retries:
                    outcome.left_out.add(step.key)
                    tell(step, "again", error)
                else:
                    outcome.failed[step.key] = error
                    tell(step, "failed", error)
