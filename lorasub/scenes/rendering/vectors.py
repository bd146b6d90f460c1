"""Vectors that lead with their three components, ``[3, ...]``: a component is a contiguous block.

Products are written out, not left to batched matrix products, so that a compiler can fuse them into their neighbours.
In the innermost loops, over rays times solids, the components are separate tensors: only loops over the same index
space are fused, and [3, ...] is another one.
"""

from __future__ import annotations

import torch
from torch import Tensor

Components = tuple[Tensor, Tensor, Tensor]


def rotate_rows(matrix: Tensor, vector: Tensor) -> Components:
    """``matrix [3, 3, ...] @ vector [3, ...]``, component by component."""
    x, y, z = vector.unbind(0)

    def row(index: int) -> Tensor:
        return matrix[index, 0] * x + matrix[index, 1] * y + matrix[index, 2] * z

    return row(0), row(1), row(2)


def rotate(matrix: Tensor, vector: Tensor) -> Tensor:
    """``matrix [3, 3, ...] @ vector [3, ...]``."""
    return matrix[:, 0] * vector[0] + matrix[:, 1] * vector[1] + matrix[:, 2] * vector[2]


def rotate_back(matrix: Tensor, vector: Tensor) -> Tensor:
    """``matrix.T [3, 3, ...] @ vector [3, ...]``."""
    return matrix[0] * vector[0] + matrix[1] * vector[1] + matrix[2] * vector[2]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Dot product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def normalize(vector: Tensor) -> Tensor:
    """The vector with unit length."""
    return vector * torch.rsqrt(dot(vector, vector).clamp(min=1e-20))


def reflect(direction: Tensor, normal: Tensor) -> Tensor:
    """The direction mirrored at a surface with this unit normal."""
    return direction - 2.0 * dot(direction, normal) * normal


def refract(direction: Tensor, normal: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The direction after entering another medium, by Snell's law, and whether there is one.

    Args:
        direction: ``[3, ...]`` unit, toward the surface.
        normal: ``[3, ...]`` unit, against the direction.
        ratio: ``[...]`` refractive index left over refractive index entered.

    Returns:
        The unit direction ``[3, ...]``, and ``[...]`` false where all light is reflected instead.
    """
    cosine = -dot(direction, normal)
    square = 1.0 - ratio * ratio * (1.0 - cosine * cosine)
    bent = ratio * direction + (ratio * cosine - square.clamp(min=0.0).sqrt()) * normal
    return bent, square > 0.0


def fresnel(cosine: Tensor, ratio: Tensor, passes: Tensor) -> Tensor:
    """Share of unpolarised light that a clear surface reflects (Fresnel's equations).

    Args:
        cosine: of the angle of incidence.
        ratio: refractive index left over refractive index entered.
        passes: whether there is a refracted ray at all.
    """
    inner = (1.0 - ratio * ratio * (1.0 - cosine * cosine)).clamp(min=0.0).sqrt()
    across = (ratio * cosine - inner) / (ratio * cosine + inner)
    along = (cosine - ratio * inner) / (cosine + ratio * inner)
    return torch.where(passes, 0.5 * (across * across + along * along), torch.ones_like(cosine))
