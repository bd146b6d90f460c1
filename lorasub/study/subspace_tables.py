"""Sections of a report about subspaces: overlaps, held-out adapters, the causal test, spectra."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorasub.figures import overlap_variants, save_figure, spectra_figure, spectra_rows
from lorasub.files import read_json
from lorasub.metrics.bootstrap import CrossedDifference, crossed_difference
from lorasub.metrics.results import Results, SetResult
from lorasub.study.artefacts import BASIS, RUN
from lorasub.study.evidence import LEVEL
from lorasub.study.plan import Comparison, Plan
from lorasub.study.statistics import holm
from lorasub.study.steps.comparison import PARTS
from lorasub.study.steps.removal import RANDOM
from lorasub.study.store import Store
from lorasub.subspaces import SubspaceBasis

THE_STUDY = "(the study)"
#: Name of a comparison's files -> title and explanation of its table.
_TEXTS = {
    "overlap": (
        "Overlaps of attributes",
        "Means over pairs and layers of phi, the mean squared cosine of the principal angles, beside that of random "
        "subspaces. Any two data sets overlap more than random subspaces do: only what is within an attribute and not "
        "between attributes can belong to it. Specific parts are what is left of each attribute without what all "
        "share.",
    ),
    "separation": (
        "Attributes against shuffled labels",
        "How alike two adapters are (RV coefficient, which needs no number of dimensions), of one attribute and of "
        "different ones. p is the share of shuffled labels that give at least this difference; p_holm is corrected "
        "for the number of rows.",
    ),
    "explained": (
        "Adapters that were held out",
        "Each attribute's subspace is mined from half of its adapters. The table has the share of the squared norm of "
        "the other half's adapters that lies in it on both sides.",
    ),
}


def subspace_sections(plan: Plan, store: Store, folder: Path) -> list[dict[str, Any]]:
    """Returns title, text, rows and figures of each comparison of attributes that is done."""
    made: dict[str, Callable[[Any], pd.DataFrame]] = {
        "overlap": overlap_rows,
        "separation": separation_rows,
        "explained": explained_rows,
    }
    found = []
    for name, rows_of in made.items():
        table = pd.DataFrame()
        figures: list[str] = []
        for comparison in plan.comparisons:
            for part, source in _files(comparison, name, plan, store):
                rows = rows_of(read_json(source))
                shown = comparison.variant.label if comparison.variant else THE_STUDY
                table = pd.concat([table, rows.assign(variant=shown, part=part)], ignore_index=True)
                drawn = source.with_suffix(".png")
                if comparison.variant is None and drawn.is_file():
                    shutil.copyfile(drawn, folder / drawn.name)
                    figures.append(drawn.name)
        if table.empty:
            continue
        table.to_csv(folder / f"{name}.csv", index=False)
        if name == "overlap" and table["variant"].nunique() > 1:
            file, drawn_rows = "overlap_variants.png", table.to_dict("records")
            save_figure(overlap_variants(drawn_rows), folder / file, drawn_rows)
            figures.append(file)
        told = table[["variant", "part", *[c for c in table.columns if c not in ("variant", "part")]]]
        told = told.drop(columns=[c for c in ("variant", "part") if told[c].nunique() == 1])
        title, text = _TEXTS[name]
        found.append({"title": title, "text": text, "rows": told.to_dict("records"), "figures": figures})
    return found


def _files(comparison: Comparison, name: str, plan: Plan, store: Store) -> Iterator[tuple[str, Path]]:
    output = comparison.explain if name == "explained" else comparison.overlap
    if output is not None and store.done(plan.graph[output.key]):
        for part, ending in PARTS.items():
            path = store.folder(plan.graph[output.key]) / f"{name}{ending}.json"
            if path.is_file():
                yield part, path


def overlap_rows(matrix: Mapping[str, Any]) -> pd.DataFrame:
    """From ``overlap.json``: phi within and between attributes with its null, on either side, means over pairs."""
    rows = [
        {**row, "pairs": f"{'within an attribute' if one['first'] == one['second'] else 'between attributes'}"}
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


def removal_rows(plan: Plan, store: Store) -> tuple[list[dict[str, Any]], int]:
    """Returns a row for each attribute's adapter, and the number of tests that p is corrected for.

    Columns: the result without an adapter, with the whole one and its gain; without the own subspace, the others', a
    random one; differences own - others and own - random; a verdict.
    """
    if plan.study.removal is None:
        return [], 0
    result, least = plan.study.removal.result, plan.study.removal.least_gain
    rows: list[dict[str, Any]] = []
    tests: list[CrossedDifference] = []
    for attribute in plan.study.attributes:
        cells = [cell for cell in plan.removals if cell.attribute == attribute]
        if not all(store.done(plan.graph[cell.step.key]) for cell in cells):
            continue
        sets = {
            cell.removed or cell.state: next(
                iter(Results.load(store.folder(plan.graph[cell.step.key]) / RUN).sets.values())
            )
            for cell in cells
        }
        value = {name: found.overall[result] for name, found in sets.items()}
        others = [name for name in plan.study.attributes if name != attribute]
        gain = 1 - value["whole"] / value["none"]
        remove = next(cell.remove for cell in cells if cell.remove is not None)
        record = store.record(plan.graph[remove.key])
        row: dict[str, Any] = {"attribute": attribute, "no adapter": value["none"], "whole": value["whole"]}
        row |= {"gain": f"{100 * gain:.0f} %", "energy taken": float(record.measured["share"]) if record else None}
        row |= {"without own": value[attribute], "others": float(np.mean([value[name] for name in others]))}
        row |= {"random": value[RANDOM], "gains": gain >= least}
        if row["gains"]:
            tests += [_difference(sets, attribute, names, result) for names in (others, [RANDOM])]
        rows.append(row)
    corrected = holm([test.p for test in tests])
    for row in rows:
        if not row.pop("gains"):
            row["verdict"] = "no gain to take away: no evidence here"
            continue
        (one, other), (p_one, p_other) = tests[:2], corrected[:2]
        tests, corrected = tests[2:], corrected[2:]
        hurts = one.difference > 0 and other.difference > 0 and max(p_one, p_other) < LEVEL
        row["verdict"] = (
            f"own - others {one.difference:+.4f} (p {p_one:.2g}), "
            f"own - random {other.difference:+.4f} (p {p_other:.2g}): " + ("specific" if hurts else "nothing specific")
        )
    return rows, len(rows) and 2 * sum("own - others" in row["verdict"] for row in rows)


def _difference(sets: Mapping[str, SetResult], own: str, others: Sequence[str], result: str) -> CrossedDifference:
    """CrossedDifference of results without the own subspace and without others (mean), over scenes."""
    values, weights = (
        {
            name: np.array([[getattr(scene, kind).get(result, 0.0) for scene in found.scenes]])
            for name, found in sets.items()
        }
        for kind in ("values", "weights")
    )
    mean = np.mean([values[name] for name in others], axis=0)
    return crossed_difference(mean, values[own], (np.min([weights[name] for name in others], axis=0), weights[own]))


def spectra_figures(plan: Plan, store: Store, folder: Path) -> list[dict[str, str]]:
    """Draws singular values of the mined subspaces by kind of layer, against the null where one was drawn."""
    found = []
    for attribute, output in plan.mined.items():
        if store.done(plan.graph[output.key]):
            basis = SubspaceBasis.load(store.folder(plan.graph[output.key]) / BASIS)
            file = f"spectra_{attribute}.png"
            save_figure(spectra_figure(basis), folder / file, spectra_rows(basis))
            found.append({"attribute": attribute, "file": file})
    return found
