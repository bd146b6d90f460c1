"""The basis of a subspace of weight updates: per layer two sets of orthonormal columns, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSubspace:
    """The subspace of one layer's weight updates.

    Attributes:
        U: ``(out, d_out)`` orthonormal columns on the output side.
        V: ``(in, d_in)`` orthonormal columns on the input side. For a convolution, in = channels * kernel height *
            kernel width, in the order of the flattened weight.
        S: ``(d,)`` singular values of the mined update, descending; None where the columns are not singular vectors.
    """

    U: Tensor
    V: Tensor
    S: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubspaceBasis:
    """Subspaces of the layers of one model.

    Attributes:
        layers: layer path (as in ``named_modules`` of the backbone) -> its subspace.
        base_model_hash: hash of the weights that the adapters were fitted on (:func:`lorasub.files.hash_tensors`).
    """

    layers: Mapping[str, LayerSubspace]
    base_model_hash: str | None = None
