"""The image encoder: DINOv2's vision transformer with registers (Oquab et al. 2023, Darcet et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lorasub.backbones.vggt.blocks import Block, run_block
from lorasub.backbones.vggt.config import VGGTConfig


class PatchEmbedding(nn.Module):
    """One token per patch, by a convolution whose stride is its kernel size."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """``[N, 3, H, W]`` to ``[N, h * w, dim]``, row by row."""
        return self.proj(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class ImageEncoder(nn.Module):
    """Turns each image into patch tokens, on its own.

    Args:
        config: ``embed_dim``, ``encoder_depth``, ``num_heads``, ``num_registers``, ``image_size`` and the like.
    """

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        dim, grid = config.embed_dim, config.image_size // config.patch_size
        self.grid = grid
        self.patch_size = config.patch_size
        self.patch_embed = PatchEmbedding(config.patch_size, dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + grid * grid, dim))
        self.register_tokens = nn.Parameter(torch.empty(1, config.num_registers, dim))
        # stands for masked patches in DINOv2's own pre-training; here for the checkpoint's sake, so never trained
        self.register_buffer("mask_token", torch.zeros(1, dim))
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, layer_scale=1.0, norm_eps=1e-6)
            for _ in range(config.encoder_depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial weights as DINOv2 does."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.normal_(self.register_tokens, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, *, checkpointing: bool = False) -> Tensor:
        """Encode images one by one.

        Args:
            images: ``[N, 3, H, W]``, normalised by ImageNet's mean and standard deviation.
            checkpointing: recompute activations in the backward pass.

        Returns:
            Normalised patch tokens ``[N, h * w, C]`` with h = H / patch size, w = W / patch size.
        """
        height, width = images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size
        position = self.position_embedding(height, width)
        patches = self.patch_embed(images) + position[:, 1:]
        first = (self.cls_token + position[:, :1]).expand(len(images), -1, -1)
        registers = self.register_tokens.expand(len(images), -1, -1)  # registers have no position
        x = torch.cat((first, registers, patches), dim=1)
        for block in self.blocks:
            x = run_block(block, x, checkpointing=checkpointing)
        # the norm acts on each token alone, so the others need not pass through it
        return self.norm(x[:, 1 + registers.shape[1] :])  # type: ignore[no-any-return]

    def position_embedding(self, height: int, width: int) -> Tensor:
        """Embedding of the class token and of an h x w grid of patches, ``[1, 1 + h * w, C]``.

        Other grids than the stored one are interpolated, bicubically and antialiased.
        """
        if (height, width) == (self.grid, self.grid):
            return self.pos_embed
        stored = self.pos_embed.to(torch.promote_types(self.pos_embed.dtype, torch.float32))
        grid = torch.unflatten(stored[:, 1:], 1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        grid = nn.functional.interpolate(grid, size=(height, width), mode="bicubic", antialias=True)
        return torch.cat((stored[:, :1], grid.flatten(2).transpose(1, 2)), dim=1).to(self.pos_embed.dtype)
