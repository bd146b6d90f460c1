"""Rotary position embedding for tokens on a 2D grid (Su et al. 2021; per axis as in Heo et al. 2024).

Half of a head's channels carry the row, half the column. Within each half, channel i is paired with channel
i + head_dim / 4, and the pair is rotated by ``position * frequency ** (-i / (head_dim / 4))``.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Cosines and signed sines, each ``[N, head_dim]``: what a token's channel and its partner are multiplied by.
RotaryTable = tuple[Tensor, Tensor]


def grid_positions(height: int, width: int, num_special: int, device: torch.device | None = None) -> Tensor:
    """Row and column of each token of one view, ``[num_special + height * width, 2]``.

    Special tokens stand first, at (0, 0), where the rotation is the identity; patches count from 1.
    """
    rows = torch.arange(1, height + 1, device=device)
    columns = torch.arange(1, width + 1, device=device)
    patches = torch.stack((rows[:, None].expand(-1, width), columns.expand(height, -1)), dim=-1).flatten(0, 1)
    return torch.cat((patches.new_zeros(num_special, 2), patches))


def rotary_table(positions: Tensor, head_dim: int, frequency: float, dtype: torch.dtype = torch.float32) -> RotaryTable:
    """Cosines and sines for :func:`apply_rotary`; compute once, use in every block.

    Args:
        positions: ``[N, 2]``.
        head_dim: channels of one attention head, a multiple of 4.
        frequency: base frequency.
        dtype: precision of the angles; not below float32.
    """
    pairs = head_dim // 4
    exponents = torch.arange(pairs, device=positions.device, dtype=dtype) / pairs
    angles = positions[..., None].to(dtype) * frequency**-exponents  # [N, 2, pairs]
    cos, sin = angles.cos(), angles.sin()
    # first and second channel of a pair: (a, b) -> (a cos - b sin, b cos + a sin)
    return torch.stack((cos, cos), dim=-2).flatten(-3), torch.stack((-sin, sin), dim=-2).flatten(-3)


def apply_rotary(x: Tensor, table: RotaryTable) -> Tensor:
    """Rotate queries or keys ``[..., N, head_dim]`` by their tokens' positions; dtype and shape stay."""
    cos, signed_sin = table
    partners = torch.unflatten(x, -1, (2, 2, -1)).flip(-2).flatten(-3)
    return torch.addcmul(x * cos, partners, signed_sin).to(x.dtype)
