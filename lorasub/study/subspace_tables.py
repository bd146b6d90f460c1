"""Tables of a report about subspaces: overlaps, held-out adapters, the causal test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorasub.files import read_json
from lorasub.metrics.bootstrap import CrossedDifference, crossed_difference
from lorasub.metrics.results import Results, SetResult
from lorasub.study.artefacts import RUN
from lorasub.study.evidence import LEVEL, holm
from lorasub.study.plan import Comparison
from lorasub.study.steps.comparison import PARTS
from lorasub.study.steps.removal import RANDOM
from lorasub.study.table import Finished

#: Stands where the study itself is one of several variants.
THE_STUDY = "(the study)"


def overlap_rows(matrix: Mapping[str, Any]) -> pd.DataFrame:
    """From ``overlap.json``: phi within and between attributes with its null, on either side, means over pairs."""
    rows = [
        {**row, "pairs": "within an attribute" if one["first"] == one["second"] else "between attributes"}
        for one in matrix["reports"]
        for row in one["summary"]["all"]
        if row["measure"] == "phi"
    ]
    grouped = pd.DataFrame(rows).groupby(["side", "pairs"])
    return grouped.agg(number=("value", "size"), phi=("value", "mean"), chance=("null_mean", "mean")).reset_index()


def separation_rows(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """From ``separation.json``, with p-values that are corrected for their number."""
    table = pd.DataFrame(found)
    return table.assign(p_holm=holm(table["p"].tolist()))


def explained_rows(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """From ``explained.json``: by kind of layer, subspaces against adapters of their own attribute and others'."""
    table = pd.DataFrame(found)
    own = np.where(table["basis"] == table["adapters"], "own attribute", "other attributes")
    shares = table.assign(of=own).pivot_table(index="layers", columns="of", values="explained", sort=False)
    chance = table[table["basis"] == table["adapters"]].groupby("layers")["chance"].mean()
    names = [name for name in ("own attribute", "other attributes") if name in shares]
    return shares[names].join(chance).reset_index()


#: Name of a comparison's files -> its table.
COMPARISONS: dict[str, Callable[[Any], pd.DataFrame]] = {
    "overlap": overlap_rows,
    "separation": separation_rows,
    "explained": explained_rows,
}


def comparison_files(finished: Finished, name: str) -> Iterator[tuple[Comparison, str, Path]]:
    """Yields the files of one of the :data:`COMPARISONS` of attributes that are done, with the part they are about."""
    for comparison in finished.plan.comparisons:
        folder = finished.folder(comparison.explain if name == "explained" else comparison.overlap)
        for part, ending in PARTS.items() if folder else ():
            if folder and (path := folder / f"{name}{ending}.json").is_file():
                yield comparison, part, path


def comparison_table(finished: Finished, name: str) -> pd.DataFrame:
    """Returns one of the :data:`COMPARISONS` of attributes, for every variant and part; empty if none is done."""
    tables = [
        COMPARISONS[name](read_json(path)).assign(
            variant=comparison.variant.label if comparison.variant else THE_STUDY, part=part
        )
        for comparison, part, path in comparison_files(finished, name)
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def removal_table(finished: Finished) -> tuple[pd.DataFrame, int]:
    """Returns a row for each attribute's adapter, and the number of tests that p is corrected for.

    Columns: the result without an adapter, with the whole one and its gain; without the own subspace, the others', a
    random one; differences own - others and own - random; a verdict.
    """
    wanted = finished.plan.study.removal
    rows: list[dict[str, Any]] = []
    tests: dict[str, list[CrossedDifference]] = {}
    for removal in finished.plan.removals:
        steps = {"no adapter": removal.without_adapter, "whole": removal.whole, **removal.rests}
        folders = {name: finished.folder(step) for name, step in steps.items()}
        if wanted is None or None in folders.values():
            continue
        sets = {
            name: next(iter(Results.load(folder / RUN).sets.values())) for name, folder in folders.items() if folder
        }
        value = {name: found.overall[wanted.result] for name, found in sets.items()}
        own = removal.attribute
        others = [name for name in removal.rests if name not in (own, RANDOM)]
        gain = 1 - value["whole"] / value["no adapter"]
        if gain >= wanted.least_gain:
            tests[own] = [_difference(sets, own, names, wanted.result) for names in (others, [RANDOM])]
        rows.append(
            {
                "attribute": own,
                "no adapter": value["no adapter"],
                "whole": value["whole"],
                "gain": f"{100 * gain:.0f} %",
                "energy taken": finished.measured(removal.remove).get("share"),
                "without own": value[own],
                "others": float(np.mean([value[name] for name in others])),
                "random": value[RANDOM],
            }
        )
    corrected = iter(holm([test.p for pair in tests.values() for test in pair]))
    verdicts = {name: _verdict(pair, (next(corrected), next(corrected))) for name, pair in tests.items()}
    for row in rows:
        row["verdict"] = verdicts.get(row["attribute"], "no gain to take away: no evidence here")
    return pd.DataFrame(rows), 2 * len(tests)


def _verdict(tests: Sequence[CrossedDifference], p: tuple[float, float]) -> str:
    (one, other), (p_one, p_other) = tests, p
    hurts = one.difference > 0 and other.difference > 0 and max(p) < LEVEL
    return (
        f"own - others {one.difference:+.4f} (p {p_one:.2g}), own - random {other.difference:+.4f} (p {p_other:.2g}): "
        + ("specific" if hurts else "nothing specific")
    )


def _difference(sets: Mapping[str, SetResult], own: str, others: Sequence[str], result: str) -> CrossedDifference:
    """Difference of results without the own subspace and without others (mean), over scenes."""
    values, weights = (
        {
            name: np.array([[getattr(scene, kind).get(result, 0.0) for scene in found.scenes]])
            for name, found in sets.items()
        }
        for kind in ("values", "weights")
    )
    mean = np.mean([values[name] for name in others], axis=0)
    return crossed_difference(mean, values[own], (np.min([weights[name] for name in others], axis=0), weights[own]))
