"""The block's small operations in few launches: normalisation, rotary embedding, LayerScale with the residual.

A transformer block spends most of its launches, and much of its memory traffic, on operations that are trivial one by
one. Written out as autograd functions they read and write each large tensor as rarely as torch's own operations allow,
keep for the backward pass what is needed and nothing else, and never convert a dtype in an operation of its own where
another can do it on the way.

Under autocast the residual stream stays float32; what enters a matrix product is in autocast's dtype. Statistics of
every normalisation are float32.

``torch.compile`` joins such operations by itself, and better, so that under it the plain formulas are traced.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lorasub.backbones.vggt.rope import RotaryTable, apply_rotary
from lorasub.precision import compute_dtype, without_autocast


class LayerNorm(nn.LayerNorm):
    """LayerNorm whose result is in the dtype of the matrix product that it goes into; its statistics are float32."""

    def forward(self, x: Tensor) -> Tensor:
        """``[..., dim]`` to the same; under autocast in autocast's dtype."""
        dtype = compute_dtype(x)
        if torch.compiler.is_compiling() or dtype == x.dtype == self.weight.dtype:
            return super().forward(x).to(dtype)
        result: Tensor = _CastNorm.apply(x, self.weight, self.bias, self.eps, dtype)  # type: ignore[no-untyped-call]
        return result


class _CastNorm(torch.autograd.Function):
    """LayerNorm in the weight's dtype, then one cast; the cast result is all that stays for the product behind it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        with without_autocast(x.device.type):
            wide = x.to(weight.dtype)
            normalised, mean, rstd = torch.native_layer_norm(wide, weight.shape, weight, bias, eps)
        ctx.save_for_backward(wide, mean, rstd, weight, bias)
        ctx.dtype = x.dtype
        return normalised.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, weight, bias = ctx.saved_tensors
        needed = list(ctx.needs_input_grad[:3])
        found = torch.ops.aten.native_layer_norm_backward(
            gradient.to(x.dtype), x, weight.shape, mean, rstd, weight, bias, needed
        )
        to_x = found[0].to(ctx.dtype) if needed[0] else None
        return to_x, found[1] if needed[1] else None, found[2] if needed[2] else None, None, None


def add_scaled(x: Tensor, branch: Tensor, gamma: Tensor) -> Tensor:
    """``x + gamma * branch``: LayerScale and the residual connection in one operation.

    Args:
        x: ``[..., dim]``, the residual stream.
        branch: ``[..., dim]``, possibly of a lower precision.
        gamma: ``[dim]``.

    Returns:
        as ``x``.
    """
    if torch.compiler.is_compiling():
        return x + gamma * branch
    if torch.is_grad_enabled() and (gamma.requires_grad or branch.requires_grad or x.requires_grad):
        result: Tensor = _AddScaled.apply(x, branch, gamma)  # type: ignore[no-untyped-call]
        return result
    with without_autocast(x.device.type):
        return torch.addcmul(x, branch, gamma)


class _AddScaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor, gamma: Tensor) -> Tensor:
        # the branch is read again only for the gradient of gamma
        ctx.save_for_backward(gamma, branch if ctx.needs_input_grad[2] else None)
        ctx.dtype = branch.dtype
        with without_autocast(x.device.type):
            return torch.addcmul(x, branch, gamma)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gamma, branch = ctx.saved_tensors
        to_branch = to_gamma = None
        if ctx.needs_input_grad[1]:
            to_branch = torch.mul(gradient, gamma, out=torch.empty_like(gradient, dtype=ctx.dtype))
        if ctx.needs_input_grad[2]:
            to_gamma = (gradient * branch).flatten(0, -2).sum(0)
        return gradient, to_branch, to_gamma


def rotated_queries_keys(
    qkv: Tensor, q_norm: nn.LayerNorm, k_norm: nn.LayerNorm, table: RotaryTable
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values for attention; queries and keys normalised per head, then rotated by position.

    Args:
        qkv: ``[B, N, 3, heads, head_dim]``, the fused projection.
        q_norm: over ``head_dim``.
        k_norm: likewise, with the same epsilon.
        table: of the N tokens.

    Returns:
        ``[B, heads, N, head_dim]`` each, in the dtype of ``qkv``.
    """
    # without gradients a CPU has neither launches nor saved tensors to spare, and contiguous copies are faster there
    evaluated = qkv.device.type == "cpu" and not torch.is_grad_enabled() and compute_dtype(qkv) == torch.float32
    if torch.compiler.is_compiling() or evaluated:
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return apply_rotary(q_norm(q), table).to(v.dtype), apply_rotary(k_norm(k), table).to(v.dtype), v
    cos, signed_sin = (half.to(qkv.dtype) for half in table)
    result: tuple[Tensor, Tensor, Tensor] = _RotatedQueriesKeys.apply(  # type: ignore[no-untyped-call]
        qkv, q_norm.weight, q_norm.bias, k_norm.weight, k_norm.bias, cos, signed_sin, q_norm.eps
    )
    return result


class _RotatedQueriesKeys(torch.autograd.Function):
    """Queries and keys stay side by side in one tensor, so that each operation runs once for both."""

    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        q_weight: Tensor,
        q_bias: Tensor,
        k_weight: Tensor,
        k_bias: Tensor,
        cos: Tensor,
        signed_sin: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        both = qkv[:, :, :2]
        with without_autocast(qkv.device.type):
            normalised, mean, rstd = torch.native_layer_norm(both, both.shape[-1:], None, None, eps)
            scaled = torch.empty_like(normalised)
            for index, (weight, bias) in enumerate(((q_weight, q_bias), (k_weight, k_bias))):
                torch.addcmul(bias, normalised[:, :, index], weight, out=scaled[:, :, index])
            rotated = _rotate(scaled, cos, signed_sin)
        ctx.save_for_backward(qkv, mean, rstd, q_weight, k_weight, cos, signed_sin)
        q, k, v = rotated[:, :, 0], rotated[:, :, 1], qkv[:, :, 2]
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_q: Tensor, to_k: Tensor, to_v: Tensor) -> tuple[Tensor | None, ...]:
        qkv, mean, rstd, q_weight, k_weight, cos, signed_sin = ctx.saved_tensors
        both = qkv[:, :, :2]
        gradient = torch.stack((to_q.transpose(1, 2), to_k.transpose(1, 2)), dim=2)
        gradient = _rotate(gradient, cos, signed_sin, back=True)
        affine = _affine_gradients(gradient, both, mean, rstd, ctx.needs_input_grad[1:5])
        for index, weight in enumerate((q_weight, k_weight)):
            gradient[:, :, index].mul_(weight)
        to_both = torch.ops.aten.native_layer_norm_backward(
            gradient, both, both.shape[-1:], mean, rstd, None, None, [True, False, False]
        )[0]
        return torch.cat((to_both, to_v.transpose(1, 2)[:, :, None]), dim=2), *affine, None, None, None


def _rotate(x: Tensor, cos: Tensor, signed_sin: Tensor, *, back: bool = False) -> Tensor:
    """Rotate ``[B, N, 2, heads, head_dim]`` by tables ``[N, head_dim]``, as ``apply_rotary`` does.

    ``back`` is the transpose, a rotation by the opposite angle: the sines of a pair change places.
    """
    rotated = x * _over_heads(cos)
    (first, second), (to_first, to_second) = _pairs(x), _pairs(rotated)
    sin_first, sin_second = _pairs(_over_heads(signed_sin))
    if back:
        sin_first, sin_second = sin_second, sin_first
    to_first.addcmul_(second, sin_first)
    to_second.addcmul_(first, sin_second)
    return rotated


def _over_heads(table: Tensor) -> Tensor:
    return table[:, None, None]  # [N, head_dim] beside [B, N, 2, heads, head_dim]


def _pairs(x: Tensor) -> tuple[Tensor, Tensor]:
    """Views of the first and of the second channel of each pair, in the row's and the column's half alike."""
    halves = torch.unflatten(x, -1, (2, 2, -1))
    return halves[..., 0, :], halves[..., 1, :]


def _affine_gradients(
    gradient: Tensor, both: Tensor, mean: Tensor, rstd: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Gradients of the normalisations' weights and biases: queries' weight and bias, then keys'."""
    if not any(needed):
        return None, None, None, None
    normalised = (both - mean) * rstd
    found: list[Tensor | None] = []
    for index in range(2):
        own = gradient[:, :, index].float()
        weight = (own * normalised[:, :, index]).sum((0, 1, 2)) if needed[2 * index] else None
        found += [weight, own.sum((0, 1, 2)) if needed[2 * index + 1] else None]
    return tuple(found)
