"""VeRA (Kopiczko et al. 2023, arXiv 2310.11454): two vectors a layer are trained around one frozen random pair."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lorasub.adapters.config import LayerSpec
from lorasub.adapters.layer import AdapterLayer, UpdateLayer, adapter_dtype
from lorasub.errors import ConfigError
from lorasub.files import hash_tensors
from lorasub.subspaces.layers import LowRankUpdate


class VeRAProjections(nn.Module):
    """The frozen random matrices of all layers; a layer reads as much of them as it has features.

    Attributes:
        A: ``(r, largest in)``.
        B: ``(largest out, r)``.
        hash: identity of the two; None on the meta device.
    """

    A: Tensor
    B: Tensor

    def __init__(self, r: int, out: int, features: int, *, seed: int, like: Tensor) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for name, shape in (("A", (r, features)), ("B", (out, r))):
            drawn = torch.empty(shape, device="meta" if like.is_meta else "cpu")
            if not like.is_meta:
                # PEFT's values, from the same stream: Kaiming's uniform distribution for the columns as inputs
                drawn.uniform_(-(bound := math.sqrt(6.0 / shape[1])), bound, generator=generator)
            self.register_buffer(name, drawn.to(like), persistent=False)
        self.hash = None if like.is_meta else hash_tensors({"A": self.A, "B": self.B})


class VeRALayer(UpdateLayer):
    """VeRA on a Linear or a Conv2d: ``diag(b) B diag(d) A`` with the vectors b and d trained.

    Attributes:
        projections: A and B; one module that all layers share.
        vera_lambda_d: ``(r,)``.
        vera_lambda_b: ``(out,)``, zero at the start.
    """

    kind: ClassVar[str] = "vera"
    projections: VeRAProjections

    def __init__(self, base_layer: nn.Linear | nn.Conv2d, *, r: int, d_initial: float, dropout: float = 0.0) -> None:
        super().__init__(base_layer, scale=1.0, dropout=dropout)
        weight, dtype = base_layer.weight, adapter_dtype(base_layer)
        self.vera_lambda_d = nn.Parameter(torch.full((r,), d_initial, device=weight.device, dtype=dtype))
        self.vera_lambda_b = nn.Parameter(torch.zeros(weight.shape[0], device=weight.device, dtype=dtype))

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """``vera_lambda_d`` and ``vera_lambda_b``."""
        return {"vera_lambda_d": self.vera_lambda_d, "vera_lambda_b": self.vera_lambda_b}

    def live_update(self) -> LowRankUpdate:
        """See :meth:`AdapterLayer.live_update`."""
        weight = self.base_layer.weight
        A = self.projections.A[:, : weight[0].numel()] * self.vera_lambda_d[:, None]
        B = self.projections.B[: weight.shape[0]] * self.vera_lambda_b[:, None]
        return LowRankUpdate(B=B, A=A, scale=self.scale)

    def extra_repr(self) -> str:
        """The rank."""
        return f"r={len(self.vera_lambda_d)}, {super().extra_repr()}"


@dataclass(frozen=True, kw_only=True)
class VeRA(LayerSpec):
    """Train a vector of length r and one of length out in ``W + diag(b) B diag(d) A``; A and B are random and frozen.

    All layers share A and B, each the rows and columns that it needs, as in PEFT.

    Attributes:
        r: rank of the frozen matrices.
        seed: draws A and B, those that PEFT draws with it as ``projection_prng_key``.
        d_initial: first value of d. b starts at zero, so that the first step is the base model.
        dropout: probability in [0, 1) of dropping an input feature.
    """

    r: int = 256
    seed: int = 0
    d_initial: float = 0.1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_dropout(self.dropout)
        if not isinstance(self.r, int) or self.r < 1:
            raise ConfigError(f"VeRA: the rank must be a whole number of at least 1, not r={self.r!r}")
        if not self.d_initial:
            raise ConfigError("VeRA: d_initial=0 has no gradient, since b is zero at the start, too")

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> VeRALayer:
        """See :meth:`LayerSpec.wrap`."""
        return VeRALayer(base_layer, r=self.r, d_initial=self.d_initial, dropout=self.dropout)

    def initialize(self, layers: Mapping[str, AdapterLayer]) -> None:
        """Draws the matrices for the largest of the layers."""
        own = [layer for layer in layers.values() if isinstance(layer, VeRALayer)]
        weights = [layer.base_layer.weight for layer in own]
        if not own:
            return
        shared = VeRAProjections(
            self.r,
            max(weight.shape[0] for weight in weights),
            max(weight[0].numel() for weight in weights),
            seed=self.seed,
            like=own[0].vera_lambda_d,
        )
        for layer in own:
            layer.projections, layer.basis_hash = shared, shared.hash
