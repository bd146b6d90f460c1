"""Measures the overlap of two bases, layer by layer and summed up, each number beside its null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from lorasub.artefacts import common_base
from lorasub.errors import ConfigError
from lorasub.subspaces.angles import (
    ANGLE_MEASURES,
    Measurement,
    angle_nulls,
    energy_null,
    mean_measurement,
    overlap_measures,
    principal_angles,
)
from lorasub.subspaces.basis import LayerSubspace, SubspaceBasis
from lorasub.subspaces.layers import Progress, common_layers, layer_kind
from lorasub.subspaces.linear_algebra import one_thread, orthonormal

#: ``output`` and ``input`` compare U and V; ``both`` is the two-sided energy.
Side: TypeAlias = Literal["output", "input", "both"]
#: How layers are put together in a summary.
Grouping: TypeAlias = Literal["all", "stage", "part", "kind", "depth", "layer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideOverlap:
    """Overlap on one side of one layer.

    Attributes:
        n: ambient dimension.
        d_first: dimensions of the first subspace.
        d_second: dimensions of the second.
        angles: ``(min(d_first, d_second),)`` principal angles in radians, ascending.
        measures: ``distance``, ``phi`` and ``grassmann`` (:func:`lorasub.subspaces.overlap_measures`).
    """

    n: int
    d_first: int
    d_second: int
    angles: Tensor
    measures: Mapping[str, Measurement]

    @classmethod
    def between(cls, first: Tensor, second: Tensor, *, draws: int = 500, seed: int = 0) -> SideOverlap | None:
        """Compare the spans of ``first`` (n, d1) and ``second`` (n, d2); None if either has no columns."""
        if not first.shape[1] or not second.shape[1]:
            return None
        Q1, Q2 = map(orthonormal, (first, second))
        angles = principal_angles(Q1, Q2)
        n, d1, d2 = Q1.shape[0], Q1.shape[1], Q2.shape[1]
        nulls = angle_nulls(n, d1, d2, draws, seed)
        values = overlap_measures(angles)
        measures = {name: Measurement(float(values[name]), *nulls[name]) for name in ANGLE_MEASURES}
        return cls(n=n, d_first=d1, d_second=d2, angles=angles, measures=measures)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOverlap:
    """Overlap of two bases in one layer.

    Attributes:
        path: the layer.
        output: between the U; None where either has no dimensions.
        input: between the V; None likewise.
        energy: fraction of the second basis' mined update that lies in the first basis, on both sides at once; None
            where the second has no singular values.
        reverse_energy: the same with the roles exchanged.
    """

    path: str
    output: SideOverlap | None
    input: SideOverlap | None
    energy: Measurement | None
    reverse_energy: Measurement | None

    def measurements(self) -> dict[tuple[Side, str], Measurement]:
        """(side, measure) -> measurement, for those that exist."""
        found: dict[tuple[Side, str], Measurement] = {}
        if self.output is not None:
            found |= {("output", name): value for name, value in self.output.measures.items()}
        if self.input is not None:
            found |= {("input", name): value for name, value in self.input.measures.items()}
        if self.energy is not None:
            found["both", "energy"] = self.energy
        if self.reverse_energy is not None:
            found["both", "reverse_energy"] = self.reverse_energy
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapSummary:
    """Mean of one measure over a group of layers.

    Attributes:
        group: name of the group, such as ``all``, ``frame_blocks`` or ``3``.
        layers: number of layers in it.
        side: output, input or both.
        measure: name of the measure.
        mean: value and null of the mean, the layers' nulls being independent.
    """

    group: str
    layers: int
    side: Side
    measure: str
    mean: Measurement

    def row(self) -> dict[str, Any]:
        """One flat row of a table."""
        return {
            "group": self.group,
            "layers": self.layers,
            "side": self.side,
            "measure": self.measure,
            **self.mean.to_dict(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapReport:
    """Overlap of two bases. Sums over layers with :meth:`summary`, single numbers with :meth:`mean`.

    Attributes:
        first: name of the first basis.
        second: name of the second basis.
        layers: one entry per compared layer.
    """

    first: str
    second: str
    layers: tuple[LayerOverlap, ...]

    def summary(self, by: Grouping = "all") -> list[OverlapSummary]:
        """Means over groups of layers: all, by stage (frame or global), part (qkv ...), kind (both), depth or layer."""
        groups: dict[tuple[str, Side, str], list[Measurement]] = {}
        for layer in self.layers:
            group = _group_of(layer.path, by)
            for (side, measure), value in layer.measurements().items():
                groups.setdefault((group, side, measure), []).append(value)
        return [
            OverlapSummary(group=group, layers=len(values), side=side, measure=measure, mean=mean_measurement(values))
            for (group, side, measure), values in groups.items()
        ]

    def mean(self, measure: str, side: Side) -> Measurement | None:
        """One measure over all layers; None where no layer has it."""
        return next((s.mean for s in self.summary() if s.measure == measure and s.side == side), None)

    def rows(self, by: Grouping = "layer") -> list[dict[str, Any]]:
        """Flat rows for a table or a CSV file."""
        return [{"first": self.first, "second": self.second, **summary.row()} for summary in self.summary(by)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: the summaries of every grouping, and all principal angles."""
        groupings: tuple[Grouping, ...] = ("all", "stage", "part", "kind", "depth", "layer")
        return {
            "first": self.first,
            "second": self.second,
            "summary": {by: [summary.row() for summary in self.summary(by)] for by in groupings},
            "angles": {
                layer.path: {
                    side: None if overlap is None else overlap.angles.tolist()
                    for side, overlap in (("output", layer.output), ("input", layer.input))
                }
                for layer in self.layers
            },
        }


def subspace_overlap(
    first: SubspaceBasis,
    second: SubspaceBasis,
    *,
    strict: bool = True,
    draws: int = 500,
    seed: int = 0,
    progress: Progress = iter,
) -> OverlapReport:
    """Compare two bases layer by layer on the output and the input side, each measure with its null.

    Args:
        first: a basis; scaled columns are orthonormalised first.
        second: a basis of the same model.
        strict: both must have the same layers; otherwise those that both have are compared.
        draws: random pairs behind the nulls that have no closed form.
        seed: of these.
        progress: wraps the sequence of layer paths.

    Raises:
        ConfigError: the layers or their shapes differ.
        ArtefactError: the bases belong to different base models.

    Example:
        >>> one, two = (ls.random_basis({"block": (24, 16)}, 4, seed=seed) for seed in range(2))
        >>> found = subspace_overlap(one, two, draws=20).mean("phi", "output")
        >>> abs(found.null_mean - 4 / 24) < 1e-9  # E[phi] = max(d1, d2) / n
        True
    """
    paths = _paths_to_compare(first, second, strict)
    layers = []
    with one_thread():
        for path in progress(paths):
            one, two = first.layers[path], second.layers[path]
            layers.append(
                LayerOverlap(
                    path=path,
                    output=SideOverlap.between(one.U, two.U, draws=draws, seed=seed),
                    input=SideOverlap.between(one.V, two.V, draws=draws, seed=seed),
                    energy=two_sided_energy(one, two),
                    reverse_energy=two_sided_energy(two, one),
                )
            )
    return OverlapReport(first=first.name, second=second.name, layers=tuple(layers))


def two_sided_energy(subspace: LayerSubspace, update: LayerSubspace) -> Measurement | None:
    """||U1 U1^T L2 V1 V1^T||_F^2 / ||L2||_F^2: how much of a mined update lies in a subspace on both sides at once.

    Args:
        subspace: U1 and V1.
        update: L2 = U2 diag(S2) V2^T.

    Returns:
        The fraction with its null in closed form; None where either has no dimensions or the update no singular values.
    """
    if update.S is None or not update.d_out or not subspace.d_out or not subspace.d_in:
        return None
    U1, V1, U2, V2, S = (
        tensor.detach().to("cpu", torch.float64) for tensor in (subspace.U, subspace.V, update.U, update.V, update.S)
    )
    Q_out, Q_in = torch.linalg.qr(U1).Q, torch.linalg.qr(V1).Q
    inside = (Q_out.T @ U2 * S) @ (V2.T @ Q_in)
    value = float(inside.square().sum() / S.square().sum())
    return Measurement(value, *energy_null(len(U1), U1.shape[1], len(V1), V1.shape[1], S))


def _group_of(path: str, by: Grouping) -> str:
    kind = layer_kind(path)
    groups = {
        "all": "all",
        "stage": kind.stage,
        "part": kind.part,
        "kind": str(kind),
        "depth": "none" if kind.depth is None else str(kind.depth),
        "layer": path,
    }
    if by not in groups:
        raise ConfigError(f"layers cannot be grouped by {by!r}, only by {', '.join(groups)}")
    return groups[by]


def _paths_to_compare(first: SubspaceBasis, second: SubspaceBasis, strict: bool) -> list[str]:
    common_base((f"basis '{basis.name}'", basis.base_model_hash) for basis in (first, second))
    other = second.name if second.name != first.name else f"{second.name} (the second)"
    return common_layers({first.name: first.shapes, other: second.shapes}, strict=strict)


def base_of(bases: Mapping[str, SubspaceBasis]) -> str | None:
    """Returns the hash of the weights that bases belong to; see :func:`lorasub.artefacts.common_base`."""
    return common_base((f"basis '{name}'", basis.base_model_hash) for name, basis in bases.items())
