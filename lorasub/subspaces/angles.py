"""Principal angles between subspaces, and the measures that follow from them."""

from __future__ import annotations

import torch
from torch import Tensor

#: Measures of :func:`overlap_measures`.
ANGLE_MEASURES = ("distance", "phi", "grassmann")


def principal_angles(first: Tensor, second: Tensor) -> Tensor:
    """Principal angles between two spans.

    From the cosines, the singular values of ``first.T @ second``; where an angle is so small that its cosine cannot
    tell it from zero, from the sines, the singular values of what the wider span leaves of the narrower one
    (Bjorck and Golub 1973; Knyazev and Argentati 2002).

    Args:
        first: ``(..., n, d1)`` orthonormal columns, float64.
        second: ``(..., n, d2)`` orthonormal columns, float64.

    Returns:
        ``(..., min(d1, d2))`` radians in [0, pi / 2], ascending.
    """
    wide, narrow = (first, second) if first.shape[-1] >= second.shape[-1] else (second, first)
    cross = wide.mT @ narrow
    cosines = torch.linalg.svdvals(cross).clamp(max=1)
    angles = torch.acos(cosines)
    small = cosines.square() >= 0.5
    if not small.any():
        return angles
    sines = torch.linalg.svdvals(narrow - wide @ cross).clamp(max=1).flip(-1)
    return torch.where(small, torch.asin(sines), angles)


def overlap_measures(angles: Tensor) -> dict[str, Tensor]:
    """Measures of overlap from principal angles.

    - ``distance``: 1 - cos(theta_1), 0 for a shared direction, 1 for orthogonal subspaces. This is the paper's
      min ||S x - S' x'||^2 / (||S x||^2 + ||S' x'||^2), the smallest generalised eigenvalue;
    - ``phi``: mean squared cosine, 1 where one subspace contains the other (Hu et al. 2021, section 7.2);
    - ``grassmann``: the geodesic distance sqrt(sum theta^2).

    Args:
        angles: ``(..., m)`` radians, ascending.

    Returns:
        The measures by name, each ``(...)``.
    """
    return {
        # 1 - cos(theta) without cancellation
        "distance": 2 * torch.sin(angles[..., 0] / 2).square(),
        "phi": torch.cos(angles).square().mean(-1),
        "grassmann": torch.linalg.vector_norm(angles, dim=-1),
    }
