"""Stands for the package ``vggt_omega``, whose licence keeps it out of here: its interface, not its network.

Module names, the output's keys, shapes and dtypes, the masked bias and the CUDA-only autocast are the package's. Where
the package itself can be imported, tests use that.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lorasub import VGGTOmega


class MaskedBiasLinear(nn.Linear):
    """Its bias counts only where the mask is one; the mask is NaN until a checkpoint is loaded."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__(dim, out)
        self.register_buffer("bias_mask", torch.full_like(self.bias, math.nan))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias * self.bias_mask)


class Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attn = nn.Module()
        self.attn.qkv = MaskedBiasLinear(dim, 3 * dim)
        self.attn.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attn.qkv(x).reshape(*x.shape[:-1], 3, self.attn.qkv.in_features).unsqueeze(1).unbind(-2)
        return x + self.attn.proj(nn.functional.scaled_dot_product_attention(q, k, v)[:, 0])


class PatchEncoder(nn.Module):
    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, dim, patch, patch)
        self.blocks = nn.ModuleList([Block(dim)])

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return x


class Aggregator(nn.Module):
    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.patch_embed = PatchEncoder(patch_size, embed_dim)
        self.camera_token = nn.Parameter(torch.randn(1, 2, 1, embed_dim))
        self.frame_blocks = nn.ModuleList(Block(embed_dim) for _ in range(2))
        self.inter_frame_blocks = nn.ModuleList(Block(embed_dim) for _ in range(2))
        self.inter_frame_attention_types = ["global", "register"]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        b, s = images.shape[:2]
        x = self.patch_embed(images.flatten(0, 1)).unflatten(0, (b, s))
        first, others = self.camera_token[:, :1], self.camera_token[:, 1:].expand(-1, s - 1, -1, -1)
        x = torch.cat((torch.cat((first, others), 1).expand(b, -1, -1, -1), x), 2)
        for frame, across in zip(self.frame_blocks, self.inter_frame_blocks, strict=True):
            x = frame(x.flatten(0, 1)).unflatten(0, (b, s))
            x = across(x.flatten(1, 2)).unflatten(1, (s, -1))
        return x[:, :, 0], x[:, :, 1:]


class StandIn(nn.Module):
    def __init__(
        self, patch_size: int = 16, embed_dim: int = 32, enable_camera: bool = True, enable_depth: bool = True
    ) -> None:
        super().__init__()
        self.aggregator = Aggregator(patch_size, embed_dim)
        self.camera_head = nn.Sequential(nn.Linear(embed_dim, 9)) if enable_camera else None
        self.dense_head = nn.Sequential(nn.Linear(embed_dim, 2 * patch_size**2)) if enable_depth else None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        with torch.autocast(device_type="cuda", dtype=torch.bfloat16):
            cameras, patches = self.aggregator(images)
        predictions = {"camera_and_register_tokens": cameras[:, :, None]}
        with torch.autocast(device_type="cuda", enabled=False):
            if self.camera_head is not None:
                raw = self.camera_head(cameras).tanh()
                predictions["pose_enc"] = torch.cat((raw[..., :7], raw[..., 7:].relu() + 0.01), dim=-1)
            if self.dense_head is not None:
                b, s, _, height, width = images.shape
                size = self.aggregator.patch_size
                maps = self.dense_head(patches).reshape(b * s, height // size, width // size, -1).permute(0, 3, 1, 2)
                depth, confidence = nn.functional.pixel_shuffle(maps, size).tanh().exp().unflatten(0, (b, s)).unbind(2)
                if depth.dtype != torch.float32:
                    raise TypeError("outputs must be fp32")
                predictions |= {"depth": depth[..., None], "depth_conf": 1 + confidence}
        return predictions if self.training else predictions | {"images": images}


#: Asked before a stand-in is put in its place.
PACKAGE_IS_THERE = importlib.util.find_spec("vggt_omega") is not None


def install_stand_in(patch: pytest.MonkeyPatch) -> None:
    """Make ``import vggt_omega.models`` give the stand-in, if the package is not there."""
    if PACKAGE_IS_THERE:
        return
    models = ModuleType("vggt_omega.models")
    models.VGGTOmega = StandIn  # type: ignore[attr-defined]
    package = ModuleType("vggt_omega")
    package.models = models  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "vggt_omega", package)
    patch.setitem(sys.modules, "vggt_omega.models", models)


def plain_omega() -> Any:
    """The package's model at a small size, or the stand-in; random weights, masks as a checkpoint has them."""
    from vggt_omega.models import VGGTOmega as Model

    model = Model(embed_dim=64) if PACKAGE_IS_THERE else Model()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("bias_mask"):
                query, key, value = buffer.view(3, -1)
                query.fill_(1), key.fill_(0), value.fill_(1)
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):  # LayerScales so small that blocks say nothing
                parameter.fill_(0.3)
    return model.eval()


def omega() -> VGGTOmega:
    return VGGTOmega(plain_omega(), model_id="tiny-omega")
