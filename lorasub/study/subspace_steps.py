"""The steps that make subspaces: mine, split, combine."""

from __future__ import annotations

from typing import Any

from lorasub.files import write_json
from lorasub.study.step_adapters import step_adapters
from lorasub.study.store import BASIS, OpenStep
from lorasub.subspaces import (
    SubspaceBasis,
    attribute_survival,
    combine_subspaces,
    mine_subspace,
    split_common_specific,
    survival_rows,
)


def mine(step: OpenStep) -> dict[str, Any]:
    """Find the subspace that an attribute's adapters share."""
    groups, all_sources = step_adapters(step)
    (group,), (sources,) = groups.values(), all_sources.values()
    basis = mine_subspace(group, attribute=step.config["attribute"], sources=sources, **step.config["options"])
    basis.save(step.folder / BASIS)
    explained = [float(layer.record.explained.mean()) for layer in basis.layers.values() if layer.record is not None]
    return _dimensions(basis) | {"explained": sum(explained) / len(explained)}


def split(step: OpenStep) -> dict[str, Any]:
    """Split attributes' subspaces into a common one and one of each attribute's own."""
    groups, sources = step_adapters(step)
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


def _dimensions(basis: SubspaceBasis) -> dict[str, Any]:
    out, into = zip(*basis.dims.values(), strict=True)
    return {"layers": len(basis.layers), "mean_d_out": sum(out) / len(out), "mean_d_in": sum(into) / len(into)}
