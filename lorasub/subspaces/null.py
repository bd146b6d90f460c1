"""Null of overlap measures: their values for independent Haar-random subspaces."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.rng import subspace_generator
from lorasub.subspaces.angles import overlap_measures, principal_angles
from lorasub.subspaces.haar import haar_frames

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
