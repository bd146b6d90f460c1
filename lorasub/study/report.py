"""Writes the report of a study: Markdown, one HTML page, figures and CSV files, from result files only."""

from __future__ import annotations

import base64
import html
import math
import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markdown_it import MarkdownIt

from lorasub._version import __version__
from lorasub.figures import ablation_figure, learning_curves, parameters_figure, save_figure
from lorasub.files import atomic_path
from lorasub.metrics.bootstrap import RESAMPLES
from lorasub.study.evidence import LEAST_SEEDS, LEVEL, compare_methods, judge_places
from lorasub.study.plan import Plan
from lorasub.study.pooled_tables import pooled_places
from lorasub.study.pull_tables import pull_section
from lorasub.study.store import Store, machine
from lorasub.study.subspace_tables import removal_rows, spectra_figures, subspace_sections
from lorasub.study.table import NO_LOOK, choice, measured, outcomes, results_table, summaries

REPORT_FILE, PAGE_FILE = "report.md", "report.html"
NO_EVIDENCE = "no evidence here"
_GRID_NOTE = (
    "† The learning rate stands at an end of its grid: a better one may lie beyond it, and widen the grid first."
)
Rows = list[dict[str, Any]]


def write_report(plan: Plan, store: Store, *, command: str, failed: Mapping[str, str] | None = None) -> Path:
    """Writes ``reports/<name>/report.md`` with its figures and tables below the store's folder.

    ``report.html`` beside it is the same in one file, figures included. What is not done yet is left out, and the
    report says how much that is.

    Args:
        plan: of the study.
        store: has its results.
        command: that makes the results again.
        failed: name of each step that failed -> why.

    Returns:
        The path of the Markdown file.
    """
    folder = store.root / "reports" / plan.study.name
    folder.mkdir(parents=True, exist_ok=True)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined, autoescape=False
    )
    environment.filters.update(table=markdown, scene_count=_scene_count, one_line=lambda text: " ".join(text.split()))
    context = {"command": command, "failed": dict(failed or {}), **_Report(plan, store, folder).context()}
    text = environment.get_template("report.md.j2").render(context)
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    page = environment.get_template("page.html.j2").render(
        title=f"Study: {plan.study.name}", body=_embedded(body, folder)
    )
    for name, content in ((REPORT_FILE, text), (PAGE_FILE, page)):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return folder / REPORT_FILE


class _Report:
    """Values of the template; tables and figures are written on the way."""

    def __init__(self, plan: Plan, store: Store, folder: Path) -> None:
        self.plan, self.store, self.study, self.folder = plan, store, plan.study, folder
        self.results = results_table(plan, store)
        self.outcomes = outcomes(self.results, plan)
        self.own = self.outcomes[self.outcomes["variant"] == ""]
        self.places = judge_places(self.own, self.study)
        self.pooled = pooled_places(self.own, self.places, self.study)
        self.compared = compare_methods(self.own, self.study, self.places)
        self.summaries = summaries(self.outcomes)

    def context(self) -> dict[str, Any]:
        """Everything, by the names of the template."""
        self._csv("results.csv", self.results[self.results["scene"] == ""].drop(columns=["scene", "weight"]))
        self._csv("scenes.csv", self.outcomes[self.outcomes["scene"] != ""])
        self._csv("places.csv", self.places)
        self._csv("differences.csv", self.compared)
        study = self.study
        removals, removal_tests = removal_rows(self.plan, self.store)
        for name, rows in (("removals.csv", removals), ("costs.csv", costs := self._costs())):
            self._csv(name, pd.DataFrame(rows))
        records = [self.store.record(step) for step in self.plan.graph]
        own_keys = {step.key for step in self.plan.graph}
        zero = [measured(self.plan, self.store, cell.finetune).get("step_zero_difference") for cell in self.plan.cells]
        pooled, pooled_notes, pooled_edges = self._pooled_rows()
        return {
            "study": study,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "version": __version__,
            "machine": machine(),
            "adapters": any(step.kind == "fit" for step in self.plan.graph),
            "total": len(records),
            "done": sum(record is not None for record in records),
            "other_versions": sum(record is not None and record.key not in own_keys for record in records),
            "grid_note": _GRID_NOTE,
            "primary": study.primary,
            "primary_answer": self._primary_answer(),
            "dimension_note": self._dimension_note(),
            "pulls": pull_section(self.plan, self.store, self.folder),
            "accuracy": list(self._accuracy()),
            "pooled": pooled,
            "pooled_notes": pooled_notes,
            "pooled_edges": pooled_edges,
            "references": bool(study.references or study.primary),
            "comparisons": [self._compared_row(row) for _, row in self.compared.iterrows()],
            "comparison_edges": self._edges(self.compared["label"]),
            "level": LEVEL,
            "least_seeds": LEAST_SEEDS,
            "curves": list(self._curves()),
            "costs": costs,
            "subspaces": subspace_sections(self.plan, self.store, self.folder),
            "removals": removals,
            "removal_tests": removal_tests,
            "spectra": spectra_figures(self.plan, self.store, self.folder),
            "ablations": list(self._ablations()),
            "protocols": list(self._protocols()),
            "resamples": RESAMPLES,
            "step_zero": [value for value in zero if value is not None],
        }

    # the question

    def _primary_answer(self) -> str:
        primary = self.study.primary
        if primary is None:
            return ""
        scenes = -1 if primary.scenes is None else primary.scenes
        where = (self.places["downstream"] == primary.downstream) & (self.places["scenes"] == scenes)
        places = self.places[where & ~self.places["validation"]]
        counted = places[places["counts"]]
        if places.empty:
            return "Not answered yet: nothing of it is done."
        if counted.empty:
            return f"No evidence: in none of {len(places)} places does the best method beat the rows that do not look."
        found = self.compared[
            (self.compared["downstream"] == primary.downstream)
            & (self.compared["scenes"] == scenes)
            & (self.compared["label"] == primary.method)
            & (self.compared["reference"] == primary.reference)
        ]
        larger = self.study.downstream[primary.downstream].larger_is_better
        better = (found["difference"] > np.where(found["set"] == "pooled", 1.0, 0.0)) == larger
        clear = found["clear"].astype(bool)
        single, pooled = found["set"] != "pooled", found[found["set"] == "pooled"]
        told = (
            f"{len(counted)} of {len(places)} places count. There it is clearly better in "
            f"{(single & clear & better).sum()}, clearly worse in {(single & clear & ~better).sum()}, and not to be "
            f"told apart in {(single & ~clear).sum()}."
        )
        for _, row in pooled.iterrows():
            told += (
                f" Over all of them the ratio is {row['difference']:.3f} ({row['low']:.3f} to {row['high']:.3f}), "
                f"p = {row['p_holm']:.3g}."
            )
        return told

    def _dimension_note(self) -> str:
        """Whether the basis has the dimension that was fixed."""
        primary = self.study.primary
        if primary is None:
            return ""
        arm = next(arm for arm in self.study.arms() if arm.label == primary.method)
        names = [adapter.get("init_args", {}).get("basis") for adapter in arm.adapters]
        for name in names:
            found = measured(self.plan, self.store, self.plan.combined.get(str(name)))
            sizes = [found[side] for side in ("mean_d_out", "mean_d_in") if side in found]
            if sizes and any(abs(size - primary.dimension) > 0.05 * primary.dimension for size in sizes):
                shown = " and ".join(f"{size:.1f}" for size in sizes)
                return f"**Not as fixed**: the basis has {shown} dimensions a layer (outputs and inputs), not D."
        return ""

    # accuracy

    def _accuracy(self) -> Iterator[dict[str, Any]]:
        for name, task in self.study.downstream.items():
            for scenes in (-1 if count is None else count for count in task.scenes):
                own = self._of(name, scenes)
                if (own["kind"] == "method").sum() == 0 and scenes != (task.scenes[0] or -1):
                    continue
                if own.empty:
                    continue
                judged = self.places[(self.places["downstream"] == name) & (self.places["scenes"] == scenes)]
                file = ""
                if scenes == (task.scenes[0] or -1):
                    file = f"parameters_{name}.png"
                    pooled = [each.rows for each in self.pooled if (each.downstream, each.scenes) == (name, scenes)]
                    rows = pd.concat([*pooled, own]).to_dict("records")
                    save_figure(parameters_figure(rows, result=task.metric), self.folder / file, rows)
                yield {
                    "downstream": name,
                    "scenes": None if scenes == -1 else scenes,
                    "metric": task.metric,
                    "larger": task.larger_is_better,
                    "chosen_on": " ".join(sorted(set(own[own["validation"]]["set"]))),
                    "rows": self._accuracy_rows(own, judged),
                    "reasons": [f"{row.set}: {row.reason}" for row in judged.itertuples() if not row.counts],
                    "edges": bool(own["at_edge"].any()),
                    "figure": file,
                }

    def _of(self, downstream: str, scenes: int, variant: str = "") -> pd.DataFrame:
        """Summaries of a table: rows that do not look first, then the model as it is, then methods."""
        found = self.summaries[
            (self.summaries["downstream"] == downstream)
            & (self.summaries["variant"] == variant)
            & self.summaries["scenes"].isin([0, scenes])
        ]
        order = {"plane": 0, "mean": 1, "zero-shot": 2, "method": 3}
        return found.assign(_order=found["kind"].map(order)).sort_values("_order", kind="stable").drop(columns="_order")

    def _accuracy_rows(self, own: pd.DataFrame, judged: pd.DataFrame) -> Rows:
        verdicts = judged.set_index("set")
        best = {name: row["best"] for name, row in verdicts.iterrows() if row["counts"]}
        rows: dict[str, dict[str, Any]] = {}
        for _, row in own.iterrows():
            cells = rows.setdefault(row["label"], {"method": _marked(row), "parameters": f"{row['trainable']:,}"})
            told = mean_and_spread(row["mean"], row["deviation"])
            cells[row["set"]] = f"**{told}**" if best.get(row["set"]) == row["label"] else told
        if verdicts.empty:
            return [*rows.values()]
        evidence = {name: "counts" if row["counts"] else NO_EVIDENCE for name, row in verdicts.iterrows()}
        than_none = f"*the best one, against {self.study.zero_shot}*"
        return [
            *rows.values(),
            {"method": than_none, "parameters": "", **verdicts["than_none"].to_dict()},
            {"method": "*evidence*", "parameters": "", **evidence},
        ]

    def _pooled_rows(self) -> tuple[Rows, list[str], bool]:
        """A row for each method and number of training scenes, which places count, and whether a grid ended."""
        rows: dict[tuple[str, int, str], dict[str, Any]] = {}
        notes = []
        for each in self.pooled:
            shown = _scene_count(None if each.scenes == -1 else each.scenes)
            for _, row in each.rows.iterrows():
                cells = rows.setdefault(
                    (each.downstream, each.scenes, row["label"]),
                    {"downstream": each.downstream, "training scenes": shown, "method": _marked(row)}
                    | {"parameters": f"{row['trainable']:,}"},
                )
                cells[row["set"]] = mean_and_spread(row["mean"], row["deviation"])
            told = f"{len(each.counted)} of {len(each.wanted)} places count" + (
                f": {', '.join(each.counted)}" if each.counted else f"; **{NO_EVIDENCE}**"
            )
            notes.append(f"{each.downstream}, {shown} training scenes: {told}.")
        return [*rows.values()], notes, any(bool(each.rows["at_edge"].any()) for each in self.pooled)

    def _compared_row(self, row: pd.Series[Any]) -> dict[str, Any]:
        sign = "" if row["set"] == "pooled" else "+"
        shown = {name: format(row[name], f"{sign}.3f") for name in ("difference", "low", "high")}
        edges = set(self.own[self.own["at_edge"]]["label"])
        marked = {name: row[name] + " †" * (row[name] in edges) for name in ("label", "reference")}
        return {
            "downstream": row["downstream"],
            "training scenes": _scene_count(None if row["scenes"] == -1 else row["scenes"]),
            "set": row["set"],
            "method": marked["label"],
            "reference": marked["reference"],
            "ratio or difference": f"{shown['difference']} ({shown['low']} to {shown['high']})",
            "p (Holm)": f"{row['p_holm']:.3g}" + " \\*" * bool(row["clear"]),
        }

    def _edges(self, labels: pd.Series[Any]) -> bool:
        return bool(self.own[self.own["label"].isin(set(labels))]["at_edge"].any())

    # the rest

    def _curves(self) -> Iterator[dict[str, str]]:
        for name, task in self.study.downstream.items():
            if len(set(task.scenes) - {None}) > 1:
                found = self.summaries[(self.summaries["downstream"] == name) & (self.summaries["variant"] == "")]
                rows = found[found["scenes"] >= 0].to_dict("records")
                if any(row["kind"] == "method" for row in rows):
                    file = f"curves_{name}.png"
                    save_figure(learning_curves(rows, result=task.metric), self.folder / file, rows)
                    yield {"downstream": name, "file": file}

    def _costs(self) -> Rows:
        """Parameters by group, time, memory and size of each method, and the rate that was chosen."""
        groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        rates: dict[tuple[str, str], str] = {}
        for cell in self.plan.cells:
            found = measured(self.plan, self.store, cell.finetune)
            if cell.arm is not None and cell.variant is None and found:
                place = (cell.downstream, cell.arm.label)
                groups.setdefault(place, []).append(found)
                chosen = choice(self.plan, self.store, cell.select)
                rates[place] = f"{chosen['learning_rate']:g}" + " (end of the grid †)" * chosen["at_edge"]
        return [
            {
                "downstream": place[0],
                "method": place[1],
                "parameters": _by_group(fits[0]["parameters"]),
                "step (s)": f"{statistics.median(fit['step_seconds'] for fit in fits):.3g}",
                f"peak memory, {fits[0]['peak_memory_of']} (MB)": (
                    f"{max(fit['peak_memory_bytes'] for fit in fits) / 1e6:.0f}"
                ),
                "file (kB)": f"{max(fit['adapter_bytes'] for fit in fits) / 1e3:.0f}",
                "learning rate": rates[place],
            }
            for place, fits in groups.items()
        ]

    def _ablations(self) -> Iterator[dict[str, Any]]:
        """A table and a figure for each task that an ablation was done on, at the first number of training scenes."""
        for ablation, wanted in self.study.ablations.items():
            for name, task in self.study.downstream.items():
                scenes = task.scenes[0] or -1
                changed = self.summaries[
                    (self.summaries["ablation"] == ablation) & (self.summaries["downstream"] == name)
                ]
                methods = set(changed[changed["kind"] == "method"]["label"])
                if not methods:
                    continue
                parts = [("(the study)", "")] + [(v.partition("=")[2], v) for v in dict.fromkeys(changed["variant"])]
                found = pd.concat([self._of(name, scenes, variant).assign(shown=shown) for shown, variant in parts])
                found = found[(found["kind"] != "method") | found["label"].isin(methods)]
                rows: dict[tuple[str, str], dict[str, Any]] = {}
                for _, row in found.iterrows():
                    cells = rows.setdefault(
                        (row["label"], row["shown"]), {"method": _marked(row), "value": row["shown"]}
                    )
                    cells[row["set"]] = mean_and_spread(row["mean"], row["deviation"])
                drawn = [row | {"value": row["shown"]} for row in found.to_dict("records")]
                file = f"ablation_{ablation}_{name}.png"
                save_figure(ablation_figure(drawn, result=task.metric), self.folder / file, drawn)
                edges = bool(found["at_edge"].any())
                yield {"setting": wanted.setting, "downstream": name, "rows": [*rows.values()], "figure": file} | {
                    "edges": edges
                }

    def _protocols(self) -> Iterator[str]:
        grids = {arm.method: arm.learning_rates for arm in self.study.arms()}
        yield (
            "Grids: "
            + "; ".join(f"{name}: {', '.join(f'{r:g}' for r in rates)}" for name, rates in grids.items())
            + "."
        )
        for name, task in self.study.downstream.items():
            used = sorted(set(self.own[self.own["downstream"] == name]["protocol"]))
            yield f"{name}: {task.steps} steps; the outcome, {task.metric}, is measured by: {'; '.join(used) or '-'}."

    def _csv(self, name: str, table: pd.DataFrame) -> None:
        if not table.empty:
            with atomic_path(self.folder / name) as temporary:
                table.to_csv(temporary, index=False)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a Markdown table; its columns are all names that occur."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([_cell(row.get(name)) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")


def _embedded(body: str, folder: Path) -> str:
    """A page whose pictures are in it."""

    def data(found: re.Match[str]) -> str:
        content = (folder / html.unescape(found[1])).read_bytes()
        return f'src="data:image/png;base64,{base64.b64encode(content).decode("ascii")}"'

    return re.sub(r'src="([^":]+\.png)"', data, body)


def mean_and_spread(mean: float, deviation: float) -> str:
    """Returns ``0.1420 ± 0.0031``; without the spread for a single seed."""
    return f"{mean:.4f}" if math.isnan(deviation) else f"{mean:.4f} ± {deviation:.4f}"


def _marked(row: pd.Series[Any]) -> str:
    """The label of a row, with a mark where its learning rate stands at an end of its grid."""
    shown = f"*{row['label']}*" if row["kind"] in NO_LOOK else str(row["label"])
    return shown + " †" * bool(row["at_edge"])


def _by_group(table: Mapping[str, Mapping[str, Any]]) -> str:
    """``frame_blocks: 1,024 M; heads: 512 lora``."""
    parts = [
        f"{group}: {count:,} {'M' if kind == 'projected' else kind}"
        for group, row in table.items()
        if group != "total"
        for kind, count in row["trainable"].items()
        if count
    ]
    return "; ".join(parts)


def _scene_count(scenes: int | None) -> str:
    return "all" if scenes is None else str(scenes)
