"""The transformer block that encoder, aggregator and camera head share.

Attribute names are those of the published checkpoints (DINOv2's), so that tensors load by their own names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lorasub.backbones.vggt.fused import LayerNorm, add_scaled, rotated_queries_keys
from lorasub.backbones.vggt.rope import RotaryTable, apply_rotary


class LayerScale(nn.Module):
    """Adds a branch to the residual stream, each channel times a learnt factor (Touvron et al. 2021)."""

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """``x + gamma * branch``, both ``[..., dim]``; as ``x``."""
        return add_scaled(x, branch, self.gamma)


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., dim]`` to ``[..., out]``."""
        return self.fc2(nn.functional.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class GatedMlp(nn.Module):
    """Linear, SiLU of one half times the other, Linear (SwiGLU, Shazeer 2020), with DINOv2's names and widths.

    Args:
        dim: channels.
        hidden: of the MLP that it stands for; two thirds of it, rounded up to a multiple of 8, are used.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        hidden = (int(hidden * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., dim]`` to the same."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(nn.functional.silu(gate) * value)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head self-attention with one Linear for query, key and value.

    Args:
        dim: channels.
        num_heads: heads, a divisor of ``dim``.
        qk_norm: normalise queries and keys per head (Dehghani et al. 2023).
    """

    def __init__(self, dim: int, num_heads: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(dim // num_heads) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(dim // num_heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rope: RotaryTable | None = None) -> Tensor:
        """``[B, N, dim]`` to the same; every token attends to all N."""
        attended = nn.functional.scaled_dot_product_attention(*self.queries_keys_values(x, rope))
        return self.proj(attended.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def queries_keys_values(self, x: Tensor, rope: RotaryTable | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of attention, ``[B, heads, N, dim / heads]`` each, normalised and rotated."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # [B, N, 3, heads, head_dim]
        if rope is not None and isinstance(self.q_norm, nn.LayerNorm) and isinstance(self.k_norm, nn.LayerNorm):
            return rotated_queries_keys(qkv, self.q_norm, self.k_norm, rope)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = apply_rotary(q, rope), apply_rotary(k, rope)
        return q, k, v


class Block(nn.Module):
    """Pre-norm transformer block with LayerScale.

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: hidden channels of the MLP over ``dim``.
        layer_scale: initial value of both LayerScales.
        qk_norm: see :class:`Attention`.
        norm_eps: epsilon of the two LayerNorms.
        gated: the MLP is a :class:`GatedMlp`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        *,
        layer_scale: float,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, qk_norm=qk_norm)
        self.ls1 = LayerScale(dim, layer_scale)
        self.norm2 = LayerNorm(dim, eps=norm_eps)
        hidden = int(dim * mlp_ratio)
        self.mlp = GatedMlp(dim, hidden) if gated else Mlp(dim, hidden, dim)
        self.ls2 = LayerScale(dim, layer_scale)

    def forward(self, x: Tensor, rope: RotaryTable | None = None) -> Tensor:
        """``[B, N, dim]`` to the same."""
        x = self.ls1(x, self.attn(self.norm1(x), rope))
        return self.ls2(x, self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


def run_block(block: nn.Module, x: Tensor, rope: RotaryTable | None = None, *, checkpointing: bool) -> Tensor:
    """Call ``block(x, rope)``; with ``checkpointing``, recompute its activations in the backward pass."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(block, x, rope, use_reentrant=False)  # type: ignore[no-any-return]
    return block(x, rope)  # type: ignore[no-any-return]
