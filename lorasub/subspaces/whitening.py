"""Mining in coordinates in which what passes a layer is white, so that directions count by what they change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.subspaces.basis import LayerSubspace, SubspaceBasis
from lorasub.subspaces.layers import AdapterUpdates, LowRankUpdate
from lorasub.subspaces.linear_algebra import orthonormal
from lorasub.subspaces.mining import mine_updates
from lorasub.subspaces.moments import SideMoments


def mine_whitened(
    adapters: Sequence[AdapterUpdates], curvature: SideMoments, *, damping: float = 1e-3, **options: Any
) -> SubspaceBasis:
    """Mine C_g^(1/2) D_i C_x^(1/2) in place of the updates D_i, and bring the subspace back.

    The norm of a whitened update is, to second order and in K-FAC's approximation, how much it changes the loss. So
    a direction counts for little that no input ever takes, or that the loss does not see.

    Args:
        adapters: as for :func:`lorasub.subspaces.mine_updates`.
        curvature: C_g, the mean square of the gradients at the layers' outputs, and C_x, that of their inputs
            (:func:`lorasub.curvature_moments`), of the adapters' layers.
        damping: share of the mean eigenvalue that is added to each, so that it can be inverted.
        options: of :func:`lorasub.subspaces.mine_updates`.

    Returns:
        a basis with orthonormal columns that span C_g^(-1/2) U and C_x^(-1/2) V. Its records are of the whitened
        updates; it has no singular values, since it is no decomposition of an update any more.

    Raises:
        ConfigError: a layer has no curvature, or one of another size; and as :func:`lorasub.subspaces.mine_updates`.

    Example:
        >>> model, x = torch.nn.Sequential(torch.nn.Linear(16, 24)), torch.randn(40, 16)
        >>> curvature = ls.curvature_moments(model, (model(row[None]).square().sum() for row in x), targets="all")
        >>> adapters = [{"0": ls.LowRankUpdate(B=torch.randn(24, 2), A=torch.randn(2, 16))} for _ in range(2)]
        >>> mine_whitened(adapters, curvature, dim=2).dims
        {'0': (2, 2)}
    """
    roots = _Roots(curvature, damping)
    mined = mine_updates([_Whitened(adapter, roots) for adapter in adapters], **options)
    layers = {}
    for path, layer in mined.layers.items():
        output, inputs = roots[path]
        layers[path] = LayerSubspace(
            U=orthonormal(output.inverse @ layer.U.double()).contiguous().to(layer.U),
            V=orthonormal(inputs.inverse @ layer.V.double()).contiguous().to(layer.V),
            record=layer.record,
        )
    return replace(mined, layers=layers, options={**mined.options, "whitened": True, "damping": damping})


class _Root:
    """The square root of a damped moment, and the root's inverse."""

    def __init__(self, moment: Tensor, damping: float) -> None:
        values, vectors = torch.linalg.eigh(moment.detach().double().cpu())
        root = (values.clamp(min=0) + damping * values.mean()).sqrt()
        self.root = (vectors * root) @ vectors.mT
        self.inverse = (vectors / root) @ vectors.mT


class _Roots(Mapping[str, tuple[_Root, _Root]]):
    """Roots of both sides of layers; those of the layer that is at hand are kept."""

    def __init__(self, curvature: SideMoments, damping: float) -> None:
        self._curvature, self._damping = curvature, damping
        self._last: tuple[str, tuple[_Root, _Root]] | None = None

    def __getitem__(self, path: str) -> tuple[_Root, _Root]:
        if path not in self._curvature.output:
            raise ConfigError(f"there is no curvature of layer '{path}'; take it of the layers that the adapters have")
        if self._last is None or self._last[0] != path:
            sides = self._curvature.output[path], self._curvature.input[path]
            self._last = path, (_Root(sides[0], self._damping), _Root(sides[1], self._damping))
        return self._last[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._curvature.output)

    def __len__(self) -> int:
        return len(self._curvature.output)


class _Whitened(Mapping[str, LowRankUpdate]):
    """An adapter whose updates are whitened as they are read."""

    def __init__(self, adapter: AdapterUpdates, roots: _Roots) -> None:
        self._adapter, self._roots = adapter, roots

    def __getitem__(self, path: str) -> LowRankUpdate:
        update, (output, inputs) = self._adapter[path], self._roots[path]
        B, A = update.B.detach().double().cpu(), update.A.detach().double().cpu()
        if len(B) != len(output.root) or A.shape[1] != len(inputs.root):
            raise ConfigError(
                f"layer '{path}': the curvature is of {(len(output.root), len(inputs.root))} features, the update of "
                f"{(len(B), A.shape[1])}"
            )
        return replace(update, B=output.root @ B, A=A @ inputs.root)

    def __iter__(self) -> Iterator[str]:
        return iter(self._adapter)

    def __len__(self) -> int:
        return len(self._adapter)
