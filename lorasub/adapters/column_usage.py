"""Measures the use of a basis's columns by a projected adapter: by origin, and how many in effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lorasub.adapters.adapter_set import AdapterSet
from lorasub.adapters.projected import ProjectedLayer
from lorasub.subspaces import LayerSubspace

_SIDES: tuple[Literal["output", "input"], ...] = ("output", "input")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnUsage:
    """Part of an adapter's update in columns of one origin. Means over layers.

    Attributes:
        origin: the attribute that the columns came from; ``basis`` where they have one origin.
        side: of Q_out or of Q_in.
        columns: share of the columns that are of this origin: what an even use would give.
        used: share of the update's squared norm in them.
        effective: over all origins, how many columns carry the update: the participation ratio
            (sum e)^2 / sum e^2 of the columns' energies e.
    """

    origin: str
    side: Literal["output", "input"]
    columns: float
    used: float
    effective: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def column_usage(adapters: AdapterSet) -> list[ColumnUsage]:
    """Counts how an adapter uses the columns of its bases.

    Returns:
        a row for each side and origin; empty where nothing is projected, or nothing has been learned.
    """
    # an adapter may carry further bases, such as that of the mean it starts from: a layer knows its own by the hash
    origins = {basis.hash(): basis.layers for basis in adapters.bases.values()}
    rows: dict[tuple[str, Literal["output", "input"]], list[tuple[float, float, float]]] = {}
    for path, layer in adapters.layers.items():
        if not isinstance(layer, ProjectedLayer):
            continue
        for side, energies in zip(_SIDES, _energies(layer), strict=True):
            total = float(energies.sum())
            if total <= 0:
                continue
            labels = _labels(origins.get(layer.basis_hash or "", {}).get(path), side, len(energies))
            effective = total**2 / float(energies.square().sum())
            for origin in dict.fromkeys(labels):
                mask = torch.tensor([label == origin for label in labels])
                share = float(energies[mask].sum()) / total
                rows.setdefault((origin, side), []).append((float(mask.float().mean()), share, effective))
    return [ColumnUsage(origin=origin, side=side, **_means(values)) for (origin, side), values in sorted(rows.items())]


def _energies(layer: ProjectedLayer) -> tuple[Tensor, Tensor]:
    """Squared norm of the update in each column of Q_out, and in each of Q_in."""
    Q_out, Q_in, M = (tensor.detach().to("cpu", torch.float64) for tensor in (layer.Q_out, layer.Q_in, layer.M))
    of_rows = ((M @ (Q_in.T @ Q_in)) * M).sum(1) * Q_out.square().sum(0)
    of_columns = ((M.T @ (Q_out.T @ Q_out)) * M.T).sum(1) * Q_in.square().sum(0)
    return of_rows, of_columns


def _labels(subspace: LayerSubspace | None, side: str, count: int) -> tuple[str, ...]:
    if subspace is None:
        return ("basis",) * count
    return (subspace.U_attributes if side == "output" else subspace.V_attributes) or ("basis",) * count


def _means(values: list[tuple[float, float, float]]) -> Mapping[str, float]:
    columns, used, effective = (sum(column) / len(values) for column in zip(*values, strict=True))
    return {"columns": columns, "used": used, "effective": effective}
