"""Small depth models of transformers with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

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


def dpt() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        is_hybrid=False,
        **NECK,
    )
    return transformers.DPTForDepthEstimation(config).eval()


def zoedepth() -> Any:
    transformers = pytest.importorskip("transformers")
    encoder = transformers.BeitConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        patch_size=16,
        use_relative_position_bias=True,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = transformers.ZoeDepthConfig(
        backbone_config=encoder,
        bottleneck_features=8,
        num_relative_features=8,
        bin_embedding_dim=8,
        num_attractors=[2, 2, 2, 1],
        bin_configurations=[{"n_bins": 4, "min_depth": 0.1, "max_depth": 10.0}],
        **NECK,
    )
    return shaken(transformers.ZoeDepthForDepthEstimation(config).eval())


def glpn() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.GLPNConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=8,
        max_depth=10,
    )
    return transformers.GLPNForDepthEstimation(config).eval()


def depth_pro(*, field_of_view: bool = True) -> Any:
    transformers = pytest.importorskip("transformers")
    encoder = {
        "model_type": "dinov2",
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = transformers.DepthProConfig(
        patch_size=32,
        fusion_hidden_size=8,
        intermediate_hook_ids=[2, 1],
        intermediate_feature_dims=[8, 8],
        scaled_images_feature_dims=[16, 16, 8],
        use_fov_model=field_of_view,
        image_model_config=dict(encoder),
        patch_model_config=dict(encoder),
        fov_model_config=dict(encoder),
    )
    model = transformers.DepthProForDepthEstimation(config).eval()
    if field_of_view:
        with torch.no_grad():
            model.fov_model.head.layers[-1].bias.fill_(50.0)
    return model


def shaken(model: Any) -> Any:
    """With weights so large that an image shows in the output."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


BUILDERS: dict[str, Callable[[], Any]] = {
    "depth_anything": lambda: depth_anything("metric"),
    "dpt": dpt,
    "zoedepth": zoedepth,
    "glpn": glpn,
    "depth_pro": depth_pro,
}
