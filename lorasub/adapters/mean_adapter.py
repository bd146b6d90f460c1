"""The mean of other adapters as a frozen update, of which only the strength is trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from lorasub.adapters.bases import BasisSpec
from lorasub.adapters.layer import UpdateLayer, adapter_dtype
from lorasub.errors import ArtefactError
from lorasub.files import hash_tensors
from lorasub.subspaces.layers import LowRankUpdate


class MeanAdapterLayer(UpdateLayer):
    """A frozen update B A of a Linear or a Conv2d, times a trained number.

    Attributes:
        B: ``(out, d)``.
        A: ``(d, in)``.
        gain: ``(1,)``, zero at the start.
    """

    kind: ClassVar[str] = "mean"
    B: Tensor
    A: Tensor

    def __init__(self, base_layer: nn.Linear | nn.Conv2d, mean: LowRankUpdate, *, basis_hash: str) -> None:
        super().__init__(base_layer, scale=1.0)
        weight, dtype = base_layer.weight, adapter_dtype(base_layer)
        if (shape := (len(mean.B), mean.A.shape[1])) != weight.flatten(1).shape:
            raise ArtefactError(f"the mean is {shape}, but the layer's weight {tuple(weight.flatten(1).shape)}")
        for name, factor in (("B", mean.B), ("A", mean.A)):
            self.register_buffer(name, factor.detach().to(weight.device, dtype), persistent=False)
        self.basis_hash = basis_hash
        self.gain = nn.Parameter(torch.zeros(1, device=weight.device, dtype=dtype))

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """``gain``."""
        return {"gain": self.gain}

    def live_update(self) -> LowRankUpdate:
        """See :meth:`AdapterLayer.live_update`."""
        return LowRankUpdate(B=self.B, A=self.A * self.gain, scale=self.scale)


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanAdapter(BasisSpec):
    """Train one number g a layer in ``W + g * L``, where L is the mean of fitted adapters.

    g starts at zero, so that the first step is the base model; g = 1 is the mean itself.

    Attributes:
        basis: L as U S V^T: a basis that was mined from adapters, or the folder of one. With ``alpha=2`` and
            ``dim="energy:1"``, mining gives the plain mean in full; with other options a robust one, of lower rank.
    """

    @cached_property
    def basis_hash(self) -> str:
        """Identity of the mean, its singular values included."""
        return hash_tensors(self.loaded_basis.tensors())

    @cached_property
    def _mean(self) -> dict[str, LowRankUpdate]:
        return self.loaded_basis.updates()

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> MeanAdapterLayer:
        """See :meth:`LayerSpec.wrap`.

        Raises:
            ConfigError: the basis has no singular values.
        """
        return MeanAdapterLayer(base_layer, self._mean[path], basis_hash=self.basis_hash)
