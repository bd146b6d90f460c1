"""The steps that compare attributes: overlaps, and what subspaces explain of other adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lorasub.files import write_json
from lorasub.study.step_adapters import step_adapters
from lorasub.study.store import OpenStep
from lorasub.subspaces import AdapterUpdates, attribute_overlaps, attribute_separation, held_out_explained


def overlap(step: OpenStep) -> dict[str, Any]:
    """Compare attributes with each other and with themselves, as they are and without what all share.

    And test, by shuffled labels, whether their adapters differ at all.
    """
    from lorasub.figures import overlap_heatmap, save_figure

    groups, _ = step_adapters(step)
    config = step.config
    for part in _parts(groups):
        matrix = attribute_overlaps(groups, dim=config["dim"], alpha=config["alpha"], part=part, draws=config["draws"])
        name = of_part("overlap", part)
        write_json(step.folder / f"{name}.json", matrix.to_dict())
        save_figure(overlap_heatmap(matrix), step.folder / f"{name}.png", matrix.rows("all"))
    if len(groups) > 1:
        write_json(step.folder / "separation.json", [row.row() for row in attribute_separation(groups)])
    return {}


def explain(step: OpenStep) -> dict[str, Any]:
    """See how much of each attribute's adapters lies in subspaces that were mined from others."""
    from lorasub.figures import explained_heatmap, save_figure

    groups, _ = step_adapters(step)
    for part in _parts(groups):
        rows = held_out_explained(groups, dim=step.config["dim"], alpha=step.config["alpha"], part=part)
        name = of_part("explained", part)
        write_json(step.folder / f"{name}.json", [row.row() for row in rows])
        save_figure(explained_heatmap(rows), step.folder / f"{name}.png", [row.row() for row in rows])
    return {}


def of_part(name: str, part: str) -> str:
    """Name of the files that hold what was found of one part of the subspaces."""
    return name if part == "raw" else f"{name}_{part}"


def _parts(groups: Mapping[str, Sequence[AdapterUpdates]]) -> tuple[Literal["raw", "specific"], ...]:
    """What can be compared: without what all share only where halves of several attributes can be mined."""
    if len(groups) < 2 or min(map(len, groups.values())) < 4:
        return ("raw",)
    return ("raw", "specific")
