"""Random brightness, contrast and saturation, on the device where the images are."""

from __future__ import annotations

import torch
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
)
from torch import Tensor


def jitter_colors(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply brightness, contrast (about the mean grey) and saturation of each view.

    Args:
        images: ``[B, S, 3, H, W]`` in [0, 1].
        factors: ``[B, S, 3]``, one for each of the three.

    Returns:
        As ``images``, clamped to [0, 1].
    """
    brightness, contrast, saturation = factors.to(images).flatten(0, 1).unbind(-1)
    flat = adjust_brightness_accumulative(images.flatten(0, 1), brightness)
    flat = adjust_contrast_with_mean_subtraction(flat, contrast)
    flat = adjust_saturation_with_gray_subtraction(flat, saturation)
    return torch.unflatten(flat.clamp(0, 1), 0, images.shape[:2])
