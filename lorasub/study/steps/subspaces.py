"""The steps that make subspaces: mine, split, combine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lorasub.files import write_json
from lorasub.study.artefacts import BASIS, Output, Workplace
from lorasub.study.steps.adapters import FromAdapters
from lorasub.subspaces import (
    SubspaceBasis,
    attribute_survival,
    combine_subspaces,
    mine_updates,
    split_common_specific,
    survival_rows,
)


@dataclass(frozen=True, kw_only=True)
class Mine(FromAdapters):
    """Settings of :func:`mine`: options of :func:`lorasub.subspaces.mine_updates`."""

    attribute: str
    dim: int | str
    alpha: float = 1.0
    eps: float = 1e-3
    normalize: str = "none"
    null_draws: int = 0


@dataclass(frozen=True, kw_only=True)
class Mean(FromAdapters):
    """Settings of :func:`mean`."""

    dim: int | str


@dataclass(frozen=True, kw_only=True)
class Split(FromAdapters):
    """Settings of :func:`split`."""

    dim: int | str
    alpha: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Combine:
    """Settings of :func:`combine`: mined subspaces by attribute, or a split."""

    attributes: tuple[str, ...]
    part: str = "raw"
    mined: dict[str, Output] = field(default_factory=dict)
    split: Output | None = None
    tolerance: float = 1e-3
    scaled: bool = False


def mine(spec: Mine, place: Workplace) -> dict[str, Any]:
    """Finds the subspace that an attribute's adapters share."""
    groups, sources = spec.read(place)
    basis = mine_updates(
        groups[spec.attribute],
        dim=spec.dim,
        alpha=spec.alpha,
        eps=spec.eps,
        normalize=spec.normalize,  # type: ignore[arg-type] # the study's settings allow no other
        null_draws=spec.null_draws,
        attribute=spec.attribute,
        sources=sources[spec.attribute],
    )
    basis.save(place.folder / BASIS)
    explained = [float(layer.record.explained.mean()) for layer in basis.layers.values() if layer.record is not None]
    return basis.mean_dims() | {"explained": sum(explained) / len(explained)}


def mean(spec: Mean, place: Workplace) -> dict[str, Any]:
    """Takes the plain mean of adapters, of whatever attributes, as U S V^T."""
    groups, sources = spec.read(place)
    basis = mine_updates(
        [adapter for group in groups.values() for adapter in group],
        dim=spec.dim,
        alpha=2.0,
        sources=[source for group in sources.values() for source in group],
    )
    basis.save(place.folder / BASIS)
    return basis.mean_dims()


def split(spec: Split, place: Workplace) -> dict[str, Any]:
    """Splits attributes' subspaces into a common one and one of each attribute's own."""
    groups, sources = spec.read(place)
    parts = split_common_specific(groups, sources=sources, dim=spec.dim, alpha=spec.alpha)
    parts.common.basis.save(place.folder / "common")
    for name, basis in parts.specific.items():
        basis.save(place.folder / "specific" / name)
    return {"common": parts.common.basis.mean_dims()}


def combine(spec: Combine, place: Workplace) -> dict[str, Any]:
    """Joins attributes' subspaces into one basis."""
    if spec.split is None:
        bases = {name: SubspaceBasis.load(place.of(mined) / BASIS) for name, mined in spec.mined.items()}
    else:
        parts = place.of(spec.split)
        bases = {name: SubspaceBasis.load(parts / "specific" / name) for name in spec.attributes}
        if spec.part == "common+specific":
            # first in the queue: what all share comes before what is each one's own
            bases = {"common": SubspaceBasis.load(parts / "common"), **bases}
    combined = combine_subspaces(bases, tolerance=spec.tolerance, scaled=spec.scaled)
    combined.save(place.folder / BASIS)
    write_json(place.folder / "survival.json", survival_rows(attribute_survival(combined, bases)))
    return combined.mean_dims()
