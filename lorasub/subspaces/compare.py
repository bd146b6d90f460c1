"""Overlaps among several attributes: between them, and within each as the measure of what to expect at best."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.rng import subspace_generator
from lorasub.subspaces.angles import Measurement
from lorasub.subspaces.basis import SubspaceBasis
from lorasub.subspaces.joint import split_common_specific
from lorasub.subspaces.layers import AdapterUpdates, Progress
from lorasub.subspaces.mining import adapter_subspace, mine_updates
from lorasub.subspaces.overlap import Grouping, LayerOverlap, OverlapReport, Side, SideOverlap, subspace_overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapMatrix:
    """Overlap reports of every pair of attributes.

    Attributes:
        names: the attributes, in order.
        reports: (a, b) with a before b -> report; (a, a) is the overlap within a, where it was measured.
    """

    names: tuple[str, ...]
    reports: Mapping[tuple[str, str], OverlapReport]

    def matrix(self, measure: str, side: Side) -> Tensor:
        """``(G, G)`` means over all layers, NaN where unknown.

        Entry (i, j) of ``energy`` is the fraction of j's update inside i's subspace; all other measures are symmetric.
        """
        return self._entries(measure, side, lambda mean: mean.value)

    def null(self, measure: str, side: Side) -> Tensor:
        """``(G, G)`` null means of the entries of :meth:`matrix`, NaN where unknown."""
        return self._entries(measure, side, lambda mean: mean.null_mean)

    def _entries(self, measure: str, side: Side, of: Callable[[Measurement], float]) -> Tensor:
        values = torch.full((len(self.names), len(self.names)), math.nan, dtype=torch.float64)
        reverse = "reverse_energy" if measure == "energy" else measure
        for (first, second), report in self.reports.items():
            i, j = self.names.index(first), self.names.index(second)
            for row, column, name in ((j, i, reverse), (i, j, measure)):
                if (mean := report.mean(name, side)) is not None:
                    values[row, column] = of(mean)
        return values

    def rows(self, by: Grouping = "all") -> list[dict[str, Any]]:
        """Flat rows for a table or a CSV file."""
        return [
            {"within": first == second, **row}
            for (first, second), report in self.reports.items()
            for row in report.rows(by)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"names": list(self.names), "reports": [report.to_dict() for report in self.reports.values()]}


def overlap_matrix(
    bases: Mapping[str, SubspaceBasis],
    *,
    strict: bool = True,
    draws: int = 500,
    seed: int = 0,
    progress: Progress = iter,
) -> OverlapMatrix:
    """Compare every pair of bases. The diagonal stays unknown: see :func:`attribute_overlaps`.

    Args:
        bases: name -> basis, at least two.
        strict: see :func:`subspace_overlap`.
        draws: see :func:`subspace_overlap`.
        seed: see :func:`subspace_overlap`.
        progress: wraps the layer paths of every pair.

    Raises:
        ConfigError: fewer than two bases, or layers that differ.
        ArtefactError: bases of different base models.

    Example:
        >>> bases = {name: ls.random_basis({"block": (24, 16)}, 4, seed=seed) for seed, name in enumerate("abc")}
        >>> len(overlap_matrix(bases, draws=20).reports)  # a with b, a with c, b with c
        3
    """
    if len(bases) < 2:
        raise ConfigError(f"an overlap needs at least two bases, not {len(bases)}")
    reports = {}
    for first, second in itertools.combinations(bases, 2):
        one, two = bases[first], bases[second]
        report = subspace_overlap(one, two, strict=strict, draws=draws, seed=seed, progress=progress)
        reports[first, second] = replace(report, first=first, second=second)
    return OverlapMatrix(names=tuple(bases), reports=reports)


def attribute_overlaps(
    adapters: Mapping[str, Sequence[AdapterUpdates]],
    *,
    dim: int = 16,
    alpha: float = 1.0,
    part: Literal["raw", "specific"] = "raw",
    splits: int = 2,
    draws: int = 500,
    seed: int = 0,
    progress: Progress = iter,
) -> OverlapMatrix:
    """Overlap within and between attributes, from halves of each attribute's adapters.

    A subspace belongs to an attribute only if two disjoint halves of that attribute's adapters agree clearly more than
    halves of different attributes do. Both are measured from halves of one size, so that the comparison is fair; an
    odd adapter is left out, another one in every split.

    ``specific`` takes out first what all attributes share (:func:`split_common_specific`): from the first halves what
    the first halves of all attributes share, from the second halves what the second ones share. Halves that had the
    same common part taken out are not compared: whatever two of them have in common by accident would be gone from
    both.

    Args:
        adapters: attribute -> its k >= 2 adapters. From k = 4 on halves are mined; below, single adapters are compared.
        dim: dimensions of every half, a number since unequal ones cannot be compared.
        alpha: of the mining.
        part: of the subspaces; ``specific`` needs two attributes and four adapters of each.
        splits: random splits to average over. The nulls stay those of one split, since splits are not independent.
        draws: see :func:`subspace_overlap`.
        seed: of splits and nulls.
        progress: wraps the layer paths of every mining, two per attribute and split; twice as many for ``specific``.

    Raises:
        ConfigError: an attribute has too few adapters, sizes differ between attributes, or mining fails.

    Example:
        >>> def adapter():
        ...     return {"block": ls.LowRankUpdate(B=torch.randn(24, 2), A=torch.randn(2, 16))}
        >>> adapters = {name: [adapter() for _ in range(4)] for name in ("texture", "camera")}
        >>> found = attribute_overlaps(adapters, dim=2, draws=20)
        >>> found.names
        ('texture', 'camera')
    """
    if splits < 1:
        raise ConfigError(f"splits={splits} must be at least 1")
    for name, group in adapters.items():
        if len(group) < 2:
            raise ConfigError(f"attribute '{name}' has {len(group)} adapter; two halves need at least two adapters")
    size = min(len(group) for group in adapters.values()) // 2
    if part == "specific" and size < 2:
        raise ConfigError(
            "what is specific to an attribute is mined from halves of its adapters: it takes at least four"
        )
    collected: dict[tuple[str, str], list[OverlapReport]] = {}
    for split in range(splits):
        halves = {
            name: _halves(group, size, subspace_generator(seed, "halves", name, split))
            for name, group in adapters.items()
        }
        sides = [
            _mined_side({name: own[side] for name, own in halves.items()}, part, dim, alpha, seed, progress)
            for side in (0, 1)
        ]
        for name in adapters:
            report = subspace_overlap(sides[0][name], sides[1][name], draws=draws, seed=seed)
            collected.setdefault((name, name), []).append(report)
        for first, second in itertools.combinations(adapters, 2):
            for i, j in itertools.product((0, 1), repeat=2):
                if i != j or part == "raw":
                    report = subspace_overlap(sides[i][first], sides[j][second], draws=draws, seed=seed)
                    collected.setdefault((first, second), []).append(report)
    reports = {pair: _mean_report(*pair, several) for pair, several in collected.items()}
    return OverlapMatrix(names=tuple(adapters), reports=reports)


def _halves(
    group: Sequence[AdapterUpdates], size: int, rng: np.random.Generator
) -> tuple[list[AdapterUpdates], list[AdapterUpdates]]:
    order = [group[int(index)] for index in rng.permutation(len(group))]
    return order[:size], order[size : 2 * size]


def _mined_side(
    halves: Mapping[str, Sequence[AdapterUpdates]], part: str, dim: int, alpha: float, seed: int, progress: Progress
) -> Mapping[str, SubspaceBasis]:
    """Attribute -> subspace of one half of its adapters."""
    if part == "specific":
        return split_common_specific(halves, dim=dim, alpha=alpha, seed=seed, progress=progress).specific
    return {
        name: adapter_subspace(half[0], dim=dim, name=f"an adapter of {name}")
        if len(half) == 1
        else mine_updates(half, dim=dim, alpha=alpha, progress=progress)
        for name, half in halves.items()
    }


def _mean_report(first: str, second: str, reports: Sequence[OverlapReport]) -> OverlapReport:
    layers = tuple(_mean_layer(same) for same in zip(*(report.layers for report in reports), strict=True))
    return OverlapReport(first=first, second=second, layers=layers)


def _mean_layer(layers: Sequence[LayerOverlap]) -> LayerOverlap:
    return LayerOverlap(
        path=layers[0].path,
        output=_mean_side([layer.output for layer in layers]),
        input=_mean_side([layer.input for layer in layers]),
        energy=_mean_dependent([layer.energy for layer in layers]),
        reverse_energy=_mean_dependent([layer.reverse_energy for layer in layers]),
    )


def _mean_side(sides: Sequence[SideOverlap | None]) -> SideOverlap | None:
    known = [side for side in sides if side is not None]
    if not known:
        return None
    measures = {}
    for name in known[0].measures:
        mean = _mean_dependent([side.measures[name] for side in known])
        assert mean is not None
        measures[name] = mean
    # an adapter that was hardly trained can span less than was asked for; every measure has its own null
    shared = min(len(side.angles) for side in known)
    return SideOverlap(
        n=known[0].n,
        d_first=min(side.d_first for side in known),
        d_second=min(side.d_second for side in known),
        angles=torch.stack([side.angles[:shared] for side in known]).mean(0),
        measures=measures,
    )


def _mean_dependent(measurements: Sequence[Measurement | None]) -> Measurement | None:
    """The mean value with the deviation of a single one, which errs on the side of chance."""
    known = [m for m in measurements if m is not None]
    if not known:
        return None
    count = len(known)
    return Measurement(
        sum(m.value for m in known) / count,
        sum(m.null_mean for m in known) / count,
        sum(m.null_std for m in known) / count,
    )
