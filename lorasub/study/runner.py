"""Does the steps of a graph: what is ready, several at once, each failure once more, and what is done never again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from lorasub.study.steps import Graph, Step
from lorasub.study.store import GUESSES, Store
from lorasub.study.workers import Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a study has come.

    Attributes:
        step: what has just been begun or ended.
        event: ``begins``, ``done``, ``again`` (failed, and begun once more) or ``failed``.
        done: finished steps, those of earlier runs included.
        total: all steps.
        seconds_left: estimate for what remains.
        error: why it failed.
    """

    step: Step
    event: str
    done: int
    total: int
    seconds_left: float
    error: str = ""


@dataclass(slots=True)
class Outcome:
    """How a run has ended.

    Attributes:
        done: keys of the steps that are done, those of earlier runs included.
        failed: key -> why.
        left_out: keys of steps that were not begun: something they need has failed, or the time was up.
        out_of_time: whether the budget ended the run.
    """

    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    out_of_time: bool = False


def estimated_seconds(steps: Iterable[Step], timings: Mapping[str, float]) -> float:
    """Seconds for steps one after the other, from the timings of their kinds, or else the stated guesses."""
    return sum(step.work * timings.get(step.kind, GUESSES[step.kind]) for step in steps)


def run_graph(
    graph: Graph,
    store: Store,
    workers: Workers,
    *,
    retries: int = 1,
    budget_hours: float | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Do every step that is not done yet, in an order in which inputs come first.

    A step that fails is begun again ``retries`` times. When it fails for good, the steps that need it are left out, and
    all others go on.

    Args:
        graph: the steps.
        store: where they are kept.
        workers: what does them. They are closed when this ends, by an error or an interruption too.
        retries: of each step.
        budget_hours: no step is begun later than that.
        report: called in this thread when a step begins or ends.

    Raises:
        ConfigError: another run is using the store.
    """
    with store.lock():
        run = _Run(graph, store, workers, retries, report)
        try:
            return run.to_the_end(None if budget_hours is None else time.monotonic() + 3600 * budget_hours)
        finally:
            workers.close()


class _Run:
    """The state of :func:`run_graph`."""

    def __init__(
        self, graph: Graph, store: Store, workers: Workers, retries: int, report: Callable[[Progress], None]
    ) -> None:
        self.graph, self.store, self.workers, self.retries, self.report = graph, store, workers, retries, report
        self.outcome = Outcome(done={step.key for step in graph if store.done(step)})
        self.waiting = {step.key: step for step in graph if step.key not in self.outcome.done}
        self.running: dict[Future[None], Step] = {}
        self.attempts: dict[str, int] = {}

    def to_the_end(self, deadline: float | None) -> Outcome:
        while True:
            self.outcome.out_of_time = deadline is not None and time.monotonic() > deadline and bool(self.waiting)
            if not self.outcome.out_of_time:
                for step in self._ready()[: self.workers.slots - len(self.running)]:
                    self._begin(step, "begins")
            if not self.running:
                break
            for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                self._end(self.running.pop(future), future.exception())
        self.outcome.left_out = set(self.waiting)
        return self.outcome

    def _ready(self) -> list[Step]:
        """Steps whose inputs are all done."""
        return [step for step in self.waiting.values() if self.outcome.done.issuperset(step.inputs.values())]

    def _begin(self, step: Step, event: str, error: str = "") -> None:
        self.attempts[step.key] = self.attempts.get(step.key, 0) + 1
        self.waiting[step.key] = step
        self._tell(step, event, error)
        del self.waiting[step.key]
        self.running[self.workers.submit(self.store.prepare(self.graph, step))] = step

    def _end(self, step: Step, error: BaseException | None) -> None:
        if error is None and not self.store.done(step):
            error = RuntimeError(f"it ended without a record in {self.store.folder(step)}")
        if error is None:
            self.outcome.done.add(step.key)
            self._tell(step, "done")
        elif self.attempts[step.key] <= self.retries:
            self._begin(step, "again", str(error))
        else:
            self.outcome.failed[step.key] = str(error)
            self._tell(step, "failed", str(error))

    def _tell(self, step: Step, event: str, error: str = "") -> None:
        remaining = [*self.waiting.values(), *self.running.values()]
        left = estimated_seconds(remaining, self.store.timings()) / self.workers.slots
        self.report(
            Progress(
                step=step,
                event=event,
                done=len(self.outcome.done),
                total=len(self.graph),
                seconds_left=left,
                error=error,
            )
        )
