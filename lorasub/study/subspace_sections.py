"""What a report says about subspaces: how far they overlap, what they predict, and what removing them does."""

from __future__ import annotations

import itertools
import shutil
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lorasub.figures import overlap_variants, save_figure, spectra_figure, spectra_rows
from lorasub.files import read_json, write_csv
from lorasub.metrics.results import Results
from lorasub.study.comparison_steps import of_part
from lorasub.study.plan import Plan
from lorasub.study.store import BASIS, RECORD_FILE, RUN, Store
from lorasub.study.text import Rows, markdown
from lorasub.subspaces import SubspaceBasis


def subspace_sections(plan: Plan, store: Store, folder: Path) -> list[str]:
    """The sections, each an empty text where nothing of it is done yet; tables and figures go into ``folder``."""
    return [
        _overlaps(plan, store, folder),
        _separation(plan, store, folder),
        _explained(plan, store, folder),
        _removals(plan, store, folder),
        _spectra(plan, store, folder),
    ]


def overlap_rows(matrix: Mapping[str, Any]) -> list[dict[str, Any]]:
    """From ``overlap.json``: phi within and between attributes with its null, on either side, means over pairs."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for report in matrix["reports"]:
        pairs = "within an attribute" if report["first"] == report["second"] else "between attributes"
        for row in report["summary"]["all"]:
            if row["measure"] == "phi":
                groups.setdefault((row["side"], pairs), []).append(row)
    return [
        {
            "side": side,
            "pairs": pairs,
            "number": len(rows),
            "phi": statistics.fmean(row["value"] for row in rows),
            "chance": statistics.fmean(row["null_mean"] for row in rows),
        }
        for (side, pairs), rows in sorted(groups.items())
    ]


def explained_rows(found: Rows) -> list[dict[str, Any]]:
    """From ``explained.json``: by kind of layer, subspaces against adapters of their own attribute and others'."""
    kinds = list(dict.fromkeys(row["layers"] for row in found))
    rows = []
    for kind in kinds:
        own, other = (
            [row for row in found if row["layers"] == kind and (row["basis"] == row["adapters"]) is same]
            for same in (True, False)
        )
        rows.append(
            {
                "layers": kind,
                "own attribute": statistics.fmean(row["explained"] for row in own),
                "other attributes": statistics.fmean(row["explained"] for row in other) if other else None,
                "chance": statistics.fmean(row["chance"] for row in own),
            }
        )
    return rows


def _overlaps(plan: Plan, store: Store, folder: Path) -> str:
    """Within and between attributes, against chance; each variant a line."""
    table = _of_variants(plan.overlaps, "overlap", overlap_rows, plan, store, folder, overlap_variants)
    return table and (
        "## Overlaps of attributes\n\nMeans over pairs and layers of phi, the mean squared cosine of the principal "
        "angles. A subspace belongs to an attribute only if halves of one attribute's adapters overlap clearly more "
        "than halves of different attributes do. Specific parts are what is left of each attribute when what all "
        f"share is taken out.\n\n{table}"
    )


def _separation(plan: Plan, store: Store, folder: Path) -> str:
    """Whether adapters of one attribute are more alike than shuffled labels would make them."""
    table = _of_variants(plan.overlaps, "separation", list, plan, store, folder)
    return table and (
        "## Attributes against shuffled labels\n\nHow alike two adapters are (RV coefficient, which needs no number of "
        "dimensions), of one attribute and of different ones. p is the share of shuffled labels that give at least "
        f"this difference.\n\n{table}"
    )


def _explained(plan: Plan, store: Store, folder: Path) -> str:
    """Whether subspaces predict adapters that they were not mined from."""
    table = _of_variants(plan.explained, "explained", explained_rows, plan, store, folder)
    return table and (
        "## Adapters that were held out\n\nEach attribute's subspace is mined from half of its adapters. The table has "
        f"the share of the squared norm of the other half's adapters that lies in it on both sides.\n\n{table}"
    )


def _of_variants(
    steps: Mapping[str, str],
    name: str,
    rows_of: Callable[[Any], list[dict[str, Any]]],
    plan: Plan,
    store: Store,
    folder: Path,
    draw: Callable[[Rows], Any] | None = None,
) -> str:
    """A table of what a step found in each variant, and the study's own figures of it; empty where none is done.

    Args:
        steps: variant -> key of the step, which left ``name.json`` and maybe a figure, and the same of specific parts.
        name: of these files, and of the CSV.
        rows_of: rows from the content of the JSON file.
        plan: of the study.
        store: has the results.
        folder: of the report.
        draw: makes a matplotlib figure of the rows of several variants.
    """
    rows = []
    figures = ""
    for (variant, key), part in itertools.product(steps.items(), ("raw", "specific")):
        step = plan.graph[key]
        found, drawn = (store.folder(step) / f"{of_part(name, part)}.{kind}" for kind in ("json", "png"))
        if not store.done(step) or not found.is_file():
            continue
        if not variant and drawn.is_file():
            shutil.copyfile(drawn, folder / drawn.name)
            figures += f"\n\n![{drawn.stem}]({drawn.name})"
        rows += [{"variant": variant or "(the study)", "part": part, **row} for row in rows_of(read_json(found))]
    if not rows:
        return ""
    write_csv(folder / f"{name}.csv", rows)
    if draw is not None and len({row["variant"] for row in rows}) > 1:
        save_figure(draw(rows), folder / f"{name}_variants.png", rows)
        figures += f"\n\n![{name} of variants]({name}_variants.png)"
    return markdown(_rounded(_distinct(rows))) + figures


def _removals(plan: Plan, store: Store, folder: Path) -> str:
    """What an adapter loses without one attribute's subspace, on scenes in which each attribute varies."""
    wanted = plan.study.removal
    rows: list[dict[str, Any]] = []
    for cell in plan.removals:
        step = plan.graph[cell.step]
        if wanted is None or not store.done(step):
            continue
        measured = next(iter(Results.load(store.folder(step) / RUN).sets.values())).overall
        share = None
        if cell.remove is not None:
            record = read_json(store.folder(plan.graph[cell.remove]) / RECORD_FILE)
            share = record["measured"]["removed"]
        rows.append(
            {
                "removed": cell.removed or "nothing",
                "share of the update": share,
                "scenes vary in": cell.tested,
                **{name: measured.get(name) for name in wanted.results},
                "file": (store.folder(step) / RUN / "results.json").relative_to(store.root).as_posix(),
            }
        )
    if not rows or wanted is None:
        return ""
    write_csv(folder / "removals.csv", rows)
    parts = []
    for result in wanted.results:
        table = [
            {
                "removed": removed,
                "share of the update": next(r["share of the update"] for r in rows if r["removed"] == removed),
                **{row["scenes vary in"]: row[result] for row in rows if row["removed"] == removed},
            }
            for removed in dict.fromkeys(row["removed"] for row in rows)
        ]
        parts.append(f"### {result}\n\n{markdown(_rounded(table))}")
    return (
        f"## Without a subspace\n\nAn adapter was fitted to scenes of `{wanted.attribute}`; then each attribute's "
        "subspace was taken out of its update on both sides, and a random one of the same dimensions. Columns: what "
        "varies in the scenes that were tested.\n\n" + "\n\n".join(parts)
    )


def _spectra(plan: Plan, store: Store, folder: Path) -> str:
    """Singular values of the mined subspaces by kind of layer, against the null where one was drawn."""
    parts = []
    done = set()
    for (variant, _), key in plan.bases.items():
        for attribute, mined in plan.graph[key].inputs.items():
            step = plan.graph[mined]
            if variant or step.kind != "mine" or attribute in done or not store.done(step):
                continue
            done.add(attribute)
            basis = SubspaceBasis.load(store.folder(step) / BASIS)
            file = f"spectra_{attribute}.png"
            save_figure(spectra_figure(basis), folder / file, spectra_rows(basis))
            parts.append(f"### {attribute}\n\n![spectra of {attribute}]({file})")
    return "## Spectra\n\n" + "\n\n".join(parts) if parts else ""


def _distinct(rows: Rows) -> Rows:
    """Without the columns of variants and parts where there is nothing but the study itself and raw subspaces."""
    only = {"variant": "(the study)", "part": "raw"}
    dropped = {name for name, value in only.items() if {row[name] for row in rows} == {value}}
    return [{name: value for name, value in row.items() if name not in dropped} for row in rows]


def _rounded(rows: Rows) -> Rows:
    return [{k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]
