"""Colours: linear light to sRGB and back (IEC 61966-2-1), the renderer's tone curve, HSV, and black bodies."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lorasub.scenes.streams import Array


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


def hsv_to_linear_rgb(hue: Array, saturation: Array, value: Array) -> Array:
    """``[..., 3]`` linear RGB of sRGB colours given as hue (in turns, any), saturation and value."""
    # the usual six-sector formula in closed form, https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
    sector = (np.array([5.0, 3.0, 1.0]) + 6.0 * (hue % 1.0)[..., None]) % 6.0
    ramp = np.clip(np.minimum(sector, 4.0 - sector), 0.0, 1.0)
    encoded = value[..., None] * (1.0 - saturation[..., None] * ramp)
    linear: Array = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return linear


def blackbody_rgb(temperature: Array) -> Array:
    """``[..., 3]`` linear RGB with luminance 1 of a black body at the given temperatures, 1700 to 25000 kelvin.

    Chromaticity by the cubic of Kim et al. (US patent 7024034), then CIE xyY to linear sRGB.
    """
    t = 1e3 / np.clip(temperature, 1700.0, 25000.0)
    x = np.where(
        t > 0.25,
        ((-0.2661239 * t - 0.2343589) * t + 0.8776956) * t + 0.179910,
        ((-3.0258469 * t + 2.1070379) * t + 0.2226347) * t + 0.240390,
    )
    y = np.where(
        t > 1e3 / 2222.0,
        ((-1.1063814 * x - 1.34811020) * x + 2.18555832) * x - 0.20219683,
        np.where(
            t > 0.25,
            ((-0.9549476 * x - 1.37418593) * x + 2.09137015) * x - 0.16748867,
            ((3.0817580 * x - 5.87338670) * x + 3.75112997) * x - 0.37001483,
        ),
    )
    xyz = np.stack([x / y, np.ones_like(x), (1.0 - x - y) / y], axis=-1)
    to_rgb = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    rgb: Array = np.maximum(xyz @ to_rgb.T, 0.0)
    return rgb
