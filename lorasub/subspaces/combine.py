"""One basis from several attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.subspaces.basis import LayerSubspace, SubspaceBasis
from lorasub.subspaces.layers import Progress, common_layers
from lorasub.subspaces.linear_algebra import one_thread, orthonormal
from lorasub.subspaces.overlap import base_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSurvival:
    """Share of one attribute in one layer of a combined basis.

    Attributes:
        path: the layer.
        attribute: the attribute.
        kept_out: columns of U that came from this attribute.
        kept_in: columns of V that came from it.
        output: mean squared cosine between the attribute's U and the combined U: 1 if all of it survives.
        input: the same for V.
    """

    path: str
    attribute: str
    kept_out: int
    kept_in: int
    output: float
    input: float


def combine_subspaces(
    bases: Mapping[str, SubspaceBasis], *, tolerance: float = 1e-3, scaled: bool = False, progress: Progress = iter
) -> SubspaceBasis:
    """Join the subspaces of several attributes into one basis per layer.

    The columns of all attributes are orthonormalised by a QR decomposition with column pivoting. They queue up by
    strength, the first of every attribute before the second of any; the next one is the first in the queue with at
    least half as much that is new as the best has. It ends where the sine of the angle between every remaining column
    and what is already kept is at most ``tolerance``. Each direction remembers the attribute whose column brought it.

    Args:
        bases: attribute -> basis, in the order of the queue; any subset of attributes will do, even one.
        tolerance: in [0, 1). 0 keeps every column that is not linearly dependent to machine precision.
        scaled: instead of orthonormal columns put the paper's U S^(1/2) and V S^(1/2) side by side; nothing is dropped.
        progress: wraps the sequence of layer paths.

    Returns:
        A basis with ``U_attributes`` and ``V_attributes``. The numbers of columns of U and V may differ.

    Raises:
        ConfigError: no bases, layers that differ, a tolerance out of range, or ``scaled`` without singular values.
        ArtefactError: bases of different base models.

    Example:
        >>> shapes, names = {"block": (24, 16)}, ("texture", "camera")
        >>> parts = {name: ls.random_basis(shapes, 4, seed=seed) for seed, name in enumerate(names)}
        >>> combined = combine_subspaces(parts)
        >>> combined.dims, set(combined.layers["block"].U_attributes) == set(parts)
        ({'block': (8, 8)}, True)
    """
    if not bases:
        raise ConfigError("there is nothing to combine: no bases were given")
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance={tolerance} is the sine of an angle and must lie in [0, 1)")
    base_model_hash = base_of(bases)
    layers = {}
    with one_thread():
        for path in progress(common_layers({name: basis.shapes for name, basis in bases.items()})):
            same = {name: basis.layers[path] for name, basis in bases.items()}
            layers[path] = _side_by_side(path, same) if scaled else _orthonormalised(same, tolerance)
    some = next(iter(bases.values()))
    return SubspaceBasis(
        layers=layers,
        base_model_hash=base_model_hash,
        base_model_id=some.base_model_id,
        method="combined",
        attributes=tuple(bases),
        sources=tuple(source for basis in bases.values() for source in basis.sources),
        options={"tolerance": tolerance, "from": {name: basis.hash() for name, basis in bases.items()}},
        scaled=scaled,
    )


def attribute_survival(combined: SubspaceBasis, bases: Mapping[str, SubspaceBasis]) -> list[LayerSurvival]:
    """Measures the share of each attribute in every layer of a combined basis.

    Args:
        combined: result of :func:`combine_subspaces`.
        bases: what it was made from.

    Example:
        >>> shapes, names = {"block": (24, 16)}, ("texture", "camera")
        >>> parts = {name: ls.random_basis(shapes, 4, seed=seed) for seed, name in enumerate(names)}
        >>> [row.attribute for row in attribute_survival(ls.combine_subspaces(parts), parts)]
        ['texture', 'camera']
    """
    survival = []
    with one_thread():
        for path, layer in combined.layers.items():
            for name, basis in bases.items():
                part = basis.layers[path]
                survival.append(
                    LayerSurvival(
                        path=path,
                        attribute=name,
                        kept_out=layer.U_attributes.count(name),
                        kept_in=layer.V_attributes.count(name),
                        output=_mean_squared_cosine(part.U, layer.U),
                        input=_mean_squared_cosine(part.V, layer.V),
                    )
                )
    return survival


def survival_rows(survival: Sequence[LayerSurvival]) -> list[dict[str, Any]]:
    """Flat rows for a table or a CSV file: per attribute over all layers."""
    rows = []
    for name in dict.fromkeys(entry.attribute for entry in survival):
        own = [entry for entry in survival if entry.attribute == name]
        rows.append(
            {
                "attribute": name,
                "layers": len(own),
                "kept_out": sum(entry.kept_out for entry in own),
                "kept_in": sum(entry.kept_in for entry in own),
                "output": sum(entry.output for entry in own) / len(own),
                "input": sum(entry.input for entry in own) / len(own),
            }
        )
    return rows


def pivoted_columns(columns: Tensor, tolerance: float) -> tuple[Tensor, list[int]]:
    """QR decomposition with threshold pivoting of unit columns, ended at a tolerance.

    The next column is the first whose residual is at least half the largest. Taking the largest itself would give all
    columns of one attribute before any of another: they are orthogonal among themselves, so their residuals stay 1.

    Args:
        columns: ``(n, m)`` float64, columns of norm 1, in the order of preference.
        tolerance: largest norm of a residual that counts as nothing new.

    Returns:
        ``(n, d)`` orthonormal columns, and for each of them the index of the column that it came from.
    """
    Q, residual = torch.linalg.qr(columns)
    # below this, a residual is rounding
    tolerance = max(tolerance, 1e-12)
    kept: list[Tensor] = []
    order: list[int] = []
    while len(order) < min(columns.shape):
        norms = torch.linalg.vector_norm(residual, dim=0)
        if norms.max() <= tolerance:
            break
        index = int(((norms >= norms.max() / 2) & (norms > tolerance)).nonzero()[0])
        direction = residual[:, index] / norms[index]
        if kept:
            # once more against the kept ones: a small residual has lost its orthogonality
            earlier = torch.stack(kept, dim=1)
            direction = direction - earlier @ (earlier.T @ direction)
            direction = direction / torch.linalg.vector_norm(direction)
        kept.append(direction)
        order.append(index)
        residual = residual - direction.outer(direction @ residual)
    basis = torch.stack(kept, dim=1) if kept else residual[:, :0]
    return Q @ basis, order


def _orthonormalised(layers: Mapping[str, LayerSubspace], tolerance: float) -> LayerSubspace:
    U, U_attributes = _joined({name: layer.U for name, layer in layers.items()}, tolerance)
    V, V_attributes = _joined({name: layer.V for name, layer in layers.items()}, tolerance)
    return LayerSubspace(U=U, V=V, U_attributes=U_attributes, V_attributes=V_attributes)


def _joined(sides: Mapping[str, Tensor], tolerance: float) -> tuple[Tensor, tuple[str, ...]]:
    # the first direction of every attribute, then the second of every attribute, and so on
    ranked = sorted((rank, place, name) for place, name in enumerate(sides) for rank in range(sides[name].shape[1]))
    dtype = next(iter(sides.values())).dtype
    spans = {name: orthonormal(side) for name, side in sides.items()}
    if not ranked:
        return next(iter(sides.values()))[:, :0], ()
    stacked = torch.stack([spans[name][:, rank] for rank, _, name in ranked], dim=1)
    columns, order = pivoted_columns(stacked, tolerance)
    return columns.to(dtype), tuple(ranked[index][2] for index in order)


def _side_by_side(path: str, layers: Mapping[str, LayerSubspace]) -> LayerSubspace:
    U, V, attributes = [], [], []
    for name, layer in layers.items():
        if layer.S is None:
            raise ConfigError(f"layer '{path}' of '{name}' has no singular values to scale with; combine unscaled")
        root = layer.S.sqrt().to(layer.U)
        U.append(layer.U * root)
        V.append(layer.V * root)
        attributes += [name] * len(root)
    columns = torch.cat(U, dim=1), torch.cat(V, dim=1)
    if len(attributes) > min(columns[0].shape[0], columns[1].shape[0]):
        raise ConfigError(
            f"layer '{path}': {len(attributes)} columns side by side are more than its {len(columns[0])} outputs or "
            f"{len(columns[1])} inputs; combine unscaled, or mine fewer dimensions"
        )
    return LayerSubspace(U=columns[0], V=columns[1], U_attributes=tuple(attributes), V_attributes=tuple(attributes))


def _mean_squared_cosine(part: Tensor, whole: Tensor) -> float:
    if not part.shape[1]:
        return 1.0
    P, W = map(orthonormal, (part, whole))
    return float((W.T @ P).square().sum() / P.shape[1])
