"""Decides what results are evidence of: which places count, and which differences are left after correction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lorasub.errors import ConfigError
from lorasub.metrics.bootstrap import CrossedDifference, crossed_difference
from lorasub.study.specs import Primary, Study
from lorasub.study.table import NO_LOOK, at, pooled_rows, scene_number, summaries

#: A difference counts if its p-value, corrected where there are several, is below.
LEVEL = 0.05
#: Fewer seeds say next to nothing of their own spread: with them no difference between methods is called clear.
LEAST_SEEDS = 3
#: Name of the set that stands for several places.
POOLED = "pooled"


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
        place = {"downstream": downstream, "scenes": scenes, "set": name, "validation": bool(group["validation"].any())}
        means = summaries(group).set_index("label")["mean"].dropna()
        if means.empty:
            rows.append(place | {"best": "", "counts": False, "reason": "nothing measured", "than_none": ""})
            continue
        best = means.idxmax() if larger else means.idxmin()
        here = at(table, downstream, scenes)
        here = here[here["set"] == name]
        rivals = {kind: here[here["kind"] == kind] for kind in (*NO_LOOK, "zero-shot")}
        found = {
            kind: _gain(rival, group[group["label"] == best], larger) for kind, rival in rivals.items() if len(rival)
        }
        reasons = [_reason(found.get(kind), shown) for kind, shown in NO_LOOK.items()]
        reason = "; ".join(text for text in reasons if text)
        rows.append(
            place | {"best": best, "counts": not reason, "reason": reason, "than_none": _than(found.get("zero-shot"))}
        )
    columns = ["downstream", "scenes", "set", "validation", "best", "counts", "reason", "than_none"]
    return pd.DataFrame(rows, columns=columns).astype({"counts": bool, "validation": bool})


def _gain(rival: pd.DataFrame, best: pd.DataFrame, larger: bool) -> tuple[float, float]:
    """How much better the best method is than another row, and the p-value of no difference."""
    found = compare_rows(rival, best)
    return found.difference if larger else -found.difference, found.p


def _than(found: tuple[float, float] | None) -> str:
    """``better``, ``worse`` or ``not told apart`` from a row; empty where that was not measured."""
    if found is None:
        return ""
    gain, p = found
    return ("better" if gain > 0 else "worse") if p < LEVEL else "not told apart"


def _reason(found: tuple[float, float] | None, name: str) -> str:
    """Reason for which a method is not better than a row that does not look; empty if it is."""
    if found is None:
        return f"{name} was not measured"
    gain, p = found
    if math.isnan(p):
        return f"one number is too few to tell it from {name}"
    if gain > 0 and p < LEVEL:
        return ""
    return f"{name} is {'better' if gain < 0 else 'not clearly worse'}"


def compare_methods(table: pd.DataFrame, study: Study, places: pd.DataFrame) -> pd.DataFrame:
    """Compares every method with every reference in every place that counts, and over the pooled ones.

    Sets on which learning rates were chosen take no part. p-values are corrected for their number (Holm); the one
    comparison that was fixed before the run stands alone, and only it. Of pooled places, geometric means are compared,
    and places are drawn anew in place of scenes, so that the result speaks of further places. The p-values are those
    of Student's t: a bootstrap with few seeds finds differences of any size between equal methods, and its smallest
    p-value, times the number of comparisons, may be above any level.

    Returns:
        Columns ``downstream``, ``scenes``, ``set`` (``pooled`` for ratios over several), ``reference``, ``label``,
        ``difference``, ``low``, ``high``, ``p``, ``seeds``, ``primary`` (fixed before the run), ``p_holm`` and
        ``clear``.
    """
    references = list(dict.fromkeys([*([study.primary.reference] if study.primary else []), *study.references]))
    counted = places[places["counts"] & ~places["validation"]]
    single, pooled = [], []
    for (downstream, scenes), group in counted.groupby(["downstream", "scenes"], sort=False):
        here = at(table, downstream, scenes)
        single += [here[here["set"] == name] for name in group["set"]]
        sets = [name for name in study.downstream[downstream].pooled if name in set(group["set"])]
        if len(sets) > 1:
            pooled.append(pooled_rows(here, sets, POOLED))
    pairs = [pair for rows in (*single, *pooled) for pair in _pairs(rows, references)]
    columns = ["downstream", "scenes", "set", "reference", "label", "difference", "low", "high", "p", "seeds"]
    found = pd.DataFrame([_compared(other, own) for other, own in pairs], columns=columns)
    found["primary"] = _is_primary(found, study.primary)
    found["p_holm"] = found.groupby("primary", group_keys=False)["p"].transform(lambda p: holm(p.tolist()))
    found["clear"] = (found["p_holm"] < LEVEL) & (found["seeds"] >= LEAST_SEEDS)
    return found


def _pairs(here: pd.DataFrame, references: Sequence[str]) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Each reference and each fine-tuned method of a place that have a seed in common."""
    rows = {name: own for name, own in here.groupby("label", sort=False) if own["kind"].iloc[0] not in NO_LOOK}
    for reference in references:
        for label, own in rows.items():
            other = rows.get(reference)
            if other is None or label == reference or own["kind"].iloc[0] != "method":
                continue
            if {-1, *own["seed"]} & set(other["seed"]):
                yield other, own


def _compared(other: pd.DataFrame, own: pd.DataFrame) -> dict[str, Any]:
    found = compare_rows(other, own)
    values = {name: getattr(found, name) for name in ("difference", "low", "high")}
    place: dict[str, Any] = {name: own[name].iloc[0] for name in ("downstream", "scenes", "set", "label")}
    if place["set"] == POOLED:  # differences of logarithms are ratios
        values = {name: math.exp(value) for name, value in values.items()}
    return place | {"reference": other["label"].iloc[0], **values, "p": found.p_t, "seeds": found.seeds}


def _is_primary(found: pd.DataFrame, primary: Primary | None) -> pd.Series[bool]:
    """Which rows the study was run for: over the pooled places where there are several, else in single ones."""
    if primary is None:
        return pd.Series(data=False, index=found.index, dtype=bool)
    same = _at_primary(found, primary) & (found["label"] == primary.method) & (found["reference"] == primary.reference)
    pooled = same & (found["set"] == POOLED)
    return pooled if pooled.any() else same


def _at_primary(table: pd.DataFrame, primary: Primary) -> pd.Series[bool]:
    """Which rows are of the task and the number of training scenes that the study was run for."""
    same: pd.Series[bool] = table["downstream"] == primary.downstream
    return same & (table["scenes"] == scene_number(primary.scenes))


def primary_verdict(compared: pd.DataFrame, places: pd.DataFrame, study: Study) -> dict[str, Any]:
    """Returns the answer to the question that was fixed before the run, for the report to put in words.

    Returns:
        ``places`` and those that ``count``; in how many of these the method is clearly ``better``, clearly ``worse`` or
        ``open``; and the rows of the ``pooled`` comparison.
    """
    primary = study.primary
    assert primary is not None
    own = places[_at_primary(places, primary) & ~places["validation"]]
    here = compared[_at_primary(compared, primary)]
    found = here[(here["label"] == primary.method) & (here["reference"] == primary.reference)]
    single, clear = found[found["set"] != POOLED], found["clear"].astype(bool)
    better = (found["difference"] > 0) == study.downstream[primary.downstream].larger_is_better
    return {
        "places": len(own),
        "count": int(own["counts"].sum()),
        "better": int((clear & better)[single.index].sum()),
        "worse": int((clear & ~better)[single.index].sum()),
        "open": int((~clear)[single.index].sum()),
        "pooled": found[found["set"] == POOLED].to_dict("records"),
    }


def compare_rows(first: pd.DataFrame, second: pd.DataFrame) -> CrossedDifference:
    """Returns the difference of two rows of a report on one test set, from their part of the table of results.

    Args:
        first: rows of one label, set and result; a single seed of -1 stands for all seeds.
        second: likewise, of what is compared.

    Raises:
        ConfigError: they were measured by other protocols or on other frames, or have no seed in common.
    """
    for name in ("protocol", "frames"):
        found = {*first[name], *second[name]}
        if len(found) > 1:
            raise ConfigError(
                f"results of '{first['label'].iloc[0]}' and '{second['label'].iloc[0]}' do not compare: "
                f"they differ in {name}: {sorted(found)}"
            )
    by_scene = bool((first["scene"] != "").any() and (second["scene"] != "").any())
    sides = [side[(side["scene"] != "") == by_scene] for side in (first, second)]
    own = [set(side["seed"]) for side in sides]
    seeds = own[0] & own[1] or set.union(*own)
    if own[0].isdisjoint(own[1]) and -1 not in seeds:
        raise ConfigError(f"there is no seed in common to compare: {own}")
    chosen = [side[side["seed"].isin(seeds)] for side in sides]
    values, weights = (
        [side.pivot(index="seed", columns="scene", values=name).to_numpy(float) for side in chosen]
        for name in ("value", "weight")
    )
    return crossed_difference(values[0], values[1], (weights[0], weights[1]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected for their number (Holm 1979); NaN stays NaN and counts as no comparison."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN comes last
    found = np.full(len(p), np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return found.tolist()
