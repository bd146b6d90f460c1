"""A frozen Linear and its low-rank update as one differentiable operation: fewer launches, fewer copies.

    y = x W^T + b + scale * (x A^T) B^T

As separate operations the update costs sums, scalings and casts of its own in both directions, and a small step on a
GPU waits for their launches. Here products accumulate in place, the scale rides along with them, the gradients of both
factors are cast at once, and the factors of all layers are cast together when the model is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from lorasub.precision import compute_dtype, without_autocast

#: Two matrices that a layer's update is made of, such as A (r, in) and B (out, r).
Factors = tuple[Tensor, Tensor]


def can_fuse(base: nn.Module, x: Tensor) -> bool:
    """Returns whether a layer is a plain frozen Linear whose fused form is the faster one for an input.

    Others (quantised, trained, compiled, with hooks, which only a call of the layer would run) go the usual way, and so
    does evaluation in float32 on a CPU, which has no launches to save. Frozen weights in a lower precision are cast
    here only, where there is no autocast.
    """
    exact = compute_dtype(x) == torch.float32 and base.weight.dtype == torch.float32
    evaluated = x.device.type == "cpu" and not torch.is_grad_enabled() and exact
    return (
        not evaluated
        and type(base) is nn.Linear
        and not base.weight.requires_grad
        and (base.bias is None or not base.bias.requires_grad)
        and not (base._forward_pre_hooks or base._forward_hooks or base._backward_pre_hooks or base._backward_hooks)
        and not torch.compiler.is_compiling()
    )


def linear_with_update(
    x: Tensor, base: nn.Linear, A: Tensor, B: Tensor, scale: float, cast: Factors | None = None
) -> Tensor:
    """Output of a frozen Linear plus its low-rank update, in the dtype of its matrix products.

    Args:
        x: ``(..., in)``.
        base: the layer, see :func:`can_fuse`.
        A: ``(r, in)``.
        B: ``(out, r)``.
        scale: factor of the update.
        cast: both factors in the dtype of the products, if they are there already.

    Returns:
        ``(..., out)``.
    """
    dtype = compute_dtype(x)
    cast = factors_for(dtype, x.device, (A.detach(), B.detach()), cast)
    result: Tensor = _LinearWithUpdate.apply(  # type: ignore[no-untyped-call]
        x.to(dtype), base.weight, base.bias, A, B, *cast, scale
    )
    return result


def factors_for(dtype: torch.dtype, device: torch.device, factors: Factors, cast: Factors | None) -> Factors:
    """Both factors in a dtype: those that were cast together, if they fit, else cast now."""
    if cast is not None and cast[0].dtype == dtype and cast[0].device == device:
        return cast
    return factors[0].to(dtype), factors[1].to(dtype)


class _LinearWithUpdate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        B: Tensor,
        cast_A: Tensor,
        cast_B: Tensor,
        scale: float,
    ) -> Tensor:
        with without_autocast(x.device.type):
            weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
            flat = x.reshape(-1, x.shape[-1])  # (2, 1041, 1024) -> (2082, 1024)
            hidden = F.linear(flat, cast_A)  # (2082, 16)
            result = F.linear(flat, weight, bias).addmm_(hidden, cast_B.T, alpha=scale)
        ctx.save_for_backward(flat, weight, hidden, cast_A, cast_B)
        ctx.scale, ctx.shape, ctx.dtypes = scale, x.shape, (A.dtype, B.dtype)
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, hidden, A, B = ctx.saved_tensors
        to_x = to_A = to_B = None
        flat = gradient.reshape(-1, gradient.shape[-1])
        to_hidden = flat @ B
        if ctx.needs_input_grad[0]:
            to_x = (flat @ weight).addmm_(to_hidden, A, alpha=ctx.scale).view(ctx.shape)
        if ctx.needs_input_grad[3] and ctx.needs_input_grad[4]:
            both = x.new_empty(A.numel() + B.numel())
            to_A, to_B = both[: A.numel()].view_as(A), both[A.numel() :].view_as(B)
            to_A.addmm_(to_hidden.T, x, beta=0, alpha=ctx.scale)
            to_B.addmm_(flat.T, hidden, beta=0, alpha=ctx.scale)
            if both.dtype != ctx.dtypes[0]:
                both = both.to(ctx.dtypes[0])
                to_A, to_B = both[: A.numel()].view_as(A), both[A.numel() :].view_as(B)
        elif ctx.needs_input_grad[3]:
            to_A = torch.empty_like(A).addmm_(to_hidden.T, x, beta=0, alpha=ctx.scale).to(ctx.dtypes[0])
        elif ctx.needs_input_grad[4]:
            to_B = torch.empty_like(B).addmm_(flat.T, hidden, beta=0, alpha=ctx.scale).to(ctx.dtypes[1])
        return to_x, None, None, to_A, to_B, None, None, None


class FactoredLayer(Protocol):
    """A layer with two matrices that :class:`FactorCasts` casts for it."""

    cast_factors: Factors | None

    def factors(self) -> Factors:
        """The matrices in full precision: A and B as they are trained, or the two frozen bases."""
        ...


class FactorCasts:
    """Casts the factors of all layers together whenever a model is called under autocast.

    The copies live as long as the call. Where a layer runs outside of it (gradient checkpointing runs blocks again in
    the backward pass) it casts its own factors, to the same values.

    Args:
        model: the adapted model.
        layers: its layers with factors.
    """

    def __init__(self, model: nn.Module, layers: Sequence[FactoredLayer]) -> None:
        self._layers = list(layers)
        self._handles = (
            model.register_forward_pre_hook(self._cast),
            model.register_forward_hook(self._forget, always_call=True),
        )

    def detach(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def _cast(self, model: nn.Module, inputs: Any) -> None:
        sources = [factor for layer in self._layers for factor in layer.factors()]
        # sharded tensors become whole only when their block runs
        if not sources or torch.compiler.is_compiling() or any(map(is_traceable_wrapper_subclass, sources)):
            return
        dtype = compute_dtype(sources[0])
        if dtype == sources[0].dtype:
            return
        copies = [torch.empty_like(source, dtype=dtype) for source in sources]
        torch._foreach_copy_(copies, sources)
        for index, layer in enumerate(self._layers):
            layer.cast_factors = copies[2 * index], copies[2 * index + 1]

    def _forget(self, model: nn.Module, inputs: Any, output: Any) -> None:
        for layer in self._layers:
            layer.cast_factors = None


@torch.no_grad()
def cast_frozen_weights(modules: Iterable[nn.Module], dtype: torch.dtype = torch.bfloat16) -> int:
    """Store the frozen weights of matrix products in a lower precision, for good.

    Under autocast results stay the same bit for bit, since autocast casts the same values anew in every step; half of
    the memory and one cast a step and weight are saved. Linear and Conv2d layers are cast; normalisations, LayerScales,
    tokens, the bases of projected layers (they are exported) and everything that is trained stay as they are.

    Call it after adapters are injected: their starting values and the base model's hash are taken from the full
    precision. Merging into a cast model would round the merged weights; merge into the model as it is loaded.

    Args:
        modules: what runs under autocast, such as ``backbone.repeated_blocks()``; heads that switch it off do not.
        dtype: a floating dtype.

    Returns:
        how many numbers were cast.

    Example:
        >>> model = torch.nn.Linear(8, 4).requires_grad_(False)
        >>> _ = cast_frozen_weights([model])
        >>> model.weight.dtype
        torch.bfloat16
    """
    count = 0
    for module in modules:
        for layer in module.modules():
            for tensor in layer.parameters(recurse=False) if isinstance(layer, nn.Linear | nn.Conv2d) else ():
                if not tensor.requires_grad and tensor.dtype != dtype:
                    tensor.data = tensor.data.to(dtype)
                    count += tensor.numel()
    return count
