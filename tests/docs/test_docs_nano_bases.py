"""The page about more bases says what its results and its settings say."""

from __future__ import annotations

import math
import re
import statistics
from pathlib import Path

import pandas
import pytest

from lorasub.study.reading import read_study

STUDIES = Path(__file__).resolve().parents[2] / "docs" / "studies"
NO_LOOK = {"*a plane*": "plane", "*mean of the training scenes*": "mean"}


@pytest.fixture(scope="module")
def results() -> pandas.DataFrame:
    return pandas.read_csv(STUDIES / "nano_bases" / "results.csv")


def tables() -> list[tuple[list[str], list[list[str]]]]:
    """Header and rows of each table of the page."""
    found: list[tuple[list[str], list[list[str]]]] = []
    before = ""
    for line in (STUDIES / "nano_bases.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().strip("*") if "**" in cell else cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and not before.startswith("|"):
            found.append((cells, []))
        elif line.startswith("|") and not set(line) <= set("|- "):
            found[-1][1].append(cells)
        before = line
    return found


def row_of(results: pandas.DataFrame, name: str, scenes: int) -> pandas.DataFrame:
    """Results of a table's row; zero-shot and the plane have no training scenes."""
    label = name.removesuffix(" †")
    kind = results.kind == NO_LOOK[label] if label in NO_LOOK else results.label == label
    if label not in NO_LOOK:
        kind &= results.kind.isin(["method", "zero-shot"])
    return results[kind & results.scenes.isin([scenes, 0])]


def said(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def test_tables_of_places_are_the_results(results: pandas.DataFrame) -> None:
    checked = 0
    by_scenes = [(header, rows) for header, rows in tables() if header[:2] == ["method", "parameters"]]
    assert len(by_scenes) == 3
    for scenes, (header, rows) in zip((16, 4, 1), by_scenes, strict=True):
        for name, _, *cells in (row for row in rows if row[0] not in ("*the best one, against none*", "*evidence*")):
            found = row_of(results, name, scenes)
            for place, cell in zip(header[2:], cells, strict=True):
                assert cell == said(found[found["set"] == place].value.tolist()), (scenes, name, place)
                checked += 1
    assert checked > 400


def test_geometric_means_over_the_places_are_the_results(results: pandas.DataFrame) -> None:
    (study,) = read_study(STUDIES / "nano_bases.yaml").downstream.values()
    (rows,) = [rows for header, rows in tables() if header[0] == "downstream" and header[1] == "training scenes"]
    for _, scenes, name, _, mean, *_ in rows:
        found = row_of(results, name, int(scenes))
        found = found[found["set"].isin(study.pooled)]
        pooled = [math.exp(seed.value.map(math.log).mean()) for _, seed in found.groupby("seed") if len(seed)]
        assert {len(seed) for _, seed in found.groupby("seed")} == {6}
        assert mean == said(pooled), (scenes, name)
    assert len(rows) > 60


def test_no_method_is_below_the_model_as_it_is() -> None:
    (rows,) = [rows for header, rows in tables() if header[0] == "downstream" and header[1] == "training scenes"]
    means = {(row[1], row[2]): float(re.split(r" ±", row[4])[0]) for row in rows}
    assert all(means[scenes, "none"] < value for (scenes, name), value in means.items() if name != "none")


def test_the_settings_have_the_methods_of_the_page() -> None:
    study = read_study(STUDIES / "nano_bases.yaml")
    labels = {arm.label for arm in study.arms()} | {study.zero_shot} | set(NO_LOOK)
    rows = [row for header, rows in tables() if header[:2] == ["method", "parameters"] for row in rows]
    named = {row[0].removesuffix(" †") for row in rows} - {"*the best one, against none*", "*evidence*"}
    assert named == labels
