"""A start for training a VGGT from nothing. The architecture's own suits blocks around a pre-trained DINOv2.

Two things in it are too small where nothing is trained yet. LayerScales of 0.01 let a block say next to nothing, and
where its gradient is mostly noise they decay further: such blocks never wake up. And positions of standard deviation
0.02 are lost beside patches whose norm is forty times theirs: attention that has found a counterpart can then not fetch
where it is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lorasub.backbones.vggt.blocks import LayerScale
from lorasub.backbones.vggt.model import VGGT
from lorasub.errors import ConfigError


@torch.no_grad()
def raise_layer_scales(model: VGGT, least: float) -> None:
    """Raise every LayerScale's factors to at least this size; their signs stay.

    Args:
        model: changed in place.
        least: 0 changes nothing.
    """
    for module in model.modules():
        if isinstance(module, LayerScale):
            sign = torch.where(module.gamma < 0, -1.0, 1.0)
            module.gamma.copy_(sign * module.gamma.abs().clamp(min=least))


@torch.no_grad()
def add_positions(model: VGGT, norm: float) -> None:
    """Add sinusoidal positions to the encoder's position embedding, those of patches only.

    Args:
        model: changed in place.
        norm: mean length of what is added; that of a patch at the entrance of the encoder is some ten to fifty.

    Raises:
        ConfigError: the width is no multiple of 4.
    """
    embedding = model.aggregator.patch_embed.pos_embed
    grid, dim = model.aggregator.patch_embed.grid, embedding.shape[-1]
    positions = sinusoidal_positions(grid, dim).to(embedding)
    embedding[:, 1:] += norm / positions.norm(dim=-1).mean() * positions


def sinusoidal_positions(grid: int, dim: int) -> Tensor:
    """Sines and cosines of row and column, ``[grid * grid, dim]`` row by row, with mean 0 over the grid.

    Frequencies rise geometrically from half a period over the whole grid to half a period from one patch to the next.

    Args:
        grid: patches along a side.
        dim: a multiple of 4: half for the row, half for the column.

    Raises:
        ConfigError: it is not.
    """
    if dim % 4:
        raise ConfigError(f"sinusoidal positions need a width that is a multiple of 4, not {dim}")
    frequency = math.pi * torch.logspace(-math.log10(grid), 0.0, dim // 4)
    angle = torch.arange(grid)[:, None] * frequency
    line = torch.cat((angle.sin(), angle.cos()), dim=1)  # [grid, dim / 2]
    both = torch.cat((line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)), dim=-1).flatten(0, 1)
    return both - both.mean(0)
