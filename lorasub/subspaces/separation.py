"""Tests by shuffled labels whether adapters of one attribute are more alike than adapters of different ones.

Overlaps within attributes are nearly always a little larger or smaller than those between them. Whether that is more
than an accident of few adapters is seen by giving the same adapters other labels (a permutation test, as ANOSIM, Clarke
1993, does for samples of ecology).

Two adapters are as alike in a layer as the RV coefficient of Escoufier (1973) says, on the output side

    RV_ij = tr(D_i D_i^T D_j D_j^T) / (||D_i D_i^T||_F ||D_j D_j^T||_F),

and with D^T in place of D on the input side: in [0, 1], 1 for the same directions at the same strengths, whatever their
signs. Unlike an overlap of spans it needs no number of dimensions, and weak directions count little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import permutation_test
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.subspaces.basis import LayerSubspace
from lorasub.subspaces.layers import AdapterUpdates, Progress, layer_kind
from lorasub.subspaces.linear_algebra import one_thread
from lorasub.subspaces.mining import adapter_subspace
from lorasub.subspaces.overlap import Side

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.signedinteger[Any]]

#: Labellings that are tried at a time.
_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """Likeness of adapters of one attribute beside that of adapters of different ones.

    Attributes:
        layers: kind of layer, such as ``frame qkv``; ``all`` for all layers.
        side: of the layers.
        within: mean likeness of two adapters of one attribute, in [0, 1].
        between: mean likeness of two adapters of different attributes.
        p: share of shuffled labels that give at least this difference; below 0.05 it is hardly an accident.
    """

    layers: str
    side: Side
    within: float
    between: float
    p: float

    def row(self) -> dict[str, Any]:
        """A flat row for a table or a CSV file."""
        return {name: getattr(self, name) for name in self.__slots__}


def attribute_separation(
    adapters: Mapping[str, Sequence[AdapterUpdates]],
    *,
    permutations: int = 9999,
    seed: int = 0,
    progress: Progress = iter,
) -> list[Separation]:
    """Test whether adapters of one attribute are more alike than adapters of different ones.

    Args:
        adapters: attribute -> its adapters, with the same layers: two attributes or more, one of which has two.
        permutations: labellings to draw; all are tried where there are fewer.
        seed: of these.
        progress: wraps the sequence of layer paths.

    Returns:
        For both sides the row of all layers, then one for each kind of layer.

    Raises:
        ConfigError: there is nothing to compare, or layers differ.

    Example:
        >>> def adapter():
        ...     return {"block": ls.LowRankUpdate(B=torch.randn(24, 2), A=torch.randn(2, 16))}
        >>> adapters = {name: [adapter() for _ in range(4)] for name in ("texture", "camera")}
        >>> found = attribute_separation(adapters, permutations=99)
        >>> all(0 < row.p <= 1 for row in found)
        True
    """
    if len(adapters) < 2 or max(map(len, adapters.values())) < 2:
        raise ConfigError(
            "this compares adapters of one attribute with those of others: it takes two attributes and two adapters of "
            f"one, not { ({name: len(group) for name, group in adapters.items()}) }"
        )
    labels = np.repeat(np.arange(len(adapters)), [len(group) for group in adapters.values()])
    members = [adapter for group in adapters.values() for adapter in group]
    paths = list(members[0])
    if any(set(member) != set(paths) for member in members):
        raise ConfigError("the adapters do not have the same layers")
    found: dict[tuple[Side, str], list[Array]] = {}
    for path in progress(paths):
        layers = [adapter_subspace({path: member[path]}).layers[path] for member in members]
        sides: dict[Side, list[Tensor]] = {
            "output": [_weighted(layer, layer.U) for layer in layers],
            "input": [_weighted(layer, layer.V) for layer in layers],
        }
        for side, weighted in sides.items():
            alike = _alike(weighted)
            for kind in ("all", str(layer_kind(path))):
                found.setdefault((side, kind), []).append(alike)
    return [
        _tested(kind, side, np.mean(alike, axis=0), labels, permutations, seed)
        for (side, kind), alike in sorted(found.items(), key=lambda item: (item[0][0] == "input", item[0][1] != "all"))
    ]


def _weighted(layer: LayerSubspace, columns: Tensor) -> Tensor:
    assert layer.S is not None
    return columns.double() * layer.S


def _alike(weighted: Sequence[Tensor]) -> Array:
    """``[adapters, adapters]`` RV coefficients; 0 with an adapter that has not changed the layer."""
    count = len(weighted)
    products = np.zeros((count, count))
    with one_thread():
        for i in range(count):
            for j in range(i, count):
                products[i, j] = products[j, i] = float((weighted[i].T @ weighted[j]).square().sum())
    norms = np.sqrt(products.diagonal())
    norms = np.where(norms > 0, norms, 1.0)
    return products / norms[:, None] / norms


def _tested(kind: str, side: Side, alike: Array, labels: Labels, permutations: int, seed: int) -> Separation:
    first, second = np.triu_indices(len(labels), 1)
    pairs = alike[first, second]

    def means(labels: Labels) -> tuple[Array, Array]:
        same = labels[..., first] == labels[..., second]
        return (pairs * same).sum(-1) / same.sum(-1), (pairs * ~same).sum(-1) / (~same).sum(-1)

    def difference(labels: Labels, axis: int) -> Array:
        within, between = means(np.moveaxis(labels, axis, -1))
        return within - between

    test = permutation_test(
        (labels,),
        difference,
        permutation_type="pairings",
        alternative="greater",
        vectorized=True,
        n_resamples=permutations,
        batch=_BATCH,
        rng=seed,
    )
    within, between = means(labels)
    return Separation(layers=kind, side=side, within=float(within), between=float(between), p=float(test.pvalue))
