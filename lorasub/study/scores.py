"""The numbers of a report, from result files and nothing else."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorasub.files import read_json
from lorasub.metrics.comparison import Difference
from lorasub.metrics.results import RESULTS_FILE, Results
from lorasub.study.plan import Cell, Plan
from lorasub.study.seed_differences import pooled_ratio, seed_differences
from lorasub.study.settings import Method
from lorasub.study.store import CHOICE_FILE, RUN, Store

#: Draws of seeds and scenes behind each interval.
RESAMPLES = 4999


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One number: a result of one model on one test set.

    Attributes:
        cell: which model and test.
        set: name of the test set.
        result: name of the result.
        value: mean over scenes.
        protocol: how it was measured.
        validation: whether learning rates were chosen on this set, so that it says nothing about new data.
        file: the result file, relative to the store.
    """

    cell: Cell
    set: str
    result: str
    value: float
    protocol: str
    validation: bool
    file: str

    def row(self) -> dict[str, Any]:
        """A flat row for a CSV file."""
        cell = self.cell
        return {
            "downstream": cell.downstream,
            "variant": cell.variant,
            "method": cell.method,
            "scenes": "all" if cell.scenes is None and cell.tune else cell.scenes,
            "seed": cell.seed,
            "set": self.set,
            "validation": self.validation,
            "result": self.result,
            "value": self.value,
            "protocol": self.protocol,
            "file": self.file,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A method on one test set, over its seeds.

    Attributes:
        downstream: the task.
        variant: the ablation, empty for the study itself.
        method: the way to fine-tune.
        scenes: training scenes; None for all.
        set: name of the test set.
        validation: whether learning rates were chosen on it.
        result: name of the result.
        mean: over seeds.
        deviation: standard deviation over seeds; NaN for a single one.
        seeds: number of seeds.
        trainable: trained parameters; 0 without fine-tuning.
    """

    downstream: str
    variant: str
    method: str
    scenes: int | None
    set: str
    validation: bool
    result: str
    mean: float
    deviation: float
    seeds: int
    trainable: int


class StudyResults:
    """What a study has measured so far. Files are read once.

    Args:
        plan: says which results there should be.
        store: has them.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan = plan
        self.store = store
        self.cells = [cell for cell in plan.cells if store.done(plan.graph[cell.step])]
        self._results: dict[str, Results] = {}
        self._names: dict[str, dict[str, set[tuple[str, str]]]] = {}

    def results(self, cell: Cell) -> Results:
        """The result file of a cell."""
        if cell.step not in self._results:
            self._results[cell.step] = Results.load(self.store.folder(self.plan.graph[cell.step]) / RUN)
        return self._results[cell.step]

    def scores(self) -> list[Score]:
        """Every number of every cell that is done."""
        found = []
        for cell in self.cells:
            path = self.store.folder(self.plan.graph[cell.step]) / RUN / RESULTS_FILE
            for name, measured in self.results(cell).sets.items():
                for result, value in measured.overall.items():
                    found.append(
                        Score(
                            cell=cell,
                            set=self.shown_set(cell, name),
                            result=result,
                            value=value,
                            protocol=measured.protocols[result],
                            validation=self._validation(cell, name),
                            file=path.relative_to(self.store.root).as_posix(),
                        )
                    )
        return found

    def summaries(self, result: str | None = None) -> list[Summary]:
        """Mean and spread over seeds, of one result; None takes the metric of each task."""
        groups: dict[tuple[str, str, str, int | None, str], list[Score]] = {}
        for score in self.scores():
            cell = score.cell
            if score.result == (result or self.plan.study.downstream[cell.downstream].metric):
                place = (cell.downstream, cell.variant, cell.method, cell.scenes, score.set)
                groups.setdefault(place, []).append(score)
        return [self._summary(scores) for scores in groups.values()]

    def _summary(self, scores: Sequence[Score]) -> Summary:
        """Scores that differ in their seed alone, as one."""
        first = scores[0]
        values = [score.value for score in scores]
        return Summary(
            downstream=first.cell.downstream,
            variant=first.cell.variant,
            method=first.cell.method,
            scenes=first.cell.scenes,
            set=first.set,
            validation=first.validation,
            result=first.result,
            mean=statistics.fmean(values),
            deviation=statistics.stdev(values) if len(values) > 1 else math.nan,
            seeds=len(values),
            trainable=int(self.measured(first.cell.tune).get("trainable", 0)),
        )

    def measured(self, key: str | None) -> Mapping[str, Any]:
        """What a finished step's record says about it; nothing for steps that are not done."""
        record = None if key is None else self.store.record(self.plan.graph[key])
        return {} if record is None else record.measured

    def differences(self, reference: str, *, resamples: int = RESAMPLES) -> list[tuple[Cell, str, Difference]]:
        """Every method against another one: (a cell of the method, name of the test set, difference).

        Args:
            reference: name of the other method.
            resamples: of seeds and scenes, see :func:`~lorasub.study.seed_differences.seed_differences`.
        """
        found = []
        groups = self._by_seed()
        unadapted = not self.plan.study.methods.get(reference, Method(adapter=[{}])).adapter
        for (downstream, method, scenes, test), cells in groups.items():
            others = groups.get((downstream, reference, None if unadapted else scenes, test))
            if method == reference or not others:
                continue
            first, second = ({cell.seed: self.results(cell) for cell in group} for group in (others, cells))
            if first.keys().isdisjoint(second) and None not in first:
                continue  # of a study that is not done yet
            metric = self.plan.study.downstream[downstream].metric
            for difference in seed_differences(first, second, metric, resamples=resamples):
                found.append((cells[0], self.shown_set(cells[0], difference.set), difference))
        return found

    def pooled(self, references: Sequence[str], *, resamples: int = RESAMPLES) -> list[dict[str, Any]]:
        """Every method over the pooled test sets of each task, and against each reference with as many scenes.

        Returns:
            Rows with ``downstream``, ``method``, ``scenes``, ``mean`` (geometric, over sets and seeds), and for each
            reference its name, with the ratio to it, and ``NAME low`` and ``NAME high``.
        """
        tables: dict[tuple[str, str, int | None], dict[tuple[int | None, str], float]] = {}
        for score in self.scores():
            task = self.plan.study.downstream[score.cell.downstream]
            if not score.cell.variant and score.result == task.metric and score.set in task.pooled:
                place = (score.cell.downstream, score.cell.method, score.cell.scenes)
                tables.setdefault(place, {})[score.cell.seed, score.set] = score.value
        rows = []
        for (downstream, method, scenes), own in tables.items():
            sets = [name for name in self.plan.study.downstream[downstream].pooled if any(n == name for _, n in own)]
            row: dict[str, Any] = {
                "downstream": downstream,
                "method": method,
                "scenes": scenes,
                "mean": math.exp(statistics.fmean(math.log(value) for value in own.values())),
            }
            for reference in references:
                other = tables.get((downstream, reference, scenes), {})
                seeds = sorted({seed for seed, _ in own.keys() & other.keys() if seed is not None})
                both = [(seed, name) for seed in seeds for name in sets]
                if method == reference or not both or not all(place in own and place in other for place in both):
                    continue
                shape = (len(seeds), len(sets))
                first, second = (np.array([found[place] for place in both]).reshape(shape) for found in (other, own))
                ratio, low, high = pooled_ratio(first, second, resamples=resamples)
                row |= {reference: ratio, f"{reference} low": low, f"{reference} high": high}
            rows.append(row)
        return rows

    def choices(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        """(task, variant, method) -> the choice of its learning rate, where it has been made."""
        found: dict[tuple[str, str, str], dict[str, Any]] = {}
        for cell in self.plan.cells:
            if cell.choose is not None and self.store.done(self.plan.graph[cell.choose]):
                path = self.store.folder(self.plan.graph[cell.choose]) / CHOICE_FILE
                found.setdefault((cell.downstream, cell.variant, cell.method), read_json(path))
        return found

    def _by_seed(self) -> dict[tuple[str, str, int | None, str], list[Cell]]:
        groups: dict[tuple[str, str, int | None, str], list[Cell]] = {}
        for cell in self.cells:
            if not cell.variant:
                groups.setdefault((cell.downstream, cell.method, cell.scenes, cell.test), []).append(cell)
        return groups

    def shown_set(self, cell: Cell, name: str) -> str:
        """How a test set is called in a report: by its own name, or that of its data if it is called ``test`` there.

        Where several sets would be called the same, the name of the data stands before their own.
        """
        plain = _plain(cell.test, name)
        if name == "test" or len(self._sets(cell.downstream, plain)) < 2:
            return plain
        return f"{cell.test}/{name}" if cell.test else name

    def _sets(self, downstream: str, plain: str) -> set[tuple[str, str]]:
        """Names of data and of sets among them that have one plain name."""
        if downstream not in self._names:
            found: dict[str, set[tuple[str, str]]] = {}
            for cell in self.cells:
                if cell.downstream == downstream:
                    for name in self.results(cell).sets:
                        found.setdefault(_plain(cell.test, name), set()).add((cell.test, name))
            self._names[downstream] = found
        return self._names[downstream].get(plain, set())

    def _validation(self, cell: Cell, name: str) -> bool:
        return not cell.test and name == self.plan.study.downstream[cell.downstream].validation_set


def _plain(test: str, name: str) -> str:
    return test if test and name == "test" else name
