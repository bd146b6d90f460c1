"""The steps that work on subspaces: mine, split, combine, compare."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lorasub.adapters.mining import read_adapter
from lorasub.errors import ArtefactError
from lorasub.files import write_json
from lorasub.study.store import BASIS, RUN, OpenStep
from lorasub.subspaces import (
    AdapterSource,
    AdapterUpdates,
    SubspaceBasis,
    attribute_overlaps,
    attribute_separation,
    attribute_survival,
    combine_subspaces,
    held_out_explained,
    mine_subspace,
    split_common_specific,
    survival_rows,
)


def mine(step: OpenStep) -> dict[str, Any]:
    """Find the subspace that an attribute's adapters share."""
    groups, all_sources = _adapters(step)
    (group,), (sources,) = groups.values(), all_sources.values()
    basis = mine_subspace(group, attribute=step.config["attribute"], sources=sources, **step.config["options"])
    basis.save(step.folder / BASIS)
    explained = [float(layer.record.explained.mean()) for layer in basis.layers.values() if layer.record is not None]
    return _dimensions(basis) | {"explained": sum(explained) / len(explained)}


def split(step: OpenStep) -> dict[str, Any]:
    """Split attributes' subspaces into a common one and one of each attribute's own."""
    groups, sources = _adapters(step)
    parts = split_common_specific(groups, sources=sources, **step.config["options"])
    parts.common.basis.save(step.folder / "common")
    for name, basis in parts.specific.items():
        basis.save(step.folder / "specific" / name)
    return {"common": _dimensions(parts.common.basis)}


def combine(step: OpenStep) -> dict[str, Any]:
    """Join attributes' subspaces into one basis."""
    config = step.config
    if config["part"] == "raw":
        bases = {name: SubspaceBasis.load(step.inputs[name] / BASIS) for name in config["attributes"]}
    else:
        parts = step.inputs["split"]
        bases = {name: SubspaceBasis.load(parts / "specific" / name) for name in config["attributes"]}
        if config["part"] == "common+specific":
            # first in the queue: what all share comes before what is each one's own
            bases = {"common": SubspaceBasis.load(parts / "common"), **bases}
    combined = combine_subspaces(bases, tolerance=config["tolerance"], scaled=config["scaled"])
    combined.save(step.folder / BASIS)
    write_json(step.folder / "survival.json", survival_rows(attribute_survival(combined, bases)))
    return _dimensions(combined)


def overlap(step: OpenStep) -> dict[str, Any]:
    """Compare attributes with each other and with themselves, as they are and without what all share.

    And test, by shuffled labels, whether their adapters differ at all.
    """
    from lorasub.figures import overlap_heatmap, save_figure

    groups, _ = _adapters(step)
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

    groups, _ = _adapters(step)
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


def _adapters(step: OpenStep) -> tuple[dict[str, list[AdapterUpdates]], dict[str, list[AdapterSource]]]:
    """Attribute -> its adapters, restricted to the layers that are wanted, and where they are from."""
    groups: dict[str, list[AdapterUpdates]] = {}
    sources: dict[str, list[AdapterSource]] = {}
    for role, folder in step.inputs.items():
        attribute, _, partition = role.rpartition("/")
        member = folder / RUN / "adapter" / f"adapter_{partition}"  # where those of an attribute were fitted together
        updates, source = read_adapter(member if member.is_dir() else folder / RUN, attribute=attribute)
        patterns = step.config["layers"]
        kept = {p: u for p, u in updates.items() if any(fnmatch.fnmatchcase(p, pattern) for pattern in patterns)}
        if not kept:
            raise ArtefactError(
                f"none of the {len(updates)} layers of {folder} matches {patterns}, such as {min(updates)}"
            )
        groups.setdefault(attribute, []).append(kept)
        # the name says which data it was fitted on; a path would only say where a study was kept
        sources.setdefault(attribute, []).append(dataclasses.replace(source, name=role))
    return groups, sources


def _dimensions(basis: SubspaceBasis) -> dict[str, Any]:
    out, into = zip(*basis.dims.values(), strict=True)
    return {"layers": len(basis.layers), "mean_d_out": sum(out) / len(out), "mean_d_in": sum(into) / len(into)}
