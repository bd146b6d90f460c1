"""The tables of the gradient test: which sets of scenes pull the base model in directions of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorasub.files import read_json
from lorasub.study.evidence import LEVEL, holm
from lorasub.study.gradient_specs import PLACEBO, WHOLE
from lorasub.study.steps.pulls import COSINES_FILE
from lorasub.study.table import Finished
from lorasub.subspaces.gradients import label_test

OWN, NOT_OWN = "own direction", "not told apart"
#: What a row's sets are held against -> the column of its p-value before correction.
TESTS = {"others": "p others", "placebo": "p placebo"}


def pull_table(finished: Finished) -> pd.DataFrame | None:
    """Returns :func:`pull_rows` of a study; None if the test is not wanted or not done."""
    folder = finished.folder(finished.plan.pulls)
    if folder is None:
        return None
    found = read_json(folder / COSINES_FILE)
    return pull_rows(found["sets"], np.asarray(found["cosines"]))


def pull_rows(sets: Sequence[Mapping[str, Any]], cosines: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Tests every attribute at every dose, every single shift, and groups of the placebo's sets.

    Args:
        sets: of each set ``label``, ``attribute``, ``shift`` and ``dose``.
        cosines: ``[sets, sets]``, see :func:`lorasub.subspaces.gradients.pull_cosines`.

    Returns:
        Columns ``sets`` (label), ``attribute``, ``shift``, ``dose``, ``number`` (of sets), ``halves``, ``own`` and
        ``own lowest``; ``others`` (sets of other attributes) and ``siblings`` (other shifts of the same attribute) with
        ``p others``; ``placebo`` with ``p placebo``; ``p`` (the larger one, corrected for the number of tests) and
        ``verdict``.
    """
    given = pd.DataFrame(sets)
    is_placebo = given["attribute"] == PLACEBO
    placebo = [*given.index[is_placebo]]
    rows = []
    for _, group in given[~is_placebo].groupby(["label", "dose"], sort=False):
        first, own = group.iloc[0], [*group.index]
        # whole attributes are held against whole ones, single shifts against single ones
        alike = given[(given["dose"] == first["dose"]) & ((given["shift"] == WHOLE) == (first["shift"] == WHOLE))]
        same = alike["attribute"] == first["attribute"]
        against = {"others": [*alike.index[~same & ~is_placebo[alike.index]]], "placebo": placebo}
        siblings = [*alike.index[same].difference(own)]
        row = {"sets": first["label"], **first[["attribute", "shift", "dose"]]}
        rows.append(row | _cosines(cosines, own, siblings, against))
    size = max((row["number"] for row in rows), default=2)
    for start in range(0, len(placebo) - size + 1, size):  # what rows look like where there is nothing to find
        own = placebo[start : start + size]
        rest = [number for number in placebo if number not in own]
        if rest:  # a placebo of one group has nothing to be held against
            row = {"sets": f"{PLACEBO} {start // size + 1}", "attribute": PLACEBO, "shift": WHOLE, "dose": 0.0}
            rows.append(row | _cosines(cosines, own, [], {"others": [], "placebo": rest}))
    table = pd.DataFrame(rows)
    p = table[[*TESTS.values()]].to_numpy(float)
    table["p"] = np.nanmax(np.reshape(holm(p.ravel()), p.shape), axis=1)
    table["verdict"] = np.where(table["p"] < LEVEL, OWN, NOT_OWN)
    return table


def _cosines(
    cosines: npt.NDArray[np.float64], own: list[int], siblings: list[int], against: Mapping[str, list[int]]
) -> dict[str, Any]:
    tests = {name: label_test(cosines, own, rest) for name, rest in against.items() if rest}
    some = next(iter(tests.values()))
    others = cosines[np.ix_(own, against["others"])]
    row = {
        "number": len(own),
        "halves": float(np.nanmean(cosines.diagonal()[own])),
        "own": some.own,
        "own lowest": some.low,
        "siblings": float(cosines[np.ix_(own, siblings)].mean()) if siblings else np.nan,
        "others": tests["others"].other if "others" in tests else np.nan,
        "others highest": float(others.max()) if others.size else np.nan,
        "placebo": tests["placebo"].other if "placebo" in tests else np.nan,
    }
    return row | {column: tests[name].p if name in tests else np.nan for name, column in TESTS.items()}


def pull_answer(table: pd.DataFrame) -> str:
    """The table in a few sentences."""
    real = table[table["attribute"] != PLACEBO]
    whole, single = real[real["shift"] == WHOLE], real[real["shift"] != WHOLE]
    sentences = []
    for dose, group in whole.groupby("dose"):
        own = group[group["verdict"] == OWN]["sets"].tolist()
        told = ", ".join(own) or "none"
        sentences.append(
            f"At dose {dose:g}, {len(own)} of {len(group)} attributes have a direction of their own ({told})."
        )
    if len(single):
        own = single[single["verdict"] == OWN]["sets"].tolist()
        sentences.append(f"Of {len(single)} shifts alone, {len(own)} have one ({', '.join(own) or 'none'}).")
    return " ".join(sentences)
