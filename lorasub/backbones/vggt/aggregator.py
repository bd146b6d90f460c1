"""The aggregator: attention within each view and across all views, in turn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lorasub.backbones.token_cache import TokenCache, encode_views
from lorasub.backbones.vggt.blocks import Block, run_block
from lorasub.backbones.vggt.config import VGGTConfig
from lorasub.backbones.vggt.encoder import ImageEncoder
from lorasub.backbones.vggt.rope import RotaryTable, grid_positions, rotary_table
from lorasub.precision import compute_dtype

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Aggregator(nn.Module):
    """Image encoder followed by pairs of frame and global attention.

    A view's tokens are one camera token, the registers and the patches. The first view has camera and register tokens
    of its own, all others share theirs: so the model knows whose frame is the world, and is otherwise indifferent to
    the order of the views.

    Args:
        config: the architecture.
        taps: indices of the pairs whose output is kept and returned. Everything else is let go, so that memory does
            not grow with the depth (without gradients).

    Attributes:
        token_cache: where a frozen encoder's tokens are looked up and kept; None for nowhere.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: VGGTConfig, taps: tuple[int, ...]) -> None:
        super().__init__()
        dim = config.embed_dim
        self.taps = frozenset(taps)
        self.patch_size = config.patch_size
        self.head_dim = dim // config.num_heads
        self.rope_frequency = config.rope_frequency
        self.num_special_tokens = config.num_special_tokens
        self.patch_embed = ImageEncoder(config)
        # second axis: 0 for the first view, 1 for all others
        self.camera_token = nn.Parameter(torch.empty(1, 2, 1, dim))
        self.register_token = nn.Parameter(torch.empty(1, 2, config.num_registers, dim))
        self.frame_blocks = nn.ModuleList(self._block(config) for _ in range(config.num_pairs))
        self.global_blocks = nn.ModuleList(self._block(config) for _ in range(config.num_pairs))
        nn.init.normal_(self.camera_token, std=1e-6)
        nn.init.normal_(self.register_token, std=1e-6)
        self.token_cache: TokenCache | None = None
        self.reset_buffers()

    @staticmethod
    def _block(config: VGGTConfig) -> Block:
        return Block(config.embed_dim, config.num_heads, config.mlp_ratio, layer_scale=0.01, qk_norm=True)

    def reset_buffers(self) -> None:
        """Make the constants that no file holds; needed again after a construction on the meta device."""
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor, *, checkpointing: bool = False) -> tuple[Tensor, ...]:
        """Encode and aggregate.

        Args:
            images: ``[B, S, 3, H, W]`` in [0, 1].
            checkpointing: recompute each block's activations in the backward pass.

        Returns:
            One ``[B, S, P, 2 C]`` per tap: for each of the P tokens of a view (camera, registers, patches) the output
            of the frame block beside that of the global block.
        """
        grid = (images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size)
        return self.aggregate(self.encode(images, checkpointing=checkpointing), grid, checkpointing=checkpointing)

    @property
    def encoder_trains(self) -> bool:
        """Whether any parameter of the encoder, or of adapters in it, requires gradients."""
        return any(parameter.requires_grad for parameter in self.patch_embed.parameters())

    def encode(self, images: Tensor, *, checkpointing: bool = False) -> Tensor:
        """Patch tokens ``[B, S, h * w, C]`` of images ``[B, S, 3, H, W]``.

        An encoder that is frozen as a whole runs without recording gradients, and only on images that are not in the
        :attr:`token_cache`, if there is one.
        """

        def encoded(views: Tensor) -> Tensor:
            normalised = ((views - self.mean) / self.std).to(self.camera_token.dtype)
            return self.patch_embed(normalised, checkpointing=checkpointing)  # type: ignore[no-any-return]

        return encode_views(
            images, encoded, trains=self.encoder_trains, cache=self.token_cache, dtype=self.camera_token.dtype
        )

    def aggregate(self, patches: Tensor, grid: tuple[int, int], *, checkpointing: bool = False) -> tuple[Tensor, ...]:
        """The taps, from patch tokens ``[B, S, h * w, C]`` on a grid (h, w). See :meth:`forward`."""
        b, s = patches.shape[:2]
        tokens = torch.cat((self._special_tokens(b, s), patches), dim=2)
        frame_rope, global_rope = self._rotary_tables(tokens, grid)
        kept = []
        for index, (frame_block, global_block) in enumerate(zip(self.frame_blocks, self.global_blocks, strict=True)):
            within = run_block(frame_block, tokens.flatten(0, 1), frame_rope, checkpointing=checkpointing)
            within = torch.unflatten(within, 0, (b, s))
            tokens = run_block(global_block, within.flatten(1, 2), global_rope, checkpointing=checkpointing)
            tokens = torch.unflatten(tokens, 1, (s, -1))
            if index in self.taps:
                kept.append(torch.cat((within, tokens), dim=-1))
        return tuple(kept)

    def _special_tokens(self, b: int, s: int) -> Tensor:
        """Camera and register tokens of every view, ``[B, S, 1 + registers, C]``."""
        both = torch.cat((self.camera_token, self.register_token), dim=2)
        return torch.cat((both[:, :1], both[:, 1:].expand(-1, s - 1, -1, -1)), dim=1).expand(b, -1, -1, -1)

    def _rotary_tables(self, tokens: Tensor, grid: tuple[int, int]) -> tuple[RotaryTable, RotaryTable]:
        """For the tokens of one view, and for those of all S views in a row."""
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        positions = grid_positions(*grid, self.num_special_tokens, device=tokens.device)
        table = rotary_table(positions, self.head_dim, self.rope_frequency, dtype)
        cos, sin = (half.to(compute_dtype(tokens)) for half in table)  # once here instead of in every block
        s = tokens.shape[1]
        return (cos, sin), (cos.repeat(s, 1), sin.repeat(s, 1))
