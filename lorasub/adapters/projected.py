"""Projected-subspace LoRA: only a small matrix between two frozen bases is trained.

    y = base(x) + scale * Q_out M Q_in^T x

with ``Q_out`` (out, D_out), ``Q_in`` (in, D_in) and ``M`` (D_out, D_in), zero at the start.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lorasub.adapters.fused import Factors, can_fuse, factors_for, linear_with_update
from lorasub.adapters.layer import AdapterLayer, adapter_dtype, add_product, conv_with
from lorasub.errors import ArtefactError, ConfigError
from lorasub.precision import compute_dtype
from lorasub.subspaces.basis import LayerSubspace
from lorasub.subspaces.updates import LowRankUpdate


class ProjectedLayer(AdapterLayer):
    """Base of the projected form on Linear and on Conv2d.

    The bases are referenced, not copied, wherever dtype and device allow, so that several adapters on one basis hold
    it once. They take the dtype of the base weight: in it the products are computed anyway.

    Attributes:
        Q_out: ``(out, D_out)``.
        Q_in: ``(in, D_in)``; for a convolution, in = channels * kernel height * kernel width.
        M: ``(D_out, D_in)``, the only trained tensor.
        basis_hash: hash of the basis artefact that the bases come from; None for bases made on the spot, which are
            then saved with the adapter.
    """

    kind: ClassVar[str] = "projected"
    Q_out: Tensor
    Q_in: Tensor

    def __init__(
        self,
        base_layer: nn.Linear | nn.Conv2d,
        subspace: LayerSubspace,
        *,
        scale: float,
        dropout: float = 0.0,
        basis_hash: str | None = None,
    ) -> None:
        super().__init__(base_layer, scale=scale, dropout=dropout)
        weight = base_layer.weight
        U, V = subspace.U, subspace.V
        if subspace.shape != weight.flatten(1).shape:
            raise ArtefactError(
                f"the basis has U {tuple(U.shape)} and V {tuple(V.shape)}, but the layer's weight is "
                f"{tuple(weight.flatten(1).shape)}: U needs {weight.shape[0]} rows and V {weight[0].numel()}"
            )
        if 0 in (subspace.d_out, subspace.d_in):
            raise ConfigError("the basis found no dimension for this layer; exclude it")
        self.basis_hash = basis_hash
        for name, Q in (("Q_out", U), ("Q_in", V)):
            self.register_buffer(name, Q.detach().to(weight), persistent=basis_hash is None)
        self.M = nn.Parameter(
            torch.zeros(U.shape[1], V.shape[1], device=weight.device, dtype=adapter_dtype(base_layer))
        )

    @torch.no_grad()
    def project(self, update: LowRankUpdate) -> None:
        """Set M to what comes nearest to ``update`` within the subspace (least squares; for bases of any columns)."""
        left = torch.linalg.lstsq(self.Q_out.double(), update.B.to(self.Q_out.device).double()).solution
        right = torch.linalg.lstsq(self.Q_in.double(), update.A.to(self.Q_in.device).double().T).solution
        self.M.copy_(left @ right.T * (update.scale / self.scale))

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """``M``."""
        return {"M": self.M}

    def frozen_state(self) -> dict[str, Tensor]:
        """The bases, where no basis artefact holds them."""
        return {"Q_out": self.Q_out, "Q_in": self.Q_in} if self.basis_hash is None else {}

    def live_update(self) -> LowRankUpdate:
        """The same update as an ordinary LoRA of rank min(D_out, D_in), without loss."""
        Q_out, Q_in, M = self.Q_out, self.Q_in, self.M
        if M.shape[0] < M.shape[1]:
            return LowRankUpdate(B=Q_out.to(M.dtype), A=M @ Q_in.to(M.dtype).T, scale=self.scale)
        return LowRankUpdate(B=Q_out.to(M.dtype) @ M, A=Q_in.to(M.dtype).T, scale=self.scale)

    def extra_repr(self) -> str:
        """Dimensions and scale."""
        return f"dim={tuple(self.M.shape)}, {super().extra_repr()}"


class ProjectedLinear(ProjectedLayer):
    """Projected-subspace LoRA on a Linear layer."""

    base_layer: nn.Linear
    cast_factors: Factors | None = None

    def forward(self, x: Tensor) -> Tensor:
        """See :meth:`AdapterLayer.forward`; base layer and update in one operation where that is possible."""
        if self.merged or not self.enabled or self.lora_dropout is not None or not can_fuse(self.base_layer, x):
            return super().forward(x)
        dtype = compute_dtype(x)
        Q_out, Q_in = factors_for(dtype, x.device, self.factors(), self.cast_factors)
        B = Q_out @ self.M.to(dtype)  # (3072, 64) @ (64, 64)
        return linear_with_update(x, self.base_layer, Q_in.T, B, self.scale)

    def factors(self) -> Factors:
        """``Q_out`` and ``Q_in``."""
        return self.Q_out, self.Q_in

    def add_update(self, x: Tensor, result: Tensor) -> Tensor:
        """See :meth:`AdapterLayer.add_update`."""
        hidden = F.linear(x, self.Q_in.to(x.dtype).T)  # (2, 1041, 1024) -> (2, 1041, 64)
        hidden = F.linear(hidden, self.M.to(hidden.dtype))
        return add_product(result, hidden, self.Q_out, self.scale)


class ProjectedConv2d(ProjectedLayer):
    """Projected-subspace LoRA on a Conv2d: the rows of Q_in^T are its kernels, M and Q_out mix channels."""

    base_layer: nn.Conv2d

    def add_update(self, x: Tensor, result: Tensor) -> Tensor:
        """See :meth:`AdapterLayer.add_update`."""
        kernels = self.Q_in.T.view(-1, *self.base_layer.weight.shape[1:])  # (2304, 16) -> (16, 256, 3, 3)
        hidden = conv_with(self.base_layer, x, kernels)
        hidden = F.conv2d(hidden, (self.M * self.scale).to(hidden.dtype)[:, :, None, None])
        return result + F.conv2d(hidden, self.Q_out.to(hidden.dtype)[:, :, None, None])


def projected_layer(
    base_layer: nn.Linear | nn.Conv2d,
    subspace: LayerSubspace,
    *,
    scale: float,
    dropout: float = 0.0,
    basis_hash: str | None = None,
) -> ProjectedLayer:
    """Wrap a Linear or Conv2d in the projected layer for it."""
    wrapper = ProjectedConv2d if isinstance(base_layer, nn.Conv2d) else ProjectedLinear
    return wrapper(base_layer, subspace, scale=scale, dropout=dropout, basis_hash=basis_hash)
