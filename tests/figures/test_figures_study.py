"""Figures of a study show the numbers that they are given, where they belong."""

from __future__ import annotations

import math
from typing import Any

import pytest
from matplotlib.figure import Figure

from lorasub.figures import ablation_figure, learning_curves, overlap_variants, parameters_figure


def row(method: str, mean: float, values: str = "", **other: Any) -> dict[str, Any]:
    common = {"set": "kitchen", "kind": "method", "method": method, "label": f"{method} {values}".strip()}
    return {**common, "mean": mean, "deviation": 0.01, **other}


def drawn(figure: Figure, panel: int = 0) -> dict[str, list[tuple[float, float]]]:
    """Label -> the points of every line or error bar of a panel."""
    axis = figure.axes[panel]
    found = {}
    for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
        line = handle if hasattr(handle, "get_xdata") else handle.lines[0]
        found[label] = list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))
    return found


def test_accuracy_over_parameters_joins_a_family() -> None:
    rows = [
        row("none", 0.5, kind="zero-shot", trainable=0, deviation=math.nan),
        row("a plane", 0.4, kind="plane", trainable=0, deviation=math.nan),
        row("lora", 0.2, "r=16", trainable=160),
        row("lora", 0.3, "r=4", trainable=40),
        row("full", 0.1, trainable=1000),
    ]
    found = drawn(parameters_figure(rows, result="abs_rel"))
    assert found["lora"] == [(40, 0.3), (160, 0.2)]
    assert found["full"] == [(1000, 0.1)]
    assert {y for _, y in found["none"]} == {0.5}
    assert {y for _, y in found["a plane"]} == {0.4}


def test_learning_curves_go_over_scenes() -> None:
    rows = [
        row("none", 0.5, kind="zero-shot", scenes=0),
        row("mean", 0.4, kind="mean", scenes=16),
        row("lora", 0.2, scenes=16),
        row("lora", 0.3, scenes=1, deviation=math.nan),
    ]
    figure = learning_curves(rows, result="abs_rel")
    assert drawn(figure)["lora"] == [(1, 0.3), (16, 0.2)]
    assert drawn(figure)["mean"] == [(16, 0.4)]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "16"]


def test_an_ablation_has_a_place_for_every_value() -> None:
    rows = [
        row("mined", 0.2, value="(the study)"),
        row("mined", 0.1, value="0.5"),
        row("lora", 0.3, value="0.5"),
        row("mined", 0.4, value="2.0") | {"set": "study"},
    ]
    figure = ablation_figure(rows, result="abs_rel")
    assert drawn(figure, 0) == {"mined": [(0, 0.2), (1, 0.1)], "lora": [(1, 0.3)]}
    assert drawn(figure, 1) == {"mined": [(2, 0.4)]}
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["(the study)", "0.5", "2.0"]
    assert [axis.get_title() for axis in figure.axes] == ["kitchen", "study"]


def test_overlaps_of_variants_stand_beside_chance() -> None:
    rows = [
        {"variant": variant, "part": part, "side": "output", "pairs": pairs, "phi": phi, "chance": 0.05}
        for variant, part, pairs, phi in (
            ("(the study)", "raw", "within", 0.3),
            ("(the study)", "raw", "between", 0.2),
            ("steps=20", "raw", "within", 0.4),
            ("(the study)", "specific", "within", 0.1),
        )
    ]
    figure = overlap_variants(rows)
    assert drawn(figure, 0) == {
        "within": [(0, 0.3), (1, 0.4)],
        "between": [(0, 0.2)],
        "chance": [(0, pytest.approx(0.05)), (1, pytest.approx(0.05))],
    }
    assert drawn(figure, 1)["within"] == [(0, 0.1)]
    assert [axis.get_title() for axis in figure.axes] == ["output side, raw", "output side, specific"]
