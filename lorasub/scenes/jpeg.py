"""What JPEG compression does to images, as tensor operations that run batched on any device.

No file is written: images go through the lossy steps of baseline JPEG (ITU-T T.81) with halved chroma and are decoded
again. A Huffman coder would lose nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# Tables K.1 and K.2 of the standard.
_LUMINANCE = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMINANCE = torch.full((8, 8), 99)
_CHROMINANCE[:4, :4] = torch.tensor([[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]])
#: YCbCr from RGB (JFIF).
_TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """Images after compression.

    Args:
        images: ``[N, 3, H, W]`` sRGB in [0, 1].
        quality: ``[N]`` from 1 to 100, with the meaning of libjpeg's.

    Returns:
        As ``images``, in the 256 steps of an 8-bit image.
    """
    height, width = images.shape[-2:]
    padded = functional.pad(255.0 * images, (0, -width % 16, 0, -height % 16), mode="replicate")
    ycc = torch.einsum("cd,ndhw->nchw", _TO_YCC.to(images), padded)
    small = functional.avg_pool2d(ycc[:, 1:], 2)
    luminance = _blocks(ycc[:, :1] - 128.0, _table(_LUMINANCE, quality))[:, 0] + 128.0
    chroma = _blocks(small, _table(_CHROMINANCE, quality))
    chroma = functional.interpolate(chroma, scale_factor=2.0, mode="bilinear")
    decoded = torch.cat([luminance[:, None], chroma], dim=1)
    rgb = torch.einsum("cd,ndhw->nchw", torch.linalg.inv(_TO_YCC.double()).to(images), decoded)
    return rgb[..., :height, :width].round().clamp(0.0, 255.0) / 255.0


def _table(base: Tensor, quality: Tensor) -> Tensor:
    """``[N, 8, 8]`` steps of quantisation, scaled as libjpeg does."""
    quality = quality.float().clamp(1.0, 100.0)
    scale = torch.where(quality < 50.0, 5000.0 / quality, 200.0 - 2.0 * quality)
    return ((base.to(quality) * scale[:, None, None] + 50.0) / 100.0).floor().clamp(1.0, 255.0)


def _blocks(channels: Tensor, table: Tensor) -> Tensor:
    """Channels ``[N, C, H, W]`` after the cosine transform of each block of 8 x 8 was rounded to multiples."""
    number, many, height, width = channels.shape
    blocks = channels.reshape(number, many, height // 8, 8, width // 8, 8)
    transform = _cosines().to(channels)
    steps = table[:, None, None, :, None, :]
    found = torch.einsum("ui,ncyixj,vj->ncyuxv", transform, blocks, transform)
    rounded = (found / steps).round() * steps
    return torch.einsum("ui,ncyuxv,vj->ncyixj", transform, rounded, transform).reshape(channels.shape)


def _cosines() -> Tensor:
    """The orthonormal cosine transform of eight numbers."""
    place = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi * place[:, None] * (2.0 * place + 1.0) / 16.0) / 2.0
    matrix[0] /= math.sqrt(2.0)
    return matrix
