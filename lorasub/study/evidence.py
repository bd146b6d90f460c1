"""Decides what results are evidence of: which places count, and which differences are left after correction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from lorasub.metrics.bootstrap import CrossedDifference, crossed_difference
from lorasub.study.specs import Study
from lorasub.study.statistics import compare_rows, holm
from lorasub.study.table import NO_LOOK, summaries

#: A difference counts if its p-value, corrected where there are several, is below.
LEVEL = 0.05
#: Fewer seeds say next to nothing of their own spread: with them no difference between methods is called clear.
LEAST_SEEDS = 3


def judge_places(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Returns, for each test set and number of training scenes, whether the best method there beats not looking.

    A place counts as evidence only if the method with the best mean is better than a plane and than the mean of the
    training scenes, each by an interval over seeds and scenes that excludes 0.

    Args:
        table: outcomes of the study itself, see :func:`~lorasub.study.table.outcomes`.
        study: says which results are better.

    Returns:
        Columns ``downstream``, ``scenes``, ``set``, ``validation``, ``best`` (label), ``counts``, ``reason``, and
        ``than_none``: whether the best method is better than the model without fine-tuning, which is no gate.
    """
    rows = []
    methods = table[table["kind"] == "method"]
    for (downstream, scenes, name), group in methods.groupby(["downstream", "scenes", "set"], sort=False):
        larger = study.downstream[downstream].larger_is_better
        means = summaries(group).set_index("label")["mean"].dropna()
        row: dict[str, Any] = {"downstream": downstream, "scenes": scenes, "set": name}
        row |= {
            "validation": bool(group["validation"].any()),
            "best": "",
            "counts": False,
            "reason": "nothing measured",
            "than_none": "",
        }
        rows.append(row)
        if means.empty:
            continue
        row["best"] = means.idxmax() if larger else means.idxmin()
        best = group[group["label"] == row["best"]]
        here = table[(table["downstream"] == downstream) & (table["set"] == name) & table["scenes"].isin([0, scenes])]
        lost = [
            text for kind in NO_LOOK if (text := _not_better(here[here["kind"] == kind], best, NO_LOOK[kind], larger))
        ]
        row |= {"counts": not lost, "reason": "; ".join(lost)}
        row["than_none"] = _than(here[here["kind"] == "zero-shot"], best, larger)
    columns = ["downstream", "scenes", "set", "validation", "best", "counts", "reason", "than_none"]
    return pd.DataFrame(rows, columns=columns)


def _than(other: pd.DataFrame, best: pd.DataFrame, larger: bool) -> str:
    """``better``, ``worse`` or ``not told apart`` from the model as it is; empty where that was not measured."""
    if other.empty:
        return ""
    found = compare_rows(other, best)
    if not found.p < LEVEL:
        return "not told apart"
    return "better" if (found.difference > 0) == larger else "worse"


def _not_better(other: pd.DataFrame, best: pd.DataFrame, name: str, larger: bool) -> str:
    """Reason for which a method is not better than a row that does not look; empty if it is."""
    if other.empty:
        return f"{name} was not measured"
    found = compare_rows(other, best)
    gain = found.difference if larger else -found.difference
    if math.isnan(found.p):
        return f"one number is too few to tell it from {name}"
    if gain > 0 and found.p < LEVEL:
        return ""
    return f"{name} is {'better' if gain < 0 else 'not clearly worse'}"


def compare_methods(table: pd.DataFrame, study: Study, places: pd.DataFrame) -> pd.DataFrame:
    """Compares every method with every reference in every place that counts, and over the pooled ones.

    Sets on which learning rates were chosen take no part. p-values are corrected for their number (Holm); the one
    comparison that was fixed before the run stands alone, and only it.

    Returns:
        Columns ``downstream``, ``scenes``, ``set`` (``pooled`` for ratios over several), ``reference``, ``label``,
        ``difference``, ``low``, ``high``, ``p``, ``seeds``, ``primary`` (fixed before the run), ``p_holm`` and
        ``clear``.
    """
    references = list(dict.fromkeys([*([study.primary.reference] if study.primary else []), *study.references]))
    counted = places[places["counts"] & ~places["validation"]]
    rows = [row for each in counted.itertuples() for row in _in_place(table, each, references)]
    for (downstream, scenes), group in counted.groupby(["downstream", "scenes"], sort=False):
        sets = [name for name in study.downstream[downstream].pooled if name in set(group["set"])]
        if len(sets) > 1:
            own = table[(table["downstream"] == downstream) & table["scenes"].isin([0, scenes])]
            rows += _pooled(own, downstream, scenes, sets, references)
    columns = ["downstream", "scenes", "set", "reference", "label", "difference", "low", "high", "p", "seeds"]
    found = pd.DataFrame(rows, columns=columns)
    found["primary"] = _is_primary(found, study)
    found["p_holm"] = 0.0
    for _, rows_of in found.groupby("primary"):
        found.loc[rows_of.index, "p_holm"] = holm(rows_of["p"].tolist())
    found["clear"] = (found["p_holm"] < LEVEL) & (found["seeds"] >= LEAST_SEEDS)
    return found


def _is_primary(found: pd.DataFrame, study: Study) -> pd.Series[bool]:
    """Which rows the study was run for: over the pooled places where there are several, else in single ones."""
    if (primary := study.primary) is None:
        return pd.Series(data=False, index=found.index, dtype=bool)
    same = (
        (found["downstream"] == primary.downstream)
        & (found["scenes"] == (-1 if primary.scenes is None else primary.scenes))
        & (found["label"] == primary.method)
        & (found["reference"] == primary.reference)
    )
    pooled = same & (found["set"] == "pooled")
    return pooled if pooled.any() else same


def _in_place(table: pd.DataFrame, place: Any, references: list[str]) -> Iterator[dict[str, Any]]:
    where = (table["downstream"] == place.downstream) & (table["set"] == place.set)
    fitted = table[where & (table["kind"] == "method") & (table["scenes"] == place.scenes)]
    groups = dict(list(fitted.groupby("label", sort=False)))
    as_it_is = dict(list(table[where & (table["kind"] == "zero-shot")].groupby("label", sort=False)))
    for reference in references:
        other = {**as_it_is, **groups}.get(reference)
        if other is None:
            continue
        for label, own in groups.items():
            if label != reference and (reference in as_it_is or set(own["seed"]) & set(other["seed"])):
                yield _row(place.downstream, place.scenes, place.set, reference, label, compare_rows(other, own))


def _pooled(
    table: pd.DataFrame, downstream: str, scenes: int, sets: list[str], references: list[str]
) -> Iterator[dict[str, Any]]:
    """Ratios of geometric means over sets; seeds and sets are drawn anew, so that they speak of further places."""
    kinds = table["kind"].isin(["method", "zero-shot"])
    overall = table[(table["scene"] == "") & kinds & table["set"].isin(sets)]
    logs = overall.assign(value=np.log(overall["value"])).pivot(index=["label", "seed"], columns="set", values="value")
    fitted = overall[overall["kind"] == "method"]["label"].unique()
    for reference in references:
        for label in fitted:
            if label == reference or reference not in logs.index.unique("label"):
                continue
            first, second = logs.loc[reference], logs.loc[label]
            # the model as it is has no seed: one row stands for all
            seeds = first.index.intersection(second.index) if reference in fitted else second.index
            if len(seeds):
                one = first.loc[seeds, sets] if reference in fitted else first[sets]
                found = crossed_difference(one.to_numpy(), second.loc[seeds, sets].to_numpy())
                row = _row(downstream, scenes, "pooled", reference, label, found)
                yield row | {name: math.exp(row[name]) for name in ("difference", "low", "high")}


def _row(
    downstream: str, scenes: int, name: str, reference: str, label: str, found: CrossedDifference
) -> dict[str, Any]:
    values = {each: getattr(found, each) for each in ("difference", "low", "high", "p", "seeds")}
    return {"downstream": downstream, "scenes": scenes, "set": name, "reference": reference, "label": label, **values}
