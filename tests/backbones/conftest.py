"""A VGGT that is small enough to run often."""

from __future__ import annotations

import pytest
import torch

from lorasub import VGGT, VGGTConfig


@pytest.fixture
def tiny_config() -> VGGTConfig:
    return VGGTConfig(
        image_size=28,
        patch_size=7,
        embed_dim=32,
        num_heads=2,
        encoder_depth=2,
        num_pairs=5,
        taps=(0, 1, 3, 4),
        camera_heads=4,
        camera_depth=1,
        camera_iterations=3,
        dense_features=16,
        dense_channels=(8, 8, 12, 12),
    )


@pytest.fixture
def tiny(tiny_config: VGGTConfig) -> VGGT:
    """Random weights, shaken so that nothing is near its initial value: no LayerScale or token hides an error."""
    model = VGGT(tiny_config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.5)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    """Two scenes of four views, not square, and not of the size that the position embedding is stored for."""
    return torch.rand(2, 4, 3, 21, 35)
