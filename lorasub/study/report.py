"""Writes the report of a study: Markdown, one HTML page, figures and CSV files, from result files only.

Tables are selected and laid out here; all words are in ``report.md.j2``.
"""

from __future__ import annotations

import base64
import html
import math
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markdown_it import MarkdownIt

from lorasub._version import __version__
from lorasub.figures import (
    Figure,
    ablation_figure,
    learning_curves,
    overlap_variants,
    parameters_figure,
    pulls_figure,
    save_figure,
    spectra_figure,
    spectra_rows,
)
from lorasub.files import atomic_path
from lorasub.metrics.bootstrap import RESAMPLES
from lorasub.study.artefacts import BASIS
from lorasub.study.evidence import LEAST_SEEDS, LEVEL, compare_methods, judge_places, primary_verdict
from lorasub.study.plan import Plan
from lorasub.study.pull_tables import TESTS, pull_answer, pull_table
from lorasub.study.store import Store, machine
from lorasub.study.subspace_tables import (
    COMPARISONS,
    THE_STUDY,
    comparison_files,
    comparison_table,
    removal_table,
)
from lorasub.study.table import NO_LOOK, Finished, at, outcomes, pooled_rows, results_table, scene_number, summaries
from lorasub.subspaces import SubspaceBasis

REPORT_FILE, PAGE_FILE = "report.md", "report.html"
#: Stands where a ranking would rank noise.
NO_EVIDENCE = "no evidence here"
#: Kinds of rows, in the order in which a table has them.
_ORDER = ["plane", "mean", "zero-shot", "method"]


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
    environment.filters.update(
        table=markdown,
        scene_count=scene_count,
        one_line=lambda text: " ".join(text.split()),
        number=lambda value: "" if math.isnan(value) else f"{value:.2f}",
    )
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
    """Values of the template; CSV files and figures are written on the way."""

    def __init__(self, plan: Plan, store: Store, folder: Path) -> None:
        self.plan, self.store, self.study, self.folder = plan, store, plan.study, folder
        self.finished = Finished(plan, store)
        self.results = results_table(plan, store)
        self.outcomes = outcomes(self.results, plan)
        self.own = self.outcomes[self.outcomes["variant"] == ""]
        self.places = judge_places(self.own, self.study)
        self.compared = compare_methods(self.own, self.study, self.places)
        self.summaries = summaries(self.outcomes)

    def context(self) -> dict[str, Any]:
        """Everything, by the names of the template."""
        removals, removal_tests = removal_table(self.finished)
        tables = {
            "results": self.results[self.results["scene"] == ""].drop(columns=["scene", "weight"]),
            "scenes": self.outcomes[self.outcomes["scene"] != ""],
            "places": self.places,
            "differences": self.compared,
            "removals": removals,
            "costs": (costs := self._costs()),
            "gradient_test": (pulls := pull_table(self.finished)),
            **(comparisons := {name: comparison_table(self.finished, name) for name in COMPARISONS}),
        }
        for name, table in tables.items():
            if table is not None and not table.empty:
                with atomic_path(self.folder / f"{name}.csv") as temporary:
                    table.to_csv(temporary, index=False)
        records = [self.store.record(step) for step in self.plan.graph.values()]
        zero = [self.finished.measured(cell.finetune).get("step_zero_difference") for cell in self.plan.cells]
        pooled = list(self._pooled())
        return {
            "study": self.study,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "version": __version__,
            "machine": machine(),
            "adapters": any(step.kind == "fit" for step in self.plan.graph.values()),
            "total": len(records),
            "done": sum(record is not None for record in records),
            "other_versions": sum(record is not None and record.key not in self.plan.graph for record in records),
            "verdict": primary_verdict(self.compared, self.places, self.study) if self.study.primary else None,
            "other_dimensions": self._other_dimensions(),
            "pulls": None if pulls is None else self._pulls(pulls),
            "accuracy": list(self._accuracy(pooled)),
            "pooled": pooled,
            "pooled_table": self._pooled_table(pooled),
            "comparisons": self.compared.to_dict("records"),
            "edges": set(self.own[self.own["at_edge"]]["label"]),
            "level": LEVEL,
            "no_evidence": NO_EVIDENCE,
            "least_seeds": LEAST_SEEDS,
            "resamples": RESAMPLES,
            "curves": dict(self._curves()),
            "costs": costs,
            "subspaces": {name: self._subspaces(name, table) for name, table in comparisons.items() if len(table)},
            "removals": removals,
            "removal_tests": removal_tests,
            "spectra": dict(self._spectra()),
            "ablations": list(self._ablations()),
            "grids": {arm.method: arm.learning_rates for arm in self.study.arms()},
            "protocols": self.own.groupby("downstream")["protocol"].unique().map(sorted).to_dict(),
            "step_zero": [value for value in zero if value is not None],
        }

    def _figure(self, figure: Figure, file: str, rows: Sequence[Mapping[str, Any]]) -> str:
        """Saves a figure with its rows; returns the name of the file."""
        save_figure(figure, self.folder / file, rows)
        return file

    # accuracy

    def _accuracy(self, pooled: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """A table of every task and number of training scenes; the first one of a task has a figure."""
        for name, task in self.study.downstream.items():
            for number, scenes in enumerate(map(scene_number, task.scenes)):
                own = self._of(name, scenes)
                if own.empty or (number and not (own["kind"] == "method").any()):
                    continue
                judged = self.places[(self.places["downstream"] == name) & (self.places["scenes"] == scenes)]
                figure = ""
                if not number:
                    parts = [each["rows"] for each in pooled if (each["downstream"], each["scenes"]) == (name, scenes)]
                    rows = pd.concat([*parts, own]).to_dict("records")
                    figure = self._figure(parameters_figure(rows, result=task.metric), f"parameters_{name}.png", rows)
                yield {
                    "downstream": name,
                    "scenes": scenes,
                    "metric": task.metric,
                    "larger": task.larger_is_better,
                    "chosen_on": sorted(set(own[own["validation"]]["set"])),
                    "rows": _by_set(
                        own, ["method", "parameters"], judged[judged["counts"]].set_index("set")["best"].to_dict()
                    ),
                    "judged": judged.to_dict("records"),
                    "edges": bool(own["at_edge"].any()),
                    "figure": figure,
                }

    def _of(self, downstream: str, scenes: int, variant: str = "") -> pd.DataFrame:
        """Summaries of a table: rows that do not look first, then the model as it is, then methods."""
        found = at(self.summaries[self.summaries["variant"] == variant], downstream, scenes)
        return found.sort_values("kind", key=lambda kinds: kinds.map(_ORDER.index), kind="stable")

    def _pooled(self) -> Iterator[dict[str, Any]]:
        """Geometric means over the places of each task that are pooled, over all of them and over those that count."""
        for name, task in self.study.downstream.items():
            for scenes in map(scene_number, task.scenes if task.pooled else ()):
                here = at(self.own, name, scenes)
                if not (here["kind"] == "method").any():
                    continue
                judged = self.places[(self.places["downstream"] == name) & (self.places["scenes"] == scenes)]
                counted = [place for place in task.pooled if place in set(judged[judged["counts"]]["set"])]
                parts = [pooled_rows(here, task.pooled, f"all {len(task.pooled)} places")]
                if 1 < len(counted) < len(task.pooled):
                    parts.append(pooled_rows(here, counted, f"the {len(counted)} that count"))
                rows = summaries(pd.concat(parts, ignore_index=True))
                yield {"downstream": name, "scenes": scenes, "counted": counted, "wanted": task.pooled, "rows": rows}

    def _pooled_table(self, pooled: list[dict[str, Any]]) -> pd.DataFrame:
        if not pooled:
            return pd.DataFrame()
        rows = pd.concat([each["rows"].assign(counted=scene_count(each["scenes"])) for each in pooled])
        table = _by_set(rows, ["downstream", "counted", "method", "parameters"])
        return table.rename(columns={"counted": "training scenes"})

    def _other_dimensions(self) -> list[float]:
        """Mean dimensions of the basis of the method that was fixed, where they are not those that were fixed."""
        primary = self.study.primary
        arms = [arm for arm in self.study.arms() if primary and arm.label == primary.method]
        for name in [str(adapter.get("init_args", {}).get("basis")) for arm in arms for adapter in arm.adapters]:
            found = self.finished.measured(self.plan.combined.get(name))
            sizes = [found[side] for side in ("mean_d_out", "mean_d_in") if side in found]
            if primary and any(abs(size - primary.dimension) > 0.05 * primary.dimension for size in sizes):
                return sizes
        return []

    def _curves(self) -> Iterator[tuple[str, str]]:
        """Figures of the tasks with several numbers of training scenes."""
        for name, task in self.study.downstream.items():
            found = self.summaries[(self.summaries["downstream"] == name) & (self.summaries["variant"] == "")]
            found = found[found["scenes"] >= 0]
            if len(set(task.scenes) - {None}) > 1 and (found["kind"] == "method").any():
                rows = found.to_dict("records")
                yield name, self._figure(learning_curves(rows, result=task.metric), f"curves_{name}.png", rows)

    def _ablations(self) -> Iterator[dict[str, Any]]:
        """A table and a figure for each task that an ablation was done on, at the first number of training scenes."""
        for ablation, wanted in self.study.ablations.items():
            cells = [cell for cell in self.plan.cells if cell.variant and cell.variant.ablation == ablation]
            values = {"": THE_STUDY} | {cell.variant.label: str(cell.variant.value) for cell in cells if cell.variant}
            for name, task in self.study.downstream.items():
                scenes = scene_number(task.scenes[0])
                parts = [self._of(name, scenes, variant).assign(value=value) for variant, value in values.items()]
                found = pd.concat(parts)
                methods = set(found[(found["variant"] != "") & (found["kind"] == "method")]["label"])
                if not methods:
                    continue
                found = found[(found["kind"] != "method") | found["label"].isin(methods)]
                rows = found.to_dict("records")
                figure = ablation_figure(rows, result=task.metric)
                yield {
                    "setting": wanted.setting,
                    "downstream": name,
                    "rows": _by_set(found, ["method", "value"]),
                    "figure": self._figure(figure, f"ablation_{ablation}_{name}.png", rows),
                    "edges": bool(found["at_edge"].any()),
                }

    # the rest

    def _costs(self) -> pd.DataFrame:
        """Parameters by group, time, memory and size of each method, and the rate that was chosen."""
        rows = [
            {"downstream": cell.downstream, "method": cell.arm.label, **found, **self.finished.measured(cell.select)}
            for cell in self.plan.cells
            if cell.arm and cell.variant is None and (found := self.finished.measured(cell.finetune))
        ]
        if not rows:
            return pd.DataFrame()
        found = pd.DataFrame(rows)
        memory = f"peak memory, {found['peak_memory_of'].iloc[0]} (MB)"
        groups = found.groupby(["downstream", "method"], sort=False)
        first = groups.first()
        shown = {
            "parameters": first["parameters"].map(_by_group),
            "step (s)": groups["step_seconds"].median().map("{:.3g}".format),
            memory: (groups["peak_memory_bytes"].max() / 1e6).map("{:.0f}".format),
            "file (kB)": (groups["adapter_bytes"].max() / 1e3).map("{:.0f}".format),
            "learning rate": first["learning_rate"].map("{:g}".format)
            + first["at_edge"].map({True: " (end of the grid †)", False: ""}),
        }
        return pd.DataFrame(shown).reset_index()

    def _pulls(self, table: pd.DataFrame) -> dict[str, Any]:
        rows = table.to_dict("records")
        return {
            "rows": rows,
            "answer": pull_answer(table),
            "figure": self._figure(pulls_figure(rows), "gradient_test.png", rows),
            "tests": int(table[[*TESTS.values()]].notna().sum().sum()),
        }

    def _subspaces(self, name: str, table: pd.DataFrame) -> dict[str, Any]:
        """A table about attributes without the columns that say the same everywhere, and its figures."""
        figures = []
        for comparison, _, path in comparison_files(self.finished, name):
            drawn = path.with_suffix(".png")
            if comparison.variant is None and drawn.is_file():
                shutil.copyfile(drawn, self.folder / drawn.name)
                figures.append(drawn.name)
        if name == "overlap" and table["variant"].nunique() > 1:
            rows = table.to_dict("records")
            figures.append(self._figure(overlap_variants(rows), "overlap_variants.png", rows))
        told = table[["variant", "part", *table.columns.drop(["variant", "part"])]]
        same = [column for column in ("variant", "part") if told[column].nunique() == 1]
        return {"rows": told.drop(columns=same), "figures": figures}

    def _spectra(self) -> Iterator[tuple[str, str]]:
        """Singular values of the mined subspaces by kind of layer, against the null where one was drawn."""
        for attribute, output in self.plan.mined.items():
            if (folder := self.finished.folder(output)) is not None:
                basis = SubspaceBasis.load(folder / BASIS)
                yield attribute, self._figure(spectra_figure(basis), f"spectra_{attribute}.png", spectra_rows(basis))


def _by_set(rows: pd.DataFrame, index: list[str], best: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Lays summaries out: a row for each value of some columns, a column with mean and spread for each test set.

    Args:
        rows: see :func:`lorasub.study.table.summaries`.
        index: columns of ``rows``; ``method`` is the label, marked, ``parameters`` their number.
        best: set -> label of the row that is bold there.
    """
    told = [mean_and_spread(row.mean, row.deviation) for row in rows[["mean", "deviation"]].itertuples(name="Row")]
    bold = rows["set"].map(best or {}) == rows["label"]
    shown = rows.assign(
        method=rows["label"].mask(rows["kind"].isin(NO_LOOK), "*" + rows["label"] + "*")
        + rows["at_edge"].map({True: " †", False: ""}),
        parameters=rows["trainable"].map("{:,}".format),
        told=[f"**{text}**" if marked else text for text, marked in zip(told, bold, strict=True)],
    )
    found = shown.pivot_table(index=index, columns="set", values="told", aggfunc="first", sort=False)
    return found.reindex(columns=shown["set"].unique()).rename_axis(columns=None).reset_index()


def markdown(table: pd.DataFrame) -> str:
    """Returns a Markdown table."""
    lines = [[str(name) for name in table.columns], ["---"] * len(table.columns)]
    lines += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    text = "" if pd.isna(value) else f"{value:.4g}" if isinstance(value, float) else str(value)
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


def scene_count(scenes: int | None) -> str:
    """Returns a number of training scenes in words; None and -1 are all of them."""
    return "all" if scenes in (None, -1) else str(scenes)
