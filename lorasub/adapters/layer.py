"""Base of adapter layers: a wrapper around one frozen layer that adds a low-rank update to its output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lorasub.errors import ConfigError, NumericalError
from lorasub.subspaces.layers import LowRankUpdate


def adapter_dtype(base_layer: nn.Linear | nn.Conv2d) -> torch.dtype:
    """Dtype of the trained tensors: that of the base weight, but float32 where that is a half-precision type.

    An optimiser's steps on a small adapter vanish in the rounding of bfloat16.
    """
    dtype = base_layer.weight.dtype
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


class AdapterLayer(nn.Module, ABC):
    """A Linear or Conv2d layer with an adapter: ``y = base_layer(x) + scale * B A x``.

    The wrapped layer is kept as ``base_layer`` (PEFT's name) and is never changed, except between :meth:`merge` and
    :meth:`unmerge`. A layer says itself which tensors are its own; nothing is ever found by searching names.

    Attributes:
        base_layer: the wrapped layer.
        scale: factor of the update.
        enabled: with False the layer computes what ``base_layer`` alone computes.
        start: hash of the random numbers that training started from; None where there were none, or it is not known.
        basis_hash: hash of frozen matrices that the update is relative to and that files of the adapter do not hold;
            None where there are none.
    """

    #: Name of the kind of adapter in files and tables.
    kind: ClassVar[str]
    #: Whether the update is of low rank, so that PEFT's LoRA format can hold it.
    low_rank: ClassVar[bool] = True
    #: Whether :attr:`weight` is all that the layer does, so that it may be read instead of calling the layer.
    readable: ClassVar[bool] = True
    base_layer: nn.Linear | nn.Conv2d

    def __init__(self, base_layer: nn.Linear | nn.Conv2d, *, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        if isinstance(base_layer, nn.Conv2d) and base_layer.groups != 1:
            raise ConfigError(f"adapters do not cover grouped convolutions (groups={base_layer.groups}); exclude it")
        self.base_layer = base_layer
        self.scale = float(scale)
        self.lora_dropout = nn.Dropout(dropout) if dropout else None
        self.enabled = True
        self.start: str | None = None
        self.basis_hash: str | None = None
        self._original: Tensor | None = None
        self._merge_deviation = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Output of the base layer plus the update; shapes and dtype are those of the base layer."""
        result: Tensor = self.base_layer(x)
        if self.merged or not self.enabled:
            return result
        return self.add_update(x if self.lora_dropout is None else self.lora_dropout(x), result)

    @abstractmethod
    def add_update(self, x: Tensor, result: Tensor) -> Tensor:
        """``result`` (the base layer's output for this input) plus the update of ``x``."""

    @abstractmethod
    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """The trained tensors, by their names within this layer."""

    @abstractmethod
    def live_update(self) -> LowRankUpdate:
        """The update of the weight in factored form, with gradients; convolutions are flattened."""

    def update(self) -> LowRankUpdate:
        """The same, detached."""
        live = self.live_update()
        return LowRankUpdate(B=live.B.detach(), A=live.A.detach(), scale=live.scale, start=self.start)

    @property
    def weight(self) -> Tensor:
        """Base weight and update as one tensor, with gradients.

        For modules that read a weight instead of calling its layer, as torch's attention does and its transformer
        layers do in their fast path. Dropout of the adapter's input has no part in it.
        """
        weight = self.base_layer.weight
        if self.merged or not self.enabled:
            return weight
        update = self.live_update()
        return weight + (update.B @ update.A * update.scale).reshape(weight.shape).to(weight.dtype)

    @property
    def bias(self) -> Tensor | None:
        """That of the base layer."""
        return self.base_layer.bias

    @property
    def in_features(self) -> int:
        """That of the base layer, which other people's modules read."""
        return self.base_layer.in_features  # type: ignore[return-value]

    @property
    def out_features(self) -> int:
        """That of the base layer."""
        return self.base_layer.out_features  # type: ignore[return-value]

    def record_start(self) -> None:
        """Remembers a hash of the random numbers that were just drawn; nothing where the start is not random."""

    def draw_start(self, *key: int | str) -> None:
        """Draws the random numbers anew, from the stream of a key."""

    def at_start(self) -> bool:
        """Whether the layer still holds the random numbers that it was made with, and has learnt nothing."""
        return False

    def regularization(self) -> Tensor | None:
        """A term that this layer adds to the loss, a scalar; None for none."""
        return None

    def frozen_state(self) -> dict[str, Tensor]:
        """Tensors that are not trained but that no other file holds, so that they are saved with the adapter."""
        return {}

    @torch.no_grad()
    def delta_weight(self, dtype: torch.dtype | None = None) -> Tensor:
        """The update as a tensor of the shape of ``base_layer.weight``.

        Args:
            dtype: dtype of computation and result; float64 by default (float32 on devices without it).
        """
        weight = self.base_layer.weight
        dtype = dtype or (torch.float32 if weight.device.type == "mps" else torch.float64)
        update = self.update()
        product: Tensor = update.B.to(dtype) @ (update.A.to(dtype) * update.scale)
        return product.reshape(weight.shape)

    @property
    def merged(self) -> bool:
        """Whether the base weight now holds the update."""
        return self._original is not None

    @torch.no_grad()
    def merge(self, *, safe: bool = False) -> float:
        """Add the update to the base weight; does nothing when that is already so.

        The sum is taken in float64 and rounded once. Subtracting it again would not give the old weight back bit for
        bit, so the old weight is kept, in main memory, until :meth:`unmerge`.

        Args:
            safe: check that the new weight is finite before it is put in place.

        Returns:
            the largest absolute difference between the stored weight and the exact sum.

        Raises:
            NumericalError: ``safe``, and the new weight holds NaN or infinity.
        """
        if self.merged:
            return self._merge_deviation
        weight = self.base_layer.weight
        exact = self.delta_weight()
        exact += weight
        rounded = exact.to(weight.dtype)
        if safe and not torch.isfinite(rounded).all():
            raise NumericalError("the merged weight holds NaN or infinity; nothing was merged here")
        self._original = weight.detach().to("cpu", copy=True)
        self._merge_deviation = float((rounded - exact).abs().max()) if weight.numel() else 0.0
        weight.data.copy_(rounded)
        return self._merge_deviation

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put the old base weight back, bit for bit; does nothing when the layer is not merged."""
        if self._original is not None:
            self.base_layer.weight.data.copy_(self._original)
            self._original = None

    def extra_repr(self) -> str:
        """The scale, and the state where it is not the usual one."""
        return f"scale={self.scale:g}" + (", merged" if self.merged else "") + ("" if self.enabled else ", disabled")


def leading_components(base_layer: nn.Linear | nn.Conv2d, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first r singular triplets of a layer's weight, convolutions flattened.

    Returns:
        U ``(out, r)``, S ``(r,)`` and V ``(in, r)``, in float32 or better.

    Raises:
        ConfigError: the weight has fewer than r.
    """
    weight = base_layer.weight.detach().flatten(1)
    if r > min(weight.shape):
        raise ConfigError(
            f"{r} singular vectors were asked of a weight {tuple(weight.shape)} that has {min(weight.shape)}"
        )
    U, S, Vh = torch.linalg.svd(weight.to(torch.promote_types(weight.dtype, torch.float32)), full_matrices=False)
    return U[:, :r], S[:r], Vh[:r].T


def conv_with(base_layer: nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    """Convolve ``x`` like ``base_layer`` (stride, padding and its mode, dilation), with another weight and no bias."""
    result: Tensor = base_layer._conv_forward(x, weight.to(x.dtype), None)
    return result


def add_product(result: Tensor, hidden: Tensor, weight: Tensor, scale: float) -> Tensor:
    """``result + scale * hidden @ weight.T`` over the last axis, as one matrix product that takes the scale along.

    Neither the scaled weight nor the update is ever stored on its own.

    Args:
        result: ``(..., out)``.
        hidden: ``(..., r)``.
        weight: ``(out, r)``.
        scale: factor.
    """
    # (2, 1041, 3072) is (2082, 3072) here: addmm knows matrices only
    flat = result.reshape(-1, result.shape[-1])
    hidden = hidden.reshape(-1, hidden.shape[-1])
    return torch.addmm(flat, hidden, weight.to(hidden.dtype).T, alpha=scale).reshape(result.shape)


class UpdateLayer(AdapterLayer):
    """Base of adapters whose output follows from :meth:`live_update`, on Linear and on Conv2d."""

    def add_update(self, x: Tensor, result: Tensor) -> Tensor:
        """See :meth:`AdapterLayer.add_update`."""
        update = self.live_update()
        if isinstance(self.base_layer, nn.Conv2d):
            kernels = update.A.view(-1, *self.base_layer.weight.shape[1:])  # (16, 2304) -> (16, 256, 3, 3)
            hidden = conv_with(self.base_layer, x, kernels)
            return result + F.conv2d(hidden, (update.B * update.scale).to(hidden.dtype)[:, :, None, None])
        return add_product(result, F.linear(x, update.A.to(x.dtype)), update.B, update.scale)
