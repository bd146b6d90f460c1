"""Backbones by name, on the meta device: every size that ``memory`` and ``launches`` count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lorasub import VGGT, Backbone, DepthAnything3, TransformersDepth, VGGTOmega
from lorasub.backbones.depth_anything3.config import PRESETS as DEPTH_ANYTHING_3
from lorasub.backbones.vggt.presets import PRESETS as VGGT_PRESETS
from lorasub.backbones.vggt_omega import PRESETS as OMEGA


def depth_anything_v2_large() -> Backbone:
    """Depth Anything V2 Large of ``transformers``, from its published settings."""
    import transformers

    encoder = transformers.Dinov2Config(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=518,
        patch_size=14,
        out_indices=[5, 12, 18, 24],
        reshape_hidden_states=False,
    )
    config: Any = transformers.DepthAnythingConfig(
        backbone_config=encoder,
        reassemble_hidden_size=1024,
        neck_hidden_sizes=[256, 512, 1024, 1024],
        fusion_hidden_size=256,
    )
    return TransformersDepth(transformers.DepthAnythingForDepthEstimation(config), model_id="depth-anything-v2-large")


MODELS: dict[str, Callable[[], Backbone]] = {
    **{name: lambda name=name: VGGT.from_preset(name, heads=("camera", "depth")) for name in VGGT_PRESETS},
    **{name: lambda name=name: DepthAnything3.from_preset(name) for name in DEPTH_ANYTHING_3},
    **{name: lambda name=name: VGGTOmega.from_preset(name) for name in OMEGA},
    "depth-anything-v2-large": depth_anything_v2_large,
}


def on_meta(name: str) -> Backbone:
    """The backbone of that name without weights; with camera and depth head, where it has them.

    Args:
        name: of :data:`MODELS`. VGGT-Omega needs its package, and is counted in float32: its own autocast is CUDA's.
    """
    with torch.device("meta"):
        return MODELS[name]()
