"""The steps that compare attributes: overlaps, and what subspaces explain of adapters that were held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lorasub.files import write_json
from lorasub.study.artefacts import Workplace
from lorasub.study.steps.adapters import FromAdapters
from lorasub.subspaces import AdapterUpdates, attribute_overlaps, attribute_separation, held_out_explained

#: Part of the subspaces that is compared -> what its files' names end with.
PARTS: dict[Literal["raw", "specific"], str] = {"raw": "", "specific": "_specific"}


@dataclass(frozen=True, kw_only=True)
class Compare(FromAdapters):
    """Settings of :func:`overlap` and :func:`explain`; only the first draws random pairs."""

    dim: int
    alpha: float = 1.0
    draws: int = 0


def overlap(spec: Compare, place: Workplace) -> dict[str, Any]:
    """Compares attributes with each other and with themselves, and tests by shuffled labels whether they differ."""
    from lorasub.figures import overlap_heatmap, save_figure

    groups, _ = spec.read(place)
    for part in _parts(groups):
        matrix = attribute_overlaps(groups, dim=spec.dim, alpha=spec.alpha, part=part, draws=spec.draws)
        write_json(place.folder / f"overlap{PARTS[part]}.json", matrix.to_dict())
        save_figure(overlap_heatmap(matrix), place.folder / f"overlap{PARTS[part]}.png", matrix.rows("all"))
    if len(groups) > 1:
        write_json(place.folder / "separation.json", [row.row() for row in attribute_separation(groups)])
    return {}


def explain(spec: Compare, place: Workplace) -> dict[str, Any]:
    """Measures how much of each attribute's adapters lies in subspaces that were mined from others."""
    from lorasub.figures import explained_heatmap, save_figure

    groups, _ = spec.read(place)
    for part in _parts(groups):
        rows = held_out_explained(groups, dim=spec.dim, alpha=spec.alpha, part=part)
        write_json(place.folder / f"explained{PARTS[part]}.json", [row.row() for row in rows])
        save_figure(explained_heatmap(rows), place.folder / f"explained{PARTS[part]}.png", [row.row() for row in rows])
    return {}


def _parts(groups: Mapping[str, Sequence[AdapterUpdates]]) -> tuple[Literal["raw", "specific"], ...]:
    """Parts that can be compared: without what all share only where halves of several attributes can be mined."""
    if len(groups) < 2 or min(map(len, groups.values())) < 4:
        return ("raw",)
    return ("raw", "specific")
