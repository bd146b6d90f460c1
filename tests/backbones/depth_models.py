"""A small Depth Anything of transformers with random weights."""

from __future__ import annotations

from typing import Any

import pytest

#: What every model's decoder is given.
NECK: dict[str, Any] = {"neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8}


def depth_anything(kind: str) -> Any:
    transformers = pytest.importorskip("transformers")
    encoder = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=encoder,
        reassemble_hidden_size=16,
        patch_size=14,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=20,
        **NECK,
    )
    return transformers.DepthAnythingForDepthEstimation(config).eval()
