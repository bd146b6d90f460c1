"""Runs a step graph in parallel; retries failures once, skips finished steps."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

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
    waiting: dict[str, Step] = {}
    running: dict[Future[None], Step] = {}
    attempts: Counter[str] = Counter()

    def tell(step: Step, event: str, error: str = "") -> None:
        left = [each for each in graph if each.key not in outcome.done and each.key not in outcome.failed]
        seconds = estimated_seconds(left, store.timings()) / workers.slots
        done = len(outcome.done)
        report(Progress(step=step, event=event, done=done, total=len(graph), seconds_left=seconds, error=error))

    def begin(step: Step, event: str, error: str = "") -> None:
        attempts[step.key] += 1
        tell(step, event, error)
        running[workers.submit(store.prepare(step))] = step

    def end(step: Step, error: BaseException | None) -> None:
        told = store.failure(step) or str(error or f"it ended without a record in {store.folder(step)}")
        if error is None and store.done(step):
            outcome.done.add(step.key)
            tell(step, "done")
        elif attempts[step.key] <= retries:
            begin(step, "again", told)
        else:
            outcome.failed[step.key] = told
            tell(step, "failed", told)

    with store.lock():
        try:
            outcome.done.update(step.key for step in graph if store.done(step))
            waiting.update((step.key, step) for step in graph if step.key not in outcome.done)
            while True:
                ready = [step for step in waiting.values() if step.inputs.keys() <= outcome.done]
                outcome.out_of_time = bool(ready) and time.monotonic() > deadline
                for step in ready[: 0 if outcome.out_of_time else workers.slots - len(running)]:
                    begin(waiting.pop(step.key), "begins")
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    end(running.pop(future), future.exception())
        finally:
            workers.close()
    outcome.left_out = set(waiting)
    return outcome
