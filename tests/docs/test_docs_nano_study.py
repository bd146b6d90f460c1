"""The pages about studies on nano have no number in their tables that the generated reports do not have."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from lorasub.study.reading import read_study

DOCS = Path(__file__).resolve().parents[2] / "docs"
STUDIES = DOCS / "studies"


def tables(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]


@pytest.mark.parametrize(
    ("page", "report"),
    [("nano_study.md", "nano_rates"), ("studies/nano_small.md", "nano_small"), ("studies/nano_long.md", "nano_long")],
    ids=lambda name: name,
)
def test_tables_of_a_page_are_those_of_its_report(page: str, report: str) -> None:
    shown, written = tables(DOCS / page), set(tables(STUDIES / report / "report.md"))
    assert len(shown) > 20
    assert not [line for line in shown if line not in written]


def test_what_the_page_says_in_short_is_in_the_results() -> None:
    found = pandas.read_csv(STUDIES / "nano_rates" / "differences.csv")
    pooled = found[
        (found["set"] == "pooled")
        & (found.scenes == 16)
        & (found.downstream == "indoor")
        & (found.reference == "lora r=4")
    ]
    page = (DOCS / "nano_study.md").read_text(encoding="utf-8")
    for label in ("gradients basis=gradients_16", "mined basis=mined_16"):
        (row,) = pooled[pooled.label == label].itertuples()
        assert f"{row.difference:.3f}" in page, label
        assert f"{row.low:.3f} to {row.high:.3f}" in page, label


@pytest.mark.parametrize(("name", "task"), [("nano_rates", "rivals"), ("nano_long", "indoor")])
def test_the_settings_have_the_methods_of_the_page(name: str, task: str) -> None:
    study = read_study(STUDIES / f"{name}.yaml")
    results = pandas.read_csv(STUDIES / name / "results.csv")
    wanted = study.downstream[task].methods
    arms = [arm for arm in study.arms() if wanted is None or arm.method in wanted]
    labels = {arm.label for arm in arms} | {study.zero_shot}
    assert set(results[results.kind.isin(["method", "zero-shot"])].label) == labels
    assert not results.at_edge.any()


def test_no_method_is_below_the_model_as_it_is() -> None:
    rows = [[cell.strip() for cell in line.split("|")] for line in tables(DOCS / "nano_study.md")]
    means = {(row[1], row[2], row[3]): float(row[5].split(" ")[0]) for row in rows if row[1] in ("indoor", "rivals")}
    assert len(means) > 50
    assert all(means[task, count, "none"] < value for (task, count, name), value in means.items() if name != "none")
