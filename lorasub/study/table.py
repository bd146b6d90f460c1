"""The results of a study as one tidy table: a row for each number, and what it is a number of in columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorasub.metrics.results import RESULTS_FILE, Results
from lorasub.study.artefacts import RUN, Output
from lorasub.study.plan import Cell, Plan
from lorasub.study.store import Store

#: Names of the rows that do not look at the images.
NO_LOOK = {"plane": "a plane", "mean": "mean of the training scenes"}
#: What the numbers of one row of a report's table have in common.
ROW = ["downstream", "variant", "scenes", "kind", "label", "ablation", "method"]
COLUMNS = [
    *("downstream", "ablation", "variant", "kind", "method", "label", "scenes", "seed", "set", "validation", "result"),
    *("scene", "value", "weight", "protocol", "frames", "trainable", "at_edge", "file"),
]


@dataclass(frozen=True)
class Finished:
    """The finished steps of a plan; nothing is said of those that are not done."""

    plan: Plan
    store: Store

    def folder(self, output: Output | None) -> Path | None:
        """Returns the folder of a step; None if it is not done."""
        if output is None or not self.store.done(step := self.plan.graph[output.key]):
            return None
        return self.store.folder(step)

    def measured(self, output: Output | None) -> Mapping[str, Any]:
        """Returns what a step's record says about its result."""
        record = None if output is None else self.store.record(self.plan.graph[output.key])
        return {} if record is None else record.measured


def results_table(plan: Plan, store: Store) -> pd.DataFrame:
    """Returns every result of every test that is done, and the scene-wise values of the tasks' outcomes.

    Columns: ``downstream``; ``ablation`` and ``variant`` (empty for the study itself); ``kind`` (``method``,
    ``zero-shot``, ``plane`` or ``mean``), ``method`` (name in the study's file) and ``label`` (with its values of a
    sweep); ``scenes`` (training scenes; -1 for all, 0 for none) and ``seed`` (-1 for none); ``set`` of the test, and
    whether it was the ``validation`` set; ``result``, ``scene`` (empty for the value over all scenes), ``value``,
    ``weight``; ``protocol`` and a hash of the ``frames``; ``trainable`` parameters; ``at_edge``: whether the learning
    rate stands at an end of its grid; ``file``: the result file.
    """
    finished = Finished(plan, store)
    rows = [row for cell in plan.cells for row in _rows_of(cell, finished)]
    found = pd.DataFrame(rows, columns=[*COLUMNS, "test", "own_set"]).astype({"validation": bool, "at_edge": bool})
    # several sets of one name: that of the data stands before it
    source = found["test"] + "/" + found["own_set"]
    several = source.groupby([found["downstream"], found["set"]]).transform("nunique") > 1
    told = several & (found["test"] != "") & (found["own_set"] == found["set"])
    found["set"] = found["set"].mask(told, source)
    return found[COLUMNS]


def _rows_of(cell: Cell, finished: Finished) -> Iterator[dict[str, Any]]:
    folder = finished.folder(cell.step)
    if folder is None:
        return
    study = finished.plan.study
    task = study.downstream[cell.downstream]
    path = folder / RUN / RESULTS_FILE
    label = cell.arm.label if cell.arm else NO_LOOK.get(cell.row, study.zero_shot)
    common = {
        "downstream": cell.downstream,
        "ablation": cell.variant.ablation if cell.variant else "",
        "variant": cell.variant.label if cell.variant else "",
        "kind": cell.row,
        "method": cell.arm.method if cell.arm else label,
        "label": label,
        "scenes": 0 if cell.seed is None else scene_number(cell.scenes),
        "seed": -1 if cell.seed is None else cell.seed,
        "test": cell.test,
        "trainable": int(finished.measured(cell.finetune).get("trainable", 0)),
        "at_edge": bool(finished.measured(cell.select).get("at_edge", False)),
        "file": path.relative_to(finished.store.root).as_posix(),
    }
    for name, found in Results.load(path).sets.items():
        row = common | {
            "set": cell.test if cell.test and name == task.validation_set else name,
            "own_set": name,
            "validation": not cell.test and name == task.validation_set,
            "frames": found.frames_hash,
        }
        for result, value in found.overall.items():
            row = row | {"result": result, "protocol": found.protocols[result]}
            yield row | {"scene": "", "value": value, "weight": 1.0}
            if result == task.metric and result not in found.whole:
                for scene in found.scenes:
                    weight = scene.weights.get(result, 0.0)
                    yield row | {"scene": scene.scene, "value": scene.values.get(result), "weight": weight}


def scene_number(scenes: int | None) -> int:
    """Returns a number of training scenes as it stands in the table: -1 for all."""
    return -1 if scenes is None else scenes


def outcomes(table: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Returns the rows of each task's outcome."""
    metrics = {name: task.metric for name, task in plan.study.downstream.items()}
    found: pd.DataFrame = table[table["result"] == table["downstream"].map(metrics)]
    return found


def at(table: pd.DataFrame, downstream: str, scenes: int) -> pd.DataFrame:
    """Returns the rows of a task with a number of training scenes, and those of models that had none."""
    found: pd.DataFrame = table[(table["downstream"] == downstream) & table["scenes"].isin([0, scenes])]
    return found


def pooled_rows(table: pd.DataFrame, sets: Sequence[str], name: str) -> pd.DataFrame:
    """Returns rows of one more set, several sets pooled: geometric means, and the logarithm of each set as a scene.

    Seeds that lack one of the sets are left out.

    Args:
        table: outcomes, with one number of training scenes.
        sets: to pool.
        name: of the new set.
    """
    keys = [*ROW, "result", "seed"]
    overall = table[(table["scene"] == "") & table["set"].isin(list(sets))]
    overall = overall[overall.groupby(keys)["set"].transform("nunique") == len(sets)]
    common = {"set": name, "validation": False, "protocol": "", "frames": "", "file": ""}
    each = overall.assign(scene=overall["set"], value=np.log(overall["value"]), **common)
    means = each.assign(scene="", value=np.exp(each.groupby(keys)["value"].transform("mean")))
    return pd.concat([means.drop_duplicates(keys), each], ignore_index=True)


def summaries(table: pd.DataFrame) -> pd.DataFrame:
    """Returns mean and spread over seeds of the values over all scenes, one row for each row of a table and set."""
    overall = table[table["scene"] == ""]
    grouped = overall.groupby([*ROW, "set", "validation", "result"], sort=False, dropna=False)
    found = grouped.agg(
        mean=("value", "mean"),
        deviation=("value", "std"),
        seeds=("value", "size"),
        trainable=("trainable", "max"),
        at_edge=("at_edge", "max"),
    )
    return found.reset_index()
