"""The transformer of Depth Anything 3: DINOv2's, whose later blocks attend within and across views in turn.

Attribute names are those of the published checkpoints, so that tensors load by their own names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lorasub.backbones.depth_anything3.config import DepthAnything3Config
from lorasub.backbones.token_cache import TokenCache, encode_views
from lorasub.backbones.vggt.aggregator import IMAGENET_MEAN, IMAGENET_STD
from lorasub.backbones.vggt.blocks import Block, run_block
from lorasub.backbones.vggt.encoder import PatchEmbedding
from lorasub.backbones.vggt.rope import RotaryTable, grid_positions, rotary_table
from lorasub.precision import compute_dtype

#: Added to a grid's sides where the stored position embedding is resized to it, as DINOv2 does.
_OFFSET = 0.1


class MultiViewTransformer(nn.Module):
    """Blocks over the tokens of one view, then blocks over one view and over all views in turn.

    A view's tokens are one token of the view and its patches. Where alternation begins, the view's token is replaced by
    a camera token: one for the first view, whose frame becomes the world, and one for all others.

    Args:
        config: the architecture.

    Attributes:
        token_cache: where the tokens at the beginning of alternation are looked up and kept; None for nowhere.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: DepthAnything3Config) -> None:
        super().__init__()
        dim, grid = config.embed_dim, config.image_size // config.patch_size
        self.config = config
        self.grid = grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.camera_token = nn.Parameter(torch.randn(1, 2, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, dim))
        self.patch_embed = PatchEmbedding(config.patch_size, dim)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                config.num_heads,
                config.mlp_ratio,
                layer_scale=1.0,
                qk_norm=index >= config.alternate_from,
                norm_eps=1e-6,
                gated=config.gated,
            )
            for index in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.token_cache: TokenCache | None = None
        self.reset_buffers()

    def reset_buffers(self) -> None:
        """Make the constants that no file holds; needed again after a construction on the meta device."""
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def encoder_parameters(self) -> dict[str, Tensor]:
        """Parameters that the tokens at the beginning of alternation depend on, those of adapters included."""
        own: dict[str, Tensor] = {"cls_token": self.cls_token, "pos_embed": self.pos_embed}
        parts: dict[str, nn.Module] = {"patch_embed": self.patch_embed}
        parts |= {f"blocks.{index}": block for index, block in enumerate(self._encoder_blocks())}
        return own | {f"{path}.{name}": p for path, part in parts.items() for name, p in part.named_parameters()}

    @property
    def encoder_trains(self) -> bool:
        """Whether any of them requires gradients."""
        return any(parameter.requires_grad for parameter in self.encoder_parameters().values())

    def forward(self, images: Tensor, *, checkpointing: bool = False) -> tuple[tuple[Tensor, ...], Tensor]:
        """Encode and alternate.

        Args:
            images: ``[B, S, 3, H, W]`` in [0, 1].
            checkpointing: recompute each block's activations in the backward pass.

        Returns:
            One ``[B, S, h * w, 2 C]`` per tap: for each patch the output of the last block within its view beside that
            of the tapped block, normalised. And ``[B, S, 2 C]``, the same of the camera token at the last tap, not
            normalised.
        """
        grid = (images.shape[-2] // self.config.patch_size, images.shape[-1] // self.config.patch_size)
        return self.alternate(self.encode(images, checkpointing=checkpointing), grid, checkpointing=checkpointing)

    def encode(self, images: Tensor, *, checkpointing: bool = False) -> Tensor:
        """Tokens ``[B, S, 1 + h * w, C]`` of each view on its own; cached where a cache is attached."""
        dtype = self.cls_token.dtype

        def encoded(views: Tensor) -> Tensor:
            patches = self.patch_embed(((views - self.mean) / self.std).to(dtype))
            height, width = views.shape[-2] // self.config.patch_size, views.shape[-1] // self.config.patch_size
            x = torch.cat((self.cls_token.expand(len(views), -1, -1), patches), dim=1)
            x = x + self.position_embedding(height, width)
            for block in self._encoder_blocks():
                x = run_block(block, x, checkpointing=checkpointing)
            return x

        return encode_views(images, encoded, trains=self.encoder_trains, cache=self.token_cache, dtype=dtype)

    def alternate(
        self, tokens: Tensor, grid: tuple[int, int], *, checkpointing: bool = False
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """The taps, from the tokens of views on a grid (h, w). See :meth:`forward`."""
        b, s = tokens.shape[:2]
        within_rope, across_rope = self._rotary_tables(tokens, grid)
        first, others = self.camera_token[:, :1], self.camera_token[:, 1:].expand(-1, s - 1, -1)
        cameras = torch.cat((first, others), dim=1).expand(b, -1, -1).to(tokens.dtype)
        x = torch.cat((cameras[:, :, None], tokens[:, :, 1:]), dim=2)
        within, taps, camera = x, [], x[:, :, 0]
        for index in range(self.config.alternate_from, self.config.depth):
            if self.config.attends_globally(index):
                x = run_block(self.blocks[index], x.flatten(1, 2), across_rope, checkpointing=checkpointing)
                x = torch.unflatten(x, 1, (s, -1))
            else:
                x = run_block(self.blocks[index], x.flatten(0, 1), within_rope, checkpointing=checkpointing)
                within = x = torch.unflatten(x, 0, (b, s))
            if index in self.config.taps:
                taps.append(torch.cat((within[:, :, 1:], self.norm(x[:, :, 1:])), dim=-1))
                camera = torch.cat((within[:, :, 0], x[:, :, 0]), dim=-1)
        return tuple(taps), camera

    def position_embedding(self, height: int, width: int) -> Tensor:
        """Embedding of the view's token and of an h x w grid of patches, ``[1, 1 + h * w, C]``.

        Other grids than the stored one are interpolated bicubically, by a factor that is a little too large: so the
        published weights were trained.
        """
        if (height, width) == (self.grid, self.grid):
            return self.pos_embed
        stored = self.pos_embed.to(torch.promote_types(self.pos_embed.dtype, torch.float32))
        grid = torch.unflatten(stored[:, 1:], 1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        factors = ((height + _OFFSET) / self.grid, (width + _OFFSET) / self.grid)
        grid = nn.functional.interpolate(grid, scale_factor=factors, mode="bicubic")
        return torch.cat((stored[:, :1], grid.flatten(2).transpose(1, 2)), dim=1).to(self.pos_embed.dtype)

    def _encoder_blocks(self) -> list[nn.Module]:
        return list(self.blocks)[: self.config.alternate_from]

    def _rotary_tables(self, tokens: Tensor, grid: tuple[int, int]) -> tuple[RotaryTable, RotaryTable]:
        """For blocks within a view, and for blocks across views, where all patches have the same position."""
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        positions = grid_positions(*grid, 1, device=tokens.device)
        head_dim = self.config.embed_dim // self.config.num_heads
        tables = []
        for where in (positions, positions.clamp(max=1)):
            table = rotary_table(where, head_dim, self.config.rope_frequency, dtype)
            tables.append(tuple(half.to(compute_dtype(tokens)) for half in table))
        (cos, sin), (cos_across, sin_across) = tables
        s = tokens.shape[1]
        return (cos, sin), (cos_across.repeat(s, 1), sin_across.repeat(s, 1))
