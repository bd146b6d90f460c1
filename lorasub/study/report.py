"""The report of a study: Markdown, figures and CSV files, drawn from result files only, as often as one likes."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lorasub.figures import ablation_figure, learning_curves, parameters_figure, save_figure
from lorasub.files import atomic_path, write_csv
from lorasub.study.plan import Plan
from lorasub.study.scores import RESAMPLES, StudyResults, Summary
from lorasub.study.store import Store, machine, version
from lorasub.study.subspace_sections import subspace_sections
from lorasub.study.text import Rows, markdown, page

REPORT_FILE, PAGE_FILE = "report.md", "report.html"


def write_report(plan: Plan, store: Store, *, command: str, failed: Mapping[str, str] | None = None) -> Path:
    """Write ``reports/<name>/report.md`` with its figures and tables below the store's folder.

    ``report.html`` beside it is the same in one file, figures included.

    What is not done yet is left out, and the report says how much that is.

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
    report = _Report(StudyResults(plan, store), folder)
    sections = [
        report.head(command),
        report.failures(failed or {}),
        report.accuracy(),
        report.pooled(),
        report.differences(),
        report.curves(),
        report.costs(),
        *subspace_sections(plan, store, folder),
        report.ablations(),
        report.protocol(),
    ]
    text = "\n\n".join(section for section in sections if section) + "\n"
    for name, content in ((REPORT_FILE, text), (PAGE_FILE, page(text, folder))):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return folder / REPORT_FILE


class _Report:
    """One section after the other, each an empty text where there is nothing to say."""

    def __init__(self, results: StudyResults, folder: Path) -> None:
        self.results = results
        self.folder = folder
        self.plan, self.store, self.study = results.plan, results.store, results.plan.study
        self.scores = results.scores()
        self.summaries = results.summaries()
        self.none = next(name for name, method in self.study.methods.items() if not method.adapter)

    def head(self, command: str) -> str:
        done = sum(self.store.done(step) for step in self.plan.graph)
        return (
            f"# Study: {self.study.name}\n\n"
            f"Drawn {time.strftime('%Y-%m-%d', time.gmtime())} with lorasub {version()} on {machine()}. "
            f"{done} of {len(self.plan.graph)} steps are done. Made by `{command}`; drawn again from the stored "
            "results by `lorasub study report`. Every result of a test is in `scores.csv` or `removals.csv`, with the "
            "file it comes from."
        )

    def failures(self, failed: Mapping[str, str]) -> str:
        if not failed:
            return ""
        lines = [f"- {name}: {_one_line(error)}" for name, error in failed.items()]
        return "## What failed\n\n" + "\n".join(lines)

    def accuracy(self) -> str:
        """The main table and figure, at the number of scenes at which learning rates were chosen."""
        rows_of_all = [score.row() for score in self.scores]
        self._csv("scores.csv", rows_of_all)
        parts = []
        for name, task in self.study.downstream.items():
            own = [s for s in self._main(name) if s.scenes == task.scenes[0] or not s.trainable]
            if not own:
                continue
            rows = [dataclasses.asdict(summary) for summary in own]
            file = f"parameters_{name}.png"
            save_figure(parameters_figure(rows, result=task.metric), self.folder / file, rows)
            sets = list(dict.fromkeys(summary.set for summary in own))
            cells = [
                {
                    "method": method,
                    "parameters": f"{own_rows[0].trainable:,}",
                    **{s.set: mean_and_spread(s) for s in own_rows},
                }
                for method, own_rows in _by_method(own).items()
            ]
            chosen_on = " ".join(sorted({summary.set for summary in own if summary.validation}))
            parts.append(
                f"### {name}\n\n{task.metric} ({'larger' if task.larger_is_better else 'smaller'} is better), mean and "
                f"standard deviation over seeds, {_count(task.scenes[0])} training scenes. Learning rates were chosen "
                f"on the set `{chosen_on}`; the others are new.\n\n"
                f"{markdown(cells, ['method', 'parameters', *sets])}\n\n![{name}]({file})"
            )
        return "## Accuracy\n\n" + "\n\n".join(parts) if parts else ""

    def pooled(self) -> str:
        """Methods over several test sets as a whole."""
        references = self.study.references
        rows = self.results.pooled(references)
        if not rows:
            return ""
        self._csv("pooled.csv", rows)
        shown = [
            {
                "downstream": row["downstream"],
                "method": row["method"],
                "scenes": "" if row["method"] == self.none else _count(row["scenes"]),
                "mean": f"{row['mean']:.4f}",
                **{
                    f"to {name}": f"{row[name]:.3f} ({row[f'{name} low']:.3f} to {row[f'{name} high']:.3f})"
                    for name in references
                    if name in row
                },
            }
            for row in rows
        ]
        sets = [f"{name}: {', '.join(task.pooled)}" for name, task in self.study.downstream.items() if task.pooled]
        return (
            "## Over several test sets\n\nGeometric means over test sets and seeds, and ratios to references with "
            f"their 95 % intervals over seeds and sets. {'; '.join(sets)}.\n\n"
            f"{markdown(shown, ['downstream', 'method', 'scenes', 'mean', *(f'to {name}' for name in references)])}"
        )

    def differences(self) -> str:
        """Paired differences to the model without fine-tuning and to the study's references."""
        rows: list[dict[str, Any]] = []
        for reference in (self.none, *self.study.references):
            for cell, shown, found in self.results.differences(reference):
                rows.append(
                    {
                        "downstream": cell.downstream,
                        "set": shown,
                        "reference": reference,
                        "method": cell.method,
                        "scenes": _count(cell.scenes) if cell.tune else "",
                        "result": found.name,
                        "difference": found.difference,
                        "low": found.low,
                        "high": found.high,
                        "clear": found.clear,
                        "test scenes": found.scenes,
                    }
                )
        if not rows:
            return ""
        self._csv("differences.csv", rows)
        parts = []
        for name, task in self.study.downstream.items():
            for reference in dict.fromkeys(row["reference"] for row in rows):
                own = [
                    row
                    for row in rows
                    if (row["downstream"], row["reference"], row["scenes"]) == (name, reference, _count(task.scenes[0]))
                ]
                table: dict[str, dict[str, str]] = {
                    method: {"method": method} for method in dict.fromkeys(row["method"] for row in own)
                }
                for row in own:
                    table[row["method"]][row["set"]] = (
                        f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})" + " \\*" * row["clear"]
                    )
                if table:
                    columns = ["method", *dict.fromkeys(row["set"] for row in own)]
                    parts.append(f"### {name}: {task.metric} minus that of {reference}\n\n")
                    parts[-1] += markdown(list(table.values()), columns)
        return (
            "## Differences\n\nWith 95 % intervals over seeds and test scenes, at the first number of training scenes; "
            "`differences.csv` has all. A star marks differences whose interval excludes 0.\n\n" + "\n\n".join(parts)
        )

    def curves(self) -> str:
        """Accuracy over training scenes, where a task has several numbers of them."""
        parts = []
        for name, task in self.study.downstream.items():
            own = [s for s in self._main(name) if not s.trainable or s.scenes is not None]
            if len({summary.scenes for summary in own} - {None}) < 2:
                continue
            rows = [dataclasses.asdict(summary) for summary in own]
            file = f"curves_{name}.png"
            save_figure(learning_curves(rows, result=task.metric), self.folder / file, rows)
            parts.append(f"### {name}\n\n![{name}]({file})")
        return "## Training scenes\n\n" + "\n\n".join(parts) if parts else ""

    def costs(self) -> str:
        """Parameters by group, time, memory and size of each method, and the rate that was chosen."""
        rows = []
        choices = self.results.choices()
        groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for cell in self.results.cells:
            if not cell.variant and (measured := self.results.measured(cell.tune)):
                groups.setdefault((cell.downstream, cell.method), []).append(measured)
        for (downstream, method), fits in groups.items():
            choice = choices[downstream, "", method]
            rows.append(
                {
                    "downstream": downstream,
                    "method": method,
                    "parameters": _by_group(fits[0]["parameters"]),
                    "step (s)": f"{statistics.median(fit['step_seconds'] for fit in fits):.3g}",
                    f"peak memory, {fits[0]['peak_memory_of']} (MB)": (
                        f"{max(fit['peak_memory_bytes'] for fit in fits) / 1e6:.0f}"
                    ),
                    "file (kB)": f"{max(fit['adapter_bytes'] for fit in fits) / 1e3:.0f}",
                    "learning rate": f"{choice['learning_rate']:g}"
                    + (" (end of the grid)" if choice["at_edge"] else ""),
                }
            )
        if not rows:
            return ""
        self._csv("costs.csv", rows)
        return (
            "## Costs\n\nMedian time of a training step and peak memory of the fits. Where a rate stands at the end of "
            f"its grid, a better one may lie beyond it.\n\n{markdown(rows)}"
        )

    def ablations(self) -> str:
        """Each ablation beside the study itself."""
        if not self.study.ablations:
            return ""
        rows = []
        ablated = {(s.downstream, s.method) for s in self.summaries if s.variant}
        for summary in self.summaries:
            if (summary.downstream, summary.method) in ablated:
                rows.append(
                    {
                        "downstream": summary.downstream,
                        "set": summary.set,
                        "method": summary.method,
                        "scenes": _count(summary.scenes),
                        "variant": summary.variant or "(the study)",
                        summary.result: mean_and_spread(summary),
                    }
                )
        if not rows:
            return ""
        self._csv("ablations.csv", rows)
        columns = list(dict.fromkeys(key for row in rows for key in row))
        figures = [figure for name in self.study.ablations for figure in self._ablation_figures(name)]
        return "\n\n".join([f"## Ablations\n\n{markdown(rows, columns)}", *figures])

    def _ablation_figures(self, name: str) -> Iterator[str]:
        """A figure for each task that an ablation was done on, at the first number of training scenes."""
        setting = self.study.ablations[name].setting
        for downstream, task in self.study.downstream.items():
            own = [s for s in self.summaries if s.downstream == downstream and s.scenes == task.scenes[0]]
            values = {s.variant: s.variant.removeprefix(f"{setting}=") for s in own if _changes(s.variant, setting)}
            methods = {s.method for s in own if s.variant in values}
            shown = [s for s in own if s.method in methods and (s.variant in values or not s.variant)]
            if not values:
                continue
            rows = [
                dataclasses.asdict(summary) | {"value": values.get(summary.variant, "(the study)")} for summary in shown
            ]
            file = f"ablation_{name}_{downstream}.png"
            save_figure(ablation_figure(rows, result=task.metric), self.folder / file, rows)
            yield f"### {setting}, {downstream}\n\n![{setting}]({file})"

    def protocol(self) -> str:
        """How it was done, so that a reader need not ask."""
        study = self.study
        tasks = []
        for name, task in study.downstream.items():
            protocols = sorted(
                {
                    score.protocol
                    for score in self.scores
                    if score.cell.downstream == name and score.result == task.metric
                }
            )
            tasks.append(f"- {name}: {task.steps} steps; {task.metric} is measured by: {'; '.join(protocols) or '-'}")
        measured = [self.results.measured(cell.tune) for cell in self.plan.cells]
        zero = [found["step_zero_difference"] for found in measured if "step_zero_difference" in found]
        grids = Counter(tuple(study.rates(method)) for method in study.methods.values() if method.adapter)
        checked = (
            f"The first validation of each of the {len(zero)} fits agreed with the test of the model without fine-"
            f"tuning to {max(zero):.1g} of every result: all methods start from the same model."
            if zero
            else ""
        )
        return (
            "## Protocol\n\n"
            f"- Adapters: {study.partitions} for each of {', '.join(study.attributes)}, {study.adapters.steps} steps, "
            f"learning rate {study.adapters.learning_rate:g}.\n"
            "- All methods have the same backbone, training scenes in the same order, steps, schedule, validation and "
            "tests. For a seed, only the method differs.\n"
            "- Each method's learning rate is the one of its grid that ends best on validation data, in fits of a seed "
            f"({study.tuning_seed}) that is not reported. Test data chooses nothing. Grids: "
            f"{'; '.join(', '.join(f'{rate:g}' for rate in grid) for grid in grids)}.\n"
            f"- Seeds: {', '.join(map(str, study.seeds))}; a seed changes which training scenes are taken, their order "
            "and where an adapter starts.\n"
            f"- Differences: seeds and test scenes are each drawn anew {RESAMPLES} times, both methods' values of a "
            "seed and a scene together; intervals hold 95 % of the draws. Few seeds understate their own spread: an "
            "interval that barely excludes 0 decides nothing.\n"
            + "\n".join(tasks)
            + (f"\n\n{checked}" if checked else "")
        )

    def _main(self, downstream: str) -> list[Summary]:
        return [summary for summary in self.summaries if summary.downstream == downstream and not summary.variant]

    def _csv(self, name: str, rows: Rows) -> None:
        if rows:
            write_csv(self.folder / name, rows)


def mean_and_spread(summary: Summary) -> str:
    """``0.1420 ± 0.0031``; without the spread for a single seed."""
    if math.isnan(summary.deviation):
        return f"{summary.mean:.4f}"
    return f"{summary.mean:.4f} ± {summary.deviation:.4f}"


def _by_group(table: Mapping[str, Mapping[str, Any]]) -> str:
    """``frame_blocks: 1,024 projected; heads: 512 lora``."""
    parts = [
        f"{group}: {count:,} {'M' if kind == 'projected' else kind}"
        for group, row in table.items()
        if group != "total"
        for kind, count in row["trainable"].items()
        if count
    ]
    return "; ".join(parts)


def _by_method(summaries: Iterable[Summary]) -> dict[str, list[Summary]]:
    groups: dict[str, list[Summary]] = {}
    for summary in summaries:
        groups.setdefault(summary.method, []).append(summary)
    return groups


def _changes(variant: str, setting: str) -> bool:
    return variant.startswith(f"{setting}=")


def _count(scenes: int | None) -> str:
    return "all" if scenes is None else str(scenes)


def _one_line(text: str) -> str:
    return " ".join(text.split())
