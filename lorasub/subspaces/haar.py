"""Uniformly random (Haar) frames: what subspaces look like when nothing but chance made them.

A frame of width d in n dimensions is an (n, d) matrix with orthonormal columns. All that ever matters of several
independent frames is how they lie to each other, and that is drawn here without n rows: if G is (n, K) Gaussian,
G = Q R with R upper triangular, then Q is uniform and independent of R, the entries of R above the diagonal are
standard normal and its diagonal is chi-distributed with n, n - 1, ... degrees of freedom (Bartlett's decomposition of
the Wishart matrix G^T G). Orthonormalising the column blocks of R gives the frames in the coordinates of Q.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def haar_frames(n: int, widths: Sequence[int], rng: np.random.Generator, *, draws: int = 1) -> list[Tensor]:
    """Independent Haar frames in n dimensions, in common coordinates of as few rows as are exact.

    Args:
        n: ambient dimension.
        widths: columns of each frame, each at most n.
        rng: source of randomness.
        draws: number of independent repetitions.

    Returns:
        One float64 tensor ``(draws, min(n, sum(widths)), width)`` per width.
    """
    total = sum(widths)
    if total <= n:
        stacked = torch.from_numpy(np.triu(rng.standard_normal((draws, total, total)), k=1))
        diagonal = np.sqrt(rng.chisquare(n - np.arange(total), size=(draws, total)))
        stacked.diagonal(dim1=-2, dim2=-1).copy_(torch.from_numpy(diagonal))
    else:
        stacked = torch.from_numpy(rng.standard_normal((draws, n, total)))
    return [orthonormalised(block) for block in torch.split(stacked, list(widths), dim=-1)]


def orthonormalised(columns: Tensor) -> Tensor:
    """Q of a QR decomposition whose R has a positive diagonal; this choice is what makes Gaussian columns Haar."""
    Q: Tensor
    R: Tensor
    Q, R = torch.linalg.qr(columns)
    signs = torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(columns.dtype)
    return Q * signs.unsqueeze(-2)
