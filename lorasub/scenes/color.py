"""Linear light to sRGB and back (IEC 61966-2-1), and the renderer's tone curve."""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_to_linear(encoded: Tensor) -> Tensor:
    """Linear light of sRGB values in [0, 1]."""
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055).clamp(min=0.0).pow(2.4))


def linear_to_srgb(linear: Tensor) -> Tensor:
    """Encode linear light in [0, 1] as sRGB."""
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=1e-6).pow(1.0 / 2.4) - 0.055)


def tone_curve_(linear: Tensor) -> Tensor:
    """Linear light to sRGB in [0, 1], in place: a soft shoulder, then the sRGB transfer function (IEC 61966-2-1).

    Args:
        linear: of any shape, contiguous.
    """
    # small enough to stay in the processor's cache from one operation to the next
    for part in torch.split(linear.view(-1), 1 << 18 if linear.device.type == "cpu" else max(linear.numel(), 1)):
        soft = part.neg_().exp_().neg_().add_(1.0)
        dark, straight = soft <= 0.0031308, 12.92 * soft
        soft.clamp_(min=1e-6).log_().mul_(1.0 / 2.4).exp_().mul_(1.055).sub_(0.055)
        torch.where(dark, straight, soft, out=soft)
    return linear
