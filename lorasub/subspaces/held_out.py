"""Measures how far a subspace explains adapters that it was not mined from."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lorasub.errors import ConfigError
from lorasub.subspaces.basis import SubspaceBasis
from lorasub.subspaces.joint import split_common_specific
from lorasub.subspaces.layers import AdapterUpdates, Progress, layer_kind
from lorasub.subspaces.mining import mine_updates
from lorasub.subspaces.projection import LayerExplained, ProjectedOut, explained_fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutExplained:
    """Share of one attribute's adapters in a subspace of other adapters, of the same attribute or another.

    Attributes:
        basis: attribute whose subspace it is, mined from half of its adapters.
        adapters: attribute whose adapters are explained, from the half that nothing was mined from.
        layers: kind of layer, such as ``frame qkv``; ``all`` for all layers.
        explained: share of the squared Frobenius norm that lies in the subspace on both sides; mean over adapters.
        deviation: standard deviation over adapters, NaN for a single one.
        chance: what random subspaces of the same dimensions explain on average.
        adapters_measured: how many.
    """

    basis: str
    adapters: str
    layers: str
    explained: float
    deviation: float
    chance: float
    adapters_measured: int

    def row(self) -> dict[str, Any]:
        """A flat row for a table or a CSV file."""
        return {name: getattr(self, name) for name in self.__slots__}


def held_out_explained(
    adapters: Mapping[str, Sequence[AdapterUpdates]],
    *,
    dim: int = 16,
    alpha: float = 1.0,
    part: Literal["raw", "specific"] = "raw",
    progress: Progress = iter,
) -> list[HeldOutExplained]:
    """Mine each attribute from half of its adapters, and see how much of the other halves lies in there.

    If attributes have subspaces, a subspace explains new adapters of its own attribute clearly better than those of
    others, and both better than chance. Halves are every second adapter; both are mined, and each is held against the
    other half of every attribute.

    ``specific`` takes out first what the mined halves of all attributes share (:func:`split_common_specific`), also
    from the adapters that are held against them: shares are of what is left of these.

    Args:
        adapters: attribute -> its adapters, at least four: two have to be mined from.
        dim: dimensions of the subspaces.
        alpha: of the mining.
        part: of the subspaces; ``specific`` needs at least two attributes.
        progress: wraps the layer paths of every mining, two per attribute; twice as many for ``specific``.

    Returns:
        For each pair of attributes the row of all layers, then one for each kind of layer.

    Raises:
        ConfigError: an attribute has too few adapters, or mining fails.

    Example:
        >>> def adapter():
        ...     return {"block": ls.LowRankUpdate(B=torch.randn(24, 2), A=torch.randn(2, 16))}
        >>> found = held_out_explained({name: [adapter() for _ in range(4)] for name in ("texture", "camera")}, dim=2)
        >>> len(found) > 0
        True
    """
    for name, group in adapters.items():
        if len(group) < 4:
            raise ConfigError(
                f"attribute '{name}' has {len(group)} adapters; at least four are needed, two to mine from and two to "
                "hold the subspace against"
            )
    mined: list[Mapping[str, SubspaceBasis]] = []
    held_out: list[Mapping[str, Sequence[AdapterUpdates]]] = []
    for half in (0, 1):
        groups = {name: group[half::2] for name, group in adapters.items()}
        others = {name: group[1 - half :: 2] for name, group in adapters.items()}
        if part == "specific":
            parts = split_common_specific(groups, dim=dim, alpha=alpha, progress=progress)
            mined.append(parts.specific)
            held_out.append(
                {name: [ProjectedOut(own, parts.common.basis) for own in group] for name, group in others.items()}
            )
        else:
            mined.append(
                {
                    name: mine_updates(group, dim=dim, alpha=alpha, attribute=name, progress=progress)
                    for name, group in groups.items()
                }
            )
            held_out.append(others)
    rows = []
    for basis, other in itertools.product(adapters, adapters):
        rows += _rows(basis, other, [own[basis] for own in mined], [own[other] for own in held_out])
    return rows


def _rows(
    basis: str, other: str, halves: Sequence[SubspaceBasis], held_out: Sequence[Sequence[AdapterUpdates]]
) -> list[HeldOutExplained]:
    """The rows of one pair of attributes: each half's subspace against the adapters held out from it."""
    found: dict[str, list[tuple[float, float]]] = {}
    for half, group in zip(halves, held_out, strict=True):
        for adapter in group:
            layers = explained_fraction(half, adapter).layers
            kinds: dict[str, list[LayerExplained]] = {"all": list(layers)}
            for layer in layers:
                kinds.setdefault(str(layer_kind(layer.path)), []).append(layer)
            for kind, own in kinds.items():
                if energy := sum(layer.norm**2 for layer in own):
                    both = sum(layer.both * layer.norm**2 for layer in own) / energy
                    chance = sum(layer.chance * layer.norm**2 for layer in own) / energy
                    found.setdefault(kind, []).append((both, chance))
    return [
        HeldOutExplained(
            basis=basis,
            adapters=other,
            layers=kind,
            explained=statistics.fmean(both for both, _ in values),
            deviation=statistics.stdev(both for both, _ in values) if len(values) > 1 else math.nan,
            chance=statistics.fmean(chance for _, chance in values),
            adapters_measured=len(values),
        )
        for kind, values in found.items()
    ]
