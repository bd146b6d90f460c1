"""Runs a step graph in parallel; retries failures once, skips finished steps."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from lorasub.study.graph import Graph, Step
from lorasub.study.kinds import KINDS
from lorasub.study.store import Store
from lorasub.study.workers import Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of a study; ``event`` is ``begins``, ``done``, ``again`` (begun once more) or ``failed``."""

    step: Step
    event: str
    done: int
    total: int
    seconds_left: float
    error: str = ""


@dataclass(slots=True)
class Outcome:
    """Outcome of a run: keys of steps that are done, that failed (and why), and that were not begun."""

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
    order = TopologicalSorter({step.key: step.inputs.keys() for step in graph})
    order.prepare()
    place = {step.key: number for number, step in enumerate(graph)}
    ready: list[tuple[int, str]] = []  # a heap: one method is finished before the next is begun
    running: dict[Future[None], Step] = {}
    attempts: dict[str, int] = {}

    def finish(key: str) -> None:
        outcome.done.add(key)
        order.done(key)

    def tell(step: Step, event: str, error: str = "") -> None:
        left = [each for each in graph if each.key not in outcome.done and each.key not in outcome.failed]
        seconds = estimated_seconds(left, store.timings()) / workers.slots
        done = len(outcome.done)
        report(Progress(step=step, event=event, done=done, total=len(graph), seconds_left=seconds, error=error))

    def begin(step: Step, event: str, error: str = "") -> None:
        attempts[step.key] = attempts.get(step.key, 0) + 1
        tell(step, event, error)
        running[workers.submit(store.prepare(step))] = step

    def end(step: Step, error: BaseException | None) -> None:
        if error is None and not store.done(step):
            error = RuntimeError(f"it ended without a record in {store.folder(step)}")
        if error is None:
            finish(step.key)
            tell(step, "done")
        elif attempts[step.key] <= retries:
            begin(step, "again", str(error))
        else:
            outcome.failed[step.key] = str(error)
            tell(step, "failed", str(error))

    with store.lock():
        try:
            while True:
                while keys := order.get_ready():
                    for key in keys:
                        finish(key) if store.done(graph[key]) else heapq.heappush(ready, (place[key], key))
                outcome.out_of_time = time.monotonic() > deadline and bool(ready)
                while ready and len(running) < workers.slots and not outcome.out_of_time:
                    begin(graph[heapq.heappop(ready)[1]], "begins")
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    end(running.pop(future), future.exception())
        finally:
            workers.close()
    outcome.left_out = {step.key for step in graph} - outcome.done - outcome.failed.keys()
    return outcome
