"""The tables of the gradient test: which sets of scenes pull the base model in directions of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lorasub.figures import pulls_figure, save_figure
from lorasub.files import read_json
from lorasub.study.evidence import LEVEL
from lorasub.study.gradient_specs import PLACEBO, WHOLE
from lorasub.study.plan import Plan
from lorasub.study.statistics import holm
from lorasub.study.steps.pulls import COSINES_FILE
from lorasub.study.store import Store
from lorasub.subspaces.pulls import LabelTest, label_test

OWN, NOT_OWN = "own direction", "not told apart"
#: Columns of a row that are p-values before their correction.
_TESTS = ("p others", "p placebo")


class PullSection(NamedTuple):
    """What the report shows of the gradient test.

    Attributes:
        rows: of the table.
        answer: in words.
        figure: file.
        tests: how many p-values are corrected together.
    """

    rows: list[dict[str, Any]]
    answer: str
    figure: str
    tests: int


def pull_section(plan: Plan, store: Store, folder: Path) -> PullSection | None:
    """Returns table, answer and figure, if the test is wanted and done; writes ``gradient_test.csv`` and its figure."""
    if plan.pulls is None or not store.done(plan.graph[plan.pulls.key]):
        return None
    found = read_json(store.folder(plan.graph[plan.pulls.key]) / COSINES_FILE)
    table = pull_rows(found["sets"], np.asarray(found["cosines"]))
    table.to_csv(folder / "gradient_test.csv", index=False)
    file = "gradient_test.png"
    save_figure(pulls_figure(rows := table.to_dict("records")), folder / file, rows)
    return PullSection(
        rows=[_shown(row) for row in rows],
        answer=pull_answer(table),
        figure=file,
        tests=int(table[[*_TESTS]].notna().sum().sum()),
    )


def pull_rows(sets: Sequence[Mapping[str, Any]], cosines: np.ndarray[Any, np.dtype[np.float64]]) -> pd.DataFrame:
    """Tests every attribute at every dose, every single shift, and groups of the placebo's sets.

    Args:
        sets: of each set ``label``, ``attribute``, ``shift`` and ``dose``.
        cosines: ``[sets, sets]``, see :func:`lorasub.subspaces.pulls.pull_cosines`.

    Returns:
        Columns ``sets``, ``dose``, ``number`` (of sets), ``halves``, ``own`` and ``own lowest``; ``others`` (sets of
        other attributes) and ``siblings`` (other shifts of the same attribute) with ``p others``; ``placebo`` with
        ``p placebo``; ``p`` (the larger one, corrected for the number of tests) and ``verdict``.
    """

    def chosen(wanted: Callable[[Mapping[str, Any]], bool]) -> list[int]:
        return [number for number, each in enumerate(sets) if wanted(each)]

    placebo = chosen(lambda each: each["attribute"] == PLACEBO)
    rows = []
    for label, dose in dict.fromkeys((each["label"], each["dose"]) for each in sets if each["attribute"] != PLACEBO):
        own = chosen(lambda each, label=label, dose=dose: (each["label"], each["dose"]) == (label, dose))  # type: ignore[misc]
        first = sets[own[0]]
        alike = chosen(
            lambda each, first=first: (
                each["dose"] == first["dose"] and (each["shift"] == WHOLE) == (first["shift"] == WHOLE)
            )  # type: ignore[misc]
        )
        others = [number for number in alike if sets[number]["attribute"] not in (first["attribute"], PLACEBO)]
        siblings = [number for number in alike if sets[number]["attribute"] == first["attribute"] and number not in own]
        rows.append(_row(cosines, label, dose, own, others, siblings, placebo))
    size = max((row["number"] for row in rows), default=2)
    for start in range(0, len(placebo) - size + 1, size):  # what rows look like where there is nothing to find
        own = placebo[start : start + size]
        rest = [number for number in placebo if number not in own]
        if not rest:  # a placebo of one group has nothing to be held against
            break
        rows.append(_row(cosines, f"{PLACEBO} {start // size + 1}", 0.0, own, [], [], rest))
    table = pd.DataFrame(rows)
    corrected = iter(holm(table[[*_TESTS]].to_numpy(float).ravel().tolist()))
    table["p"] = [
        max(pair, key=lambda p: -1.0 if np.isnan(p) else p) for pair in zip(corrected, corrected, strict=True)
    ]
    table["verdict"] = np.where(table["p"] < LEVEL, OWN, NOT_OWN)
    return table


def pull_answer(table: pd.DataFrame) -> str:
    """The table in a few sentences."""
    real = table[~table["sets"].str.startswith(PLACEBO)]
    sentences = []
    for dose, group in real.groupby("dose"):
        whole = group[~group["sets"].str.contains(" ")]
        own = whole[whole["verdict"] == OWN]["sets"].tolist()
        told = ", ".join(own) if own else "none"
        sentences.append(
            f"At dose {dose:g}, {len(own)} of {len(whole)} attributes have a direction of their own ({told})."
        )
    single = real[real["sets"].str.contains(" ")]
    if len(single):
        own = single[single["verdict"] == OWN]["sets"].tolist()
        told = ", ".join(own) if own else "none"
        sentences.append(f"Of {len(single)} shifts alone, {len(own)} have one ({told}).")
    return " ".join(sentences)


def _row(
    cosines: np.ndarray[Any, np.dtype[np.float64]],
    label: str,
    dose: float,
    own: list[int],
    others: list[int],
    siblings: list[int],
    placebo: list[int],
) -> dict[str, Any]:
    against: dict[str, LabelTest] = {
        name: label_test(cosines, own, rest) for name, rest in (("others", others), ("placebo", placebo)) if rest
    }
    some = next(iter(against.values()))
    nan = float("nan")
    return {
        "sets": label,
        "dose": dose,
        "number": len(own),
        "halves": float(np.nanmean(cosines.diagonal()[own])),
        "own": some.own,
        "own lowest": some.low,
        "siblings": float(cosines[np.ix_(own, siblings)].mean()) if siblings else nan,
        "others": against["others"].other if "others" in against else nan,
        "others highest": float(cosines[np.ix_(own, others)].max()) if others else nan,
        "p others": against["others"].p if "others" in against else nan,
        "placebo": against["placebo"].other if "placebo" in against else nan,
        "p placebo": against["placebo"].p if "placebo" in against else nan,
    }


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    def number(name: str) -> str:
        return "" if np.isnan(row[name]) else f"{row[name]:.2f}"

    return {
        "sets of": row["sets"],
        "dose": f"{row['dose']:g}",
        "halves of a set": number("halves"),
        "own sets (lowest pair)": f"{number('own')} ({number('own lowest')})",
        "other shifts of it": number("siblings"),
        "other attributes (highest pair)": f"{number('others')} ({number('others highest')})"
        if number("others")
        else "",
        "placebo": number("placebo"),
        "p (Holm)": f"{row['p']:.2g}",
        "verdict": row["verdict"],
    }
