"""The results of a study as one tidy table: a row for each number, and what it is a number of in columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from lorasub.files import read_json
from lorasub.metrics.results import RESULTS_FILE, Results
from lorasub.study.artefacts import CHOICE_FILE, RUN, Output
from lorasub.study.plan import Cell, Plan
from lorasub.study.store import Store

#: Names of the rows that do not look at the images.
NO_LOOK = {"plane": "a plane", "mean": "mean of the training scenes"}
#: What the numbers of one row of a report's table have in common.
ROW = ["downstream", "variant", "scenes", "kind", "label"]
COLUMNS = [
    *("downstream", "ablation", "variant", "kind", "method", "label", "scenes", "seed", "set", "validation", "result"),
    *("scene", "value", "weight", "protocol", "frames", "trainable", "at_edge", "file"),
]


def results_table(plan: Plan, store: Store) -> pd.DataFrame:
    """Returns every result of every test that is done, and the scene-wise values of the tasks' outcomes.

    Columns: ``downstream``; ``ablation`` and ``variant`` (empty for the study itself); ``kind`` (``method``,
    ``zero-shot``, ``plane`` or ``mean``), ``method`` (name in the study's file) and ``label`` (with its values of a
    sweep); ``scenes`` (training scenes; -1 for all, 0 for none) and ``seed`` (-1 for none); ``set`` of the test, and
    whether it was the ``validation`` set; ``result``, ``scene`` (empty for the value over all scenes), ``value``,
    ``weight``; ``protocol`` and a hash of the ``frames``; ``trainable`` parameters; ``at_edge``: whether the learning
    rate stands at an end of its grid; ``file``: the result file.
    """
    rows = [row for cell in plan.cells for row in _rows_of(cell, plan, store)]
    found = pd.DataFrame(rows, columns=[*COLUMNS, "test", "own_set"])
    # several sets of one name: that of the data stands before it
    of_name = found[["downstream", "set", "test", "own_set"]].drop_duplicates()
    shared = of_name.groupby(["downstream", "set"])["own_set"].transform("size")
    twice = of_name[(shared > 1) & (of_name["test"] != "") & (of_name["own_set"] == of_name["set"])]
    for row in twice.itertuples():
        where = (
            (found["downstream"] == row.downstream) & (found["test"] == row.test) & (found["own_set"] == row.own_set)
        )
        found.loc[where, "set"] = f"{row.test}/{row.own_set}"
    return found[COLUMNS]


def _rows_of(cell: Cell, plan: Plan, store: Store) -> Iterator[dict[str, Any]]:
    step = plan.graph[cell.step.key]
    if not store.done(step):
        return
    task = plan.study.downstream[cell.downstream]
    path = store.folder(step) / RUN / RESULTS_FILE
    label = cell.arm.label if cell.arm else NO_LOOK.get(cell.row, plan.study.zero_shot)
    common = {
        "downstream": cell.downstream,
        "ablation": cell.variant.ablation if cell.variant else "",
        "variant": cell.variant.label if cell.variant else "",
        "kind": cell.row,
        "method": cell.arm.method if cell.arm else label,
        "label": label,
        "scenes": 0 if cell.seed is None else -1 if cell.scenes is None else cell.scenes,
        "seed": -1 if cell.seed is None else cell.seed,
        "test": cell.test,
        "trainable": int(measured(plan, store, cell.finetune).get("trainable", 0)),
        "at_edge": bool(choice(plan, store, cell.select).get("at_edge", False)),
        "file": path.relative_to(store.root).as_posix(),
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


def measured(plan: Plan, store: Store, output: Output | None) -> Mapping[str, Any]:
    """Returns what a finished step's record says about it; nothing for steps that are not done."""
    record = None if output is None else store.record(plan.graph[output.key])
    return {} if record is None else record.measured


def choice(plan: Plan, store: Store, output: Output | None) -> Mapping[str, Any]:
    """Returns how a learning rate was chosen, where it has been."""
    if output is None or not store.done(plan.graph[output.key]):
        return {}
    found: dict[str, Any] = read_json(store.folder(plan.graph[output.key]) / CHOICE_FILE)
    return found


def outcomes(table: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Returns the rows of each task's outcome."""
    metrics = {name: task.metric for name, task in plan.study.downstream.items()}
    found: pd.DataFrame = table[table["result"] == table["downstream"].map(metrics)]
    return found


def summaries(table: pd.DataFrame) -> pd.DataFrame:
    """Returns mean and spread over seeds of the values over all scenes, one row for each row of a table and set."""
    overall = table[table["scene"] == ""]
    keys = [*ROW, "ablation", "method", "set", "validation", "result"]
    grouped = overall.groupby(keys, sort=False, dropna=False)
    found = grouped.agg(
        mean=("value", "mean"),
        deviation=("value", "std"),
        seeds=("value", "size"),
        trainable=("trainable", "max"),
        at_edge=("at_edge", "max"),
    )
    return found.reset_index()
