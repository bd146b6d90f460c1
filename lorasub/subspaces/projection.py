"""Updates and subspaces: what of an update lies inside, and what remains without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lorasub.errors import ConfigError
from lorasub.subspaces.basis import LayerSubspace, SubspaceBasis
from lorasub.subspaces.irls import UpdateCores
from lorasub.subspaces.layers import AdapterUpdates, LowRankUpdate, Progress
from lorasub.subspaces.linear_algebra import one_thread, orthonormal


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerExplained:
    """Share of one layer's update in a subspace: fractions of the squared Frobenius norm, in [0, 1].

    Attributes:
        path: the layer.
        norm: Frobenius norm of the update.
        output: ||U U^T D||^2 / ||D||^2.
        input: ||D V V^T||^2 / ||D||^2.
        both: ||U U^T D V V^T||^2 / ||D||^2, what an adapter trained in this subspace could reproduce.
        chance: expectation of ``both`` for random subspaces of the same dimensions, d_out / out * d_in / in.
    """

    path: str
    norm: float
    output: float
    input: float
    both: float
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedFraction:
    """Share of an adapter in a basis.

    Attributes:
        layers: one entry per layer of the basis.
    """

    layers: tuple[LayerExplained, ...]

    @property
    def total(self) -> LayerExplained:
        """All layers as one: fractions of the summed squared norms."""
        energy = sum(layer.norm**2 for layer in self.layers)
        if not energy:
            raise ConfigError("the adapter has changed no layer, so there is nothing to explain")
        fractions = {
            name: sum(getattr(layer, name) * layer.norm**2 for layer in self.layers) / energy
            for name in ("output", "input", "both", "chance")
        }
        return LayerExplained(path="all", norm=energy**0.5, **fractions)

    def rows(self) -> list[dict[str, Any]]:
        """Flat rows for a table or a CSV file, the total first."""
        names = ("path", "norm", "output", "input", "both", "chance")
        return [{name: getattr(layer, name) for name in names} for layer in (self.total, *self.layers)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        total, *layers = self.rows()
        return {"total": total, "layers": layers}


def explained_fraction(
    basis: SubspaceBasis, updates: AdapterUpdates, *, progress: Progress = iter
) -> ExplainedFraction:
    """Measures the share of an adapter, best one that the basis was not mined from, that lies in the basis.

    Args:
        basis: scaled columns are orthonormalised first.
        updates: the adapter; must have every layer of the basis.
        progress: wraps the sequence of layer paths.

    Raises:
        ConfigError: a layer is missing or has another shape.

    Example:
        >>> def adapter():
        ...     return {"block": ls.LowRankUpdate(B=torch.randn(24, 2), A=torch.randn(2, 16))}
        >>> own = adapter()
        >>> found = explained_fraction(ls.adapter_subspace(own), own)
        >>> round(found.to_dict()["total"]["both"], 6)
        1.0
    """
    with one_thread():
        layers = [_layer_explained(path, basis.layers[path], updates) for path in progress(list(basis.layers))]
    return ExplainedFraction(layers=tuple(layers))


def project_out(update: LowRankUpdate, subspace: LayerSubspace) -> LowRankUpdate:
    """The update without a subspace on either side: (I - U U^T) D (I - V V^T). Its rank does not grow.

    Args:
        update: D = scale B A.
        subspace: orthonormal U and V; may have no columns.

    Returns:
        A float64 update on the CPU.
    """
    B, A = (tensor.detach().to("cpu", torch.float64) for tensor in (update.B, update.A))
    U, V = orthonormal(subspace.U), orthonormal(subspace.V)
    return LowRankUpdate(B - U @ (U.T @ B), A - (A @ V) @ V.T, update.scale)


class ProjectedOut(Mapping[str, LowRankUpdate]):
    """An adapter without a subspace, computed layer by layer when it is asked for.

    Args:
        updates: the adapter.
        basis: what to remove; layers that it lacks stay as they are.
    """

    def __init__(self, updates: AdapterUpdates, basis: SubspaceBasis) -> None:
        self._updates = updates
        self._basis = basis

    def __getitem__(self, path: str) -> LowRankUpdate:
        update = self._updates[path]
        if path not in self._basis.layers:
            return update
        return project_out(_update_of(self._updates, path, self._basis.layers[path]), self._basis.layers[path])

    def __iter__(self) -> Iterator[str]:
        return iter(self._updates)

    def __len__(self) -> int:
        return len(self._updates)


def _layer_explained(path: str, layer: LayerSubspace, updates: AdapterUpdates) -> LayerExplained:
    cores = UpdateCores.of([_update_of(updates, path, layer)])
    core, energy = cores.cores[0], float(cores.cores.square().sum())
    # float32 columns are orthonormal to 1e-7 only, and scaled ones not at all
    left = cores.output.coordinates(orthonormal(layer.U)).T
    right = cores.input.coordinates(orthonormal(layer.V))
    inside = {"output": left @ core, "input": core @ right, "both": left @ core @ right}
    return LayerExplained(
        path=path,
        norm=energy**0.5,
        chance=layer.d_out / layer.shape[0] * layer.d_in / layer.shape[1],
        **{name: float(part.square().sum()) / energy if energy else 0.0 for name, part in inside.items()},
    )


def _update_of(updates: AdapterUpdates, path: str, layer: LayerSubspace) -> LowRankUpdate:
    if path not in updates:
        raise ConfigError(f"the adapter has no layer '{path}', which the basis covers")
    update = updates[path]
    shape = (update.B.shape[0], update.A.shape[1])
    if shape != layer.shape:
        raise ConfigError(f"layer '{path}' has shape {shape} in the adapter and {layer.shape} in the basis")
    return update
