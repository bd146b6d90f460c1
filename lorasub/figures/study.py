"""Figures of a study: accuracy over trained parameters, training scenes and changed settings; overlaps over these."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorasub.figures.style import COLORS, MARKERS, NULL_COLOR, new_figure

#: Kinds of rows that are lines across a panel, not points -> style of the line.
_LINES = {"plane": ":", "mean": "-.", "zero-shot": "--"}


def parameters_figure(rows: Sequence[Mapping[str, Any]], *, result: str) -> Figure:
    """Draws accuracy over trained parameters, one panel a test set, one colour a family of methods.

    Args:
        rows: with ``set``, ``kind`` (``method``, or what is drawn as a line across: ``plane``, ``mean``,
            ``zero-shot``), ``method`` (the family), ``label``, ``trainable``, ``mean`` and ``deviation``.
        result: label of the vertical axis.
    """

    def draw(axis: Axes, own: list[Mapping[str, Any]]) -> None:
        axis.set_xscale("log")
        axis.set_xlabel("trained parameters")
        for number, (family, points) in enumerate(_grouped(_drawn(axis, own), lambda row: row["method"]).items()):
            _line(axis, family, number, sorted(points, key=lambda row: row["trainable"]), "trainable")

    return _panels(rows, result, draw)


def learning_curves(rows: Sequence[Mapping[str, Any]], *, result: str) -> Figure:
    """Draws accuracy over the number of training scenes, one panel a test set, one line a method.

    Args:
        rows: as for :func:`parameters_figure`, with ``scenes`` in place of ``trainable``.
        result: label of the vertical axis.
    """

    def draw(axis: Axes, own: list[Mapping[str, Any]]) -> None:
        axis.set_xscale("log", base=2)
        axis.set_xlabel("training scenes")
        mean = [row for row in own if row["kind"] == "mean"]
        methods = [*mean, *_drawn(axis, [row for row in own if row["kind"] != "mean"])]
        for number, (label, points) in enumerate(_grouped(methods, lambda row: row["label"]).items()):
            _line(axis, label, number, sorted(points, key=lambda row: row["scenes"]), "scenes")
        counts = sorted({row["scenes"] for row in methods})
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.minorticks_off()

    return _panels(rows, result, draw)


def ablation_figure(rows: Sequence[Mapping[str, Any]], *, result: str) -> Figure:
    """Draws what one changed setting does to accuracy, one panel a test set, one line a row of the table.

    Args:
        rows: as for :func:`parameters_figure`, with ``value`` (of the setting, as text, in the order in which it is
            shown) in place of ``trainable``.
        result: label of the vertical axis.
    """
    values = list(dict.fromkeys(row["value"] for row in rows))

    def draw(axis: Axes, own: list[Mapping[str, Any]]) -> None:
        for number, (label, points) in enumerate(_grouped(own, lambda row: row["label"]).items()):
            placed = [{**row, "place": values.index(row["value"])} for row in points]
            _line(axis, label, number, sorted(placed, key=lambda row: row["place"]), "place")
        _places(axis, values)

    return _panels(rows, result, draw)


def _drawn(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Draws the rows that are lines across a panel; returns the others."""
    for row in rows:
        if (style := _LINES.get(row["kind"])) is not None:
            axis.axhline(row["mean"], color=NULL_COLOR, linestyle=style, label=row["label"])
    return [row for row in rows if row["kind"] not in _LINES]


def overlap_variants(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Overlaps within and between attributes beside chance, one panel a side and part, one place a variant of a study.

    Args:
        rows: with ``variant``, ``part``, ``side``, ``pairs``, ``phi`` and ``chance``.
    """
    variants = list(dict.fromkeys(row["variant"] for row in rows))

    def draw(axis: Axes, own: list[Mapping[str, Any]]) -> None:
        for number, (pairs, points) in enumerate(_grouped(own, lambda row: row["pairs"]).items()):
            places = [variants.index(row["variant"]) for row in points]
            axis.plot(
                places,
                [row["phi"] for row in points],
                linestyle="none",
                color=COLORS[number],
                marker=MARKERS[number],
                label=pairs,
            )
        chance = {variants.index(row["variant"]): row["chance"] for row in own}
        axis.plot(list(chance), list(chance.values()), linestyle="none", color=NULL_COLOR, marker="_", label="chance")
        axis.margins(y=0.15)
        axis.set_ylim(bottom=0)
        # the setting's own name is enough; its path is in the table
        _places(axis, [re.sub(r"^[\w.]*\.(?=\w+=)", "", variant) for variant in variants])

    return _panels([{**row, "set": f"{row['side']} side, {row['part']}"} for row in rows], "phi", draw)


def pulls_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Cosines of the gradients of sets of scenes: with sets of their own kind, with others, and with a placebo.

    Args:
        rows: with ``sets`` and ``dose`` (what they are of), ``own``, ``own lowest``, ``others``, ``others highest`` and
            ``placebo``; NaN is left out.
    """
    figure, (axis,) = new_figure(6.4, 0.26 * len(rows) + 1.4)
    places = [-number for number in range(len(rows))]
    for number, (name, end) in enumerate((("own", "own lowest"), ("others", "others highest"), ("placebo", ""))):
        axis.plot(
            [row[name] for row in rows],
            places,
            linestyle="none",
            color=NULL_COLOR if name == "placebo" else COLORS[number],
            marker=MARKERS[number],
            label={
                "own": "sets of its own (to the lowest pair)",
                "others": "other attributes (to the highest pair)",
            }.get(name, name),
        )
        if end:
            for place, row in zip(places, rows, strict=True):
                axis.plot([row[name], row[end]], [place, place], color=COLORS[number], alpha=0.5)
    axis.axvline(0, color=NULL_COLOR, linewidth=0.8)
    axis.set_yticks(places, [f"{row['sets']} {row['dose']:g}" if row["dose"] else row["sets"] for row in rows])
    axis.set_xlabel("cosine of gradients at the base model, mean over layers")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


def _places(axis: Axes, labels: Sequence[str]) -> None:
    """Equal places for what is no number."""
    axis.set_xticks(range(len(labels)), labels, rotation=20, ha="right")
    axis.set_xlim(-0.5, len(labels) - 0.5)


def _panels(rows: Sequence[Mapping[str, Any]], result: str, draw: Any) -> Figure:
    sets = _grouped(rows, lambda row: row["set"])
    columns = 2 if len(sets) == 4 else min(len(sets), 3)
    height = math.ceil(len(sets) / columns)
    figure, axes = new_figure(3.4 * columns + 0.4, 2.8 * height + 0.8, height, columns)
    for axis, (name, own) in zip(axes, sets.items(), strict=False):
        draw(axis, own)
        axis.set_title(name, fontsize="medium")
    for axis in axes[len(sets) :]:
        axis.set_visible(False)
    axes[0].set_ylabel(result)
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=min(len(entries), 4),
        frameon=False,
        fontsize="small",
    )
    return figure


def _line(axis: Axes, label: str, number: int, points: Sequence[Mapping[str, Any]], across: str) -> None:
    # a single seed has no spread to draw
    spread = [0.0 if math.isnan(row["deviation"]) else row["deviation"] for row in points]
    axis.errorbar(
        [row[across] for row in points],
        [row["mean"] for row in points],
        yerr=spread,
        label=label,
        color=COLORS[number % len(COLORS)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        capsize=2,
    )


def _grouped(rows: Sequence[Mapping[str, Any]], key: Any) -> dict[Any, list[Mapping[str, Any]]]:
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
