"""Principal angles between subspaces, the measures that follow from them, and what chance gives for each.

The null of a measure is its distribution for independent Haar-random subspaces of the same dimensions. A frame of width
d in n dimensions is an (n, d) matrix with orthonormal columns. All that matters of several independent frames is how
they lie to each other, and that is drawn here without n rows: if G is (n, K) Gaussian, G = Q R with R upper triangular,
then Q is uniform and independent of R, the entries of R above the diagonal are standard normal and its diagonal is
chi-distributed with n, n - 1, ... degrees of freedom (Bartlett's decomposition of the Wishart matrix G^T G).
Orthonormalising the column blocks of R gives the frames in the coordinates of Q.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.rng import subspace_generator

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


#: A null narrower than this is rounding: the measure could not come out otherwise.
_NO_ROOM = 1e-12


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured value beside what chance gives.

    Attributes:
        value: the measure.
        null_mean: its mean over random subspaces of the same dimensions in the same ambient space.
        null_std: its standard deviation over them.
    """

    value: float
    null_mean: float
    null_std: float

    @property
    def z(self) -> float:
        """Deviations from chance; NaN where the dimensions leave chance no room (d1 + d2 > n forces an overlap).

        Nulls of a few dimensions are skewed, that of the two-sided energy most: 3 to 4 deviations upwards may still be
        chance in a single small layer, but not in the mean over many.
        """
        return (self.value - self.null_mean) / self.null_std if self.null_std > _NO_ROOM else math.nan

    def to_dict(self) -> dict[str, float]:
        """``value``, ``null_mean``, ``null_std`` and ``z``."""
        return {"value": self.value, "null_mean": self.null_mean, "null_std": self.null_std, "z": self.z}


def mean_measurement(measurements: list[Measurement]) -> Measurement:
    """The mean over independent layers; the null of the mean is narrower by the square root of their number."""
    count = len(measurements)
    return Measurement(
        sum(m.value for m in measurements) / count,
        sum(m.null_mean for m in measurements) / count,
        math.sqrt(sum(m.null_std**2 for m in measurements)) / count,
    )


def phi_null(n: int, d1: int, d2: int) -> tuple[float, float]:
    """Mean and standard deviation of phi = tr(P1 P2) / min(d1, d2) for random projections P1 and P2, in closed form.

    E[phi] = max(d1, d2) / n, and Var[tr(P1 P2)] = 2 d1 d2 (n - d1)(n - d2) / (n^2 (n - 1)(n + 2)).
    """
    if n == 1:
        return 1.0, 0.0
    variance = 2 * d1 * d2 * (n - d1) * (n - d2) / (n**2 * (n - 1) * (n + 2))
    return max(d1, d2) / n, math.sqrt(variance) / min(d1, d2)


def energy_null(out: int, d_out: int, in_: int, d_in: int, S: Tensor) -> tuple[float, float]:
    """Mean and deviation of ||P L Q||_F^2 / ||L||_F^2 for random projections P, Q and singular values S of L.

    The ratio is sum_ij s_i s_j A_ij B_ij / sum s^2, where A and B are P and Q in the bases of L's singular vectors.
    For a Haar-random projection, E[A_ij A_kl] = a (i=j)(k=l) + b ((i=k)(j=l) + (i=l)(j=k)), which gives both moments.
    """
    a_out, b_out = _fourth_moments(out, d_out)
    a_in, b_in = _fourth_moments(in_, d_in)
    # tr(S^2)^2 and tr(S^4), after dividing by tr(S^2)^2
    fourth = float(S.double().pow(4).sum() / S.double().square().sum() ** 2)
    mean = d_out / out * d_in / in_
    second = a_out * a_in + 2 * (a_out * b_in + b_out * a_in) * fourth + 2 * b_out * b_in * (1 + fourth)
    return mean, math.sqrt(max(0.0, second - mean**2))


def _fourth_moments(n: int, d: int) -> tuple[float, float]:
    if n == 1:
        return float(d), 0.0
    denominator = n * (n - 1) * (n + 2)
    return d * (d * (n + 1) - 2) / denominator, d * (n - d) / denominator


@functools.lru_cache(maxsize=256)
def random_angles(n: int, d1: int, d2: int, draws: int = 500, seed: int = 0) -> Tensor:
    """Principal angles between independent random subspaces.

    Args:
        n: ambient dimension.
        d1: dimensions of the first subspace.
        d2: dimensions of the second.
        draws: number of pairs.
        seed: of the randomness; each (n, d1, d2) has its own stream.

    Returns:
        ``(draws, min(d1, d2))`` float64 radians, ascending in each row. Cached: do not write into it.
    """
    if not (1 <= d1 <= n and 1 <= d2 <= n and draws >= 2):
        raise ConfigError(f"random subspaces of {d1} and {d2} dimensions in {n}, {draws} draws, cannot be drawn")
    first, second = haar_frames(n, (d1, d2), subspace_generator(seed, "angles", n, d1, d2), draws=draws)
    return principal_angles(first, second)


def angle_nulls(n: int, d1: int, d2: int, draws: int = 500, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Mean and deviation of each of :func:`overlap_measures`: phi in closed form, the rest from random angles."""
    low, high = sorted((d1, d2))
    measures = overlap_measures(random_angles(n, low, high, draws, seed))
    nulls = {name: (float(values.mean()), float(values.std())) for name, values in measures.items()}
    nulls["phi"] = phi_null(n, d1, d2)
    return nulls
