"""LoRA-XS (Balazy et al. 2024, arXiv 2405.17604): training a small matrix between SVD factors of the weight."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lorasub.adapters.config import PSV
from lorasub.adapters.layer import leading_components
from lorasub.subspaces.basis import LayerSubspace


@dataclass(frozen=True, kw_only=True)
class LoRAXS(PSV):
    """Train only R (dim, dim) in ``W + scale * U S R V^T``, with the weight's leading singular triplets U, S, V.

    As in the paper the output side carries the singular values; :class:`PSV` is the same without them. R starts at
    zero instead of the paper's N(0, 1e-5 ** 2), so that the first step is the base model exactly.

    Attributes:
        dim: rank of the frozen factors, r in the paper.
        targets: what to adapt.
        exclude: what to leave out.
        scale: factor of the update, ``lora_alpha / r`` in the paper.
        dropout: probability in [0, 1) of dropping an input feature.
    """

    def subspace(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> LayerSubspace:
        """See :meth:`ProjectedSpec.subspace`."""
        U, S, V = leading_components(base_layer, self.dim)
        return LayerSubspace(U=U * S, V=V.contiguous(), S=S)
