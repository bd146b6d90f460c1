"""Projected-subspace LoRA: only a small matrix between two frozen bases is trained.

    y = base(x) + scale * Q_out M Q_in^T x

with ``Q_out`` (out, D_out), ``Q_in`` (in, D_in) and ``M`` (D_out, D_in), zero at the start.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lorasub.adapters.bases import BasisSpec, basis_at_hand, read_basis
from lorasub.adapters.config import LayerSpec
from lorasub.adapters.folder import load_adapter_updates
from lorasub.adapters.fused import Factors, can_fuse, factors_for, linear_with_update
from lorasub.adapters.layer import AdapterLayer, adapter_dtype, add_product, conv_with, leading_components
from lorasub.artefacts import check_same
from lorasub.errors import ArtefactError, ConfigError
from lorasub.precision import compute_dtype
from lorasub.subspaces.baseline_bases import random_basis
from lorasub.subspaces.basis import LayerSubspace, SubspaceBasis, is_basis_folder
from lorasub.subspaces.layers import LowRankUpdate


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
        if self.M.is_meta:  # it has no numbers
            return
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


@dataclass(frozen=True, kw_only=True, eq=False)
class ProjectedSpec(LayerSpec):
    """Base of the kinds that train only M between two frozen bases; they differ in where the bases come from.

    Attributes:
        scale: factor of the update; 2 is what LoRA has with lora_alpha = 2 r.
        dropout: probability in [0, 1) of dropping an input feature.
    """

    scale: float = 2.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scale > 0:
            raise ConfigError(f"{type(self).__name__}: scale must be above 0, not {self.scale!r}")
        self._check_dropout(self.dropout)

    @abstractmethod
    def subspace(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> LayerSubspace:
        """The frozen bases for the layer at ``path``."""

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> ProjectedLayer:
        """See :meth:`LayerSpec.wrap`."""
        subspace = self.subspace(path, base_layer)
        return projected_layer(base_layer, subspace, scale=self.scale, dropout=self.dropout)


@dataclass(frozen=True, kw_only=True, eq=False)
class ProjectedLoRA(ProjectedSpec, BasisSpec):
    """Train only M in ``W + scale * Q_out M Q_in^T``, with the columns of a mined or combined basis as Q.

    Attributes:
        basis: the basis, the folder of one, or a space file of the paper's released code. It must have every layer
            that is asked for.
        init_from: updates, the folder of a LoRA adapter (of lorasub or PEFT), or that of a basis with singular values,
            such as the mean of the adapters that ``basis`` was mined from; they are projected into the subspace for
            the first M. None: M is zero, so that the first step is the base model.
    """

    init_from: Mapping[str, LowRankUpdate] | str | Path | None = None

    @cached_property
    def _start(self) -> tuple[Mapping[str, LowRankUpdate] | None, str | None]:
        """The updates to start from and the hash of the base model that they were fitted on."""
        if not isinstance(self.init_from, str | Path):
            return self.init_from, None
        if basis_at_hand(str(self.init_from)) is not None or is_basis_folder(self.init_from):
            basis = read_basis(self.init_from)
            return basis.updates(), basis.base_model_hash
        updates, info = load_adapter_updates(self.init_from)
        return updates, info.base_model_hash

    def carried_bases(self) -> dict[str, SubspaceBasis]:
        """See :meth:`LayerSpec.carried_bases`."""
        carried = super().carried_bases()
        if isinstance(self.init_from, str | Path) and is_basis_folder(self.init_from):
            carried[str(self.init_from)] = read_basis(self.init_from)
        return carried

    def check_layers(self, paths: list[str], base_model_hash: str | None) -> None:
        """See :meth:`BasisSpec.check_layers`; likewise ``init_from``."""
        super().check_layers(paths, base_model_hash)
        start, start_hash = self._start
        check_same(f"the start {self.init_from}", "base model", start_hash, base_model_hash)
        if start is not None:
            self._check_has("init_from", start, paths)

    def subspace(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> LayerSubspace:
        """See :meth:`ProjectedSpec.subspace`."""
        return self.loaded_basis.layers[path]

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> ProjectedLayer:
        """See :meth:`LayerSpec.wrap`."""
        layer = projected_layer(
            base_layer,
            self.subspace(path, base_layer),
            scale=self.scale,
            dropout=self.dropout,
            basis_hash=self.basis_hash,
        )
        if (start := self._start[0]) is not None:
            layer.project(start[path])
        return layer


@dataclass(frozen=True, kw_only=True)
class PSV(ProjectedSpec):
    """Projected-subspace LoRA on the weight's own leading singular vectors (the baseline of LoRA-XS and the paper).

    Attributes:
        dim: how many singular vectors, on each side.
    """

    dim: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_dim(type(self).__name__, self.dim)

    def subspace(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> LayerSubspace:
        """See :meth:`ProjectedSpec.subspace`."""
        U, S, V = leading_components(base_layer, self.dim)
        return LayerSubspace(U=U.contiguous(), V=V.contiguous(), S=S)


@dataclass(frozen=True, kw_only=True)
class RandomBasis(ProjectedSpec):
    """Projected-subspace LoRA on random orthonormal columns: the control that any mined basis has to beat.

    Attributes:
        dim: how many columns, on each side.
        seed: with the layer's path it determines the columns, on every machine and in any order of layers.
    """

    dim: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_dim("RandomBasis", self.dim)

    def subspace(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> LayerSubspace:
        """See :meth:`ProjectedSpec.subspace`.

        Raises:
            ConfigError: more columns than the layer has features.
        """
        weight = base_layer.weight
        shape = (weight.shape[0], weight[0].numel())
        return random_basis({path: shape}, self.dim, seed=self.seed).layers[path]


@dataclass(frozen=True, kw_only=True)
class LoRAXS(PSV):
    """Train only R (dim, dim) in ``W + scale * U S R V^T``, with the weight's leading singular triplets U, S, V.

    As in the paper the output side carries the singular values; :class:`PSV` is the same without them. R starts at
    zero instead of the paper's N(0, 1e-5 ** 2), so that the first step is the base model exactly.

    Attributes:
        dim: rank of the frozen factors, r in the paper.
        scale: factor of the update, ``lora_alpha / r`` in the paper.
    """

    def subspace(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> LayerSubspace:
        """See :meth:`ProjectedSpec.subspace`."""
        U, S, V = leading_components(base_layer, self.dim)
        return LayerSubspace(U=U * S, V=V.contiguous(), S=S)


def _check_dim(name: str, dim: int) -> None:
    if not isinstance(dim, int) or dim < 1:
        raise ConfigError(f"{name}: dim must be a whole number of at least 1, not {dim!r}")
