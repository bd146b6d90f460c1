"""The numbers of a report, from result files and nothing else."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorasub.files import read_json
from lorasub.metrics.comparison import Difference, compare_results
from lorasub.metrics.results import RESULTS_FILE, Results, SceneResult, SetResult
from lorasub.study.plan import Cell, Plan
from lorasub.study.settings import Method
from lorasub.study.store import CHOICE_FILE, RUN, Store

#: Resamples of scenes behind each interval.
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
                            set=shown_set(cell.test, name),
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

        Values of a scene are averaged over seeds; scenes are then resampled, both methods' values of one together.

        Args:
            reference: name of the other method.
            resamples: of scenes.
        """
        found = []
        groups = self._by_seed()
        unadapted = not self.plan.study.methods.get(reference, Method(adapter=[{}])).adapter
        for (downstream, method, scenes, test), cells in groups.items():
            others = groups.get((downstream, reference, None if unadapted else scenes, test))
            if method == reference or not others:
                continue
            metric = self.plan.study.downstream[downstream].metric
            first, second = (averaged([self.results(cell) for cell in group]) for group in (others, cells))
            first, second = only(first, metric), only(second, metric)
            if not first.sets or not second.sets:
                continue
            for difference in compare_results(first, second, resamples=resamples):
                found.append((cells[0], shown_set(test, difference.set), difference))
        return found

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

    def _validation(self, cell: Cell, name: str) -> bool:
        return not cell.test and name == self.plan.study.downstream[cell.downstream].validation_set


def shown_set(test: str, name: str) -> str:
    """How a test set is called in a report: by its own name, after that of its data where this is named."""
    if not test:
        return name
    return test if name == "test" else f"{test}/{name}"


def averaged(results: Sequence[Results]) -> Results:
    """Results of several seeds as one: the mean of each scene's values. A scene counts where all seeds measured it."""
    first = results[0]
    sets = {}
    for name, found in first.sets.items():
        columns = zip(*(other.sets[name].scenes for other in results), strict=True)
        scenes = tuple(_mean_scene(same) for same in columns)
        whole = {key: statistics.fmean(other.sets[name].whole[key] for other in results) for key in found.whole}
        sets[name] = SetResult(protocols=found.protocols, scenes=scenes, whole=whole)
    return dataclasses.replace(first, sets=sets)


def only(results: Results, name: str) -> Results:
    """Results with one of their numbers alone, in the sets that have it."""
    sets = {
        key: dataclasses.replace(
            found,
            protocols={name: found.protocols[name]},
            whole={key: value for key, value in found.whole.items() if key == name},
        )
        for key, found in results.sets.items()
        if name in found.protocols
    }
    return dataclasses.replace(results, sets=sets)


def _mean_scene(same: Iterable[SceneResult]) -> SceneResult:
    scenes = list(same)
    values, weights = {}, {}
    for name in scenes[0].values:
        own = [scene.weights[name] for scene in scenes]
        weights[name] = statistics.fmean(own) if min(own) > 0 else 0.0
        values[name] = statistics.fmean(scene.values[name] for scene in scenes) if min(own) > 0 else math.nan
    return dataclasses.replace(scenes[0], values=values, weights=weights)
