"""The camera head: iterative refinement of each view's pose encoding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lorasub.backbones.vggt.blocks import Block, Mlp, run_block
from lorasub.backbones.vggt.config import VGGTConfig

#: Translation (3), quaternion xyzw (4), vertical and horizontal field of view (2).
POSE_DIM = 9


class CameraHead(nn.Module):
    """Predicts pose encodings from the camera tokens of the last tap.

    Each iteration embeds the current estimate, lets it modulate the tokens (adaptive LayerNorm, Peebles & Xie 2023),
    runs a small transformer over the views, and adds what comes out to the estimate. An iteration's estimate enters
    the next without gradient, so that each is trained by its own loss term only.

    Args:
        config: ``embed_dim``, ``camera_depth``, ``camera_heads``, ``camera_iterations``, ``mlp_ratio``.
    """

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        dim = 2 * config.embed_dim
        self.iterations = config.camera_iterations
        self.trunk = nn.ModuleList(
            Block(dim, config.camera_heads, config.mlp_ratio, layer_scale=0.01) for _ in range(config.camera_depth)
        )
        self.token_norm = nn.LayerNorm(dim)
        self.trunk_norm = nn.LayerNorm(dim)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_DIM))
        self.embed_pose = nn.Linear(POSE_DIM, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.adaln_norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.pose_branch = Mlp(dim, dim // 2, POSE_DIM)

    def forward(self, tokens: Tensor, *, checkpointing: bool = False) -> tuple[Tensor, ...]:
        """Refine poses.

        Args:
            tokens: ``[B, S, 2 C]`` camera tokens. They are cast to the dtype of the head's own weights.
            checkpointing: recompute activations in the backward pass.

        Returns:
            One ``[B, S, 9]`` per iteration; translation, quaternion (not normalised), fields of view in radians, which
            are not negative.
        """
        tokens = self.token_norm(tokens.to(self.token_norm.weight.dtype))
        normalised = self.adaln_norm(tokens)
        estimate: Tensor | None = None
        answers = []
        for _ in range(self.iterations):
            if estimate is None:
                condition = self.empty_pose_tokens.expand(*tokens.shape[:2], -1)
            else:
                condition = estimate = estimate.detach()
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(condition)).chunk(3, dim=-1)
            x = tokens + gate * (normalised * (1 + scale) + shift)
            for block in self.trunk:
                x = run_block(block, x, checkpointing=checkpointing)
            change = self.pose_branch(self.trunk_norm(x))
            estimate = change if estimate is None else estimate + change
            # the running estimate keeps its sign: only what is answered passes through the ReLU
            answers.append(torch.cat((estimate[..., :7], nn.functional.relu(estimate[..., 7:])), dim=-1))
        return tuple(answers)
