"""Bootstrap intervals of differences between two methods that were measured on the same scenes.

Scenes differ far more than methods do. So of whatever is drawn, both methods' values are taken together (a paired
bootstrap). With several fits of each method, another seed takes other training scenes and ends elsewhere; either alone
can make two equal methods look different. So seeds and scenes are both drawn anew, independently (a crossed, or
two-way, bootstrap: Owen 2007, "The pigeonhole bootstrap").
"""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap
from scipy.stats import t as student_t

Array = npt.NDArray[np.float64]

#: Draws of seeds and scenes behind each interval; the smallest p-value is 2 / (RESAMPLES + 1).
RESAMPLES = 9999
#: Draws that are held in memory at a time.
_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossedDifference:
    """Difference of two methods with its interval.

    Attributes:
        difference: of the means over seeds of the weighted means over scenes.
        low: lower end of the interval, between percentiles; NaN where there is one seed and one scene.
        high: upper end.
        p: two-sided p-value of no difference, by inverting the interval. It is never below 2 / (RESAMPLES + 1), and too
            small where seeds or scenes are few.
        p_t: the same from Student's t distribution, see :func:`crossed_t`: for corrections of many comparisons.
        seeds: number of seeds that both have.
        scenes: number of scenes that all seeds of both could measure.
    """

    difference: float
    low: float
    high: float
    p: float
    p_t: float
    seeds: int
    scenes: int


def crossed_difference(
    first: Array,
    second: Array,
    weights: tuple[Array, Array] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> CrossedDifference:
    """Returns the difference of two methods with an interval over seeds and scenes.

    Args:
        first: ``[seeds, scenes]`` results of what is compared with; one row stands for all seeds.
        second: likewise, of what is compared.
        weights: of the results of each; scenes where any is 0 do not count. None: 1.
        confidence: of the interval.
        resamples: number of draws.
        seed: of the draws.
    """
    shape = np.broadcast_shapes(first.shape, second.shape)
    values = np.stack([np.broadcast_to(each, shape) for each in (first, second)])
    counted = np.ones_like(values)
    if weights is not None:
        counted = np.stack([np.broadcast_to(each, shape) for each in weights])
    known = ((counted > 0) & np.isfinite(values)).all((0, 1))
    values, counted = values[..., known], counted[..., known]
    _, seeds, scenes = values.shape
    if not scenes:
        nothing = dict.fromkeys(("difference", "low", "high", "p", "p_t"), math.nan)
        return CrossedDifference(**nothing, seeds=seeds, scenes=0)
    difference = float(np.diff(_means(values, counted))[0])
    if seeds * scenes < 2:
        unknown = dict.fromkeys(("low", "high", "p", "p_t"), math.nan)
        return CrossedDifference(difference=difference, **unknown, seeds=seeds, scenes=scenes)
    rows, columns = (drawn.astype(float) for drawn in _drawn_counts(seeds, scenes, resamples, seed))
    # a draw is how often it has each seed and each scene
    means = ((values * counted) @ columns.T) / (counted @ columns.T)
    draws = np.diff((means * rows.T).sum(1) / seeds, axis=0)[0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    below, above = (draws <= 0).sum(), (draws >= 0).sum()
    p = min(1.0, 2 * (1 + min(below, above)) / (resamples + 1))
    return CrossedDifference(
        difference=difference,
        low=float(low),
        high=float(high),
        p=float(p),
        p_t=crossed_t(values, counted),
        seeds=seeds,
        scenes=scenes,
    )


@functools.lru_cache(maxsize=4)
def _drawn_counts(seeds: int, scenes: int, resamples: int, seed: int) -> tuple[npt.NDArray[np.uint16], ...]:
    """``[resamples, seeds]`` and ``[resamples, scenes]``: how often each is drawn; the same for all comparisons."""
    rng = np.random.default_rng(seed)
    found = np.zeros((resamples, seeds), np.uint16), np.zeros((resamples, scenes), np.uint16)
    for start in range(0, resamples, _BATCH):
        for counts in found:
            part = counts[start : start + _BATCH]
            np.add.at(part, (np.arange(len(part))[:, None], rng.integers(part.shape[1], size=part.shape)), 1)
    return found


def crossed_t(values: Array, weights: Array) -> float:
    """Returns the two-sided p-value of no difference between two methods, of whatever size, from few seeds and scenes.

    The variance of the difference is that of its seeds' means plus that of its scenes, as in the crossed bootstrap.
    Each is estimated with one degree of freedom less than its number; the t distribution has those of their sum
    (Satterthwaite 1946). A bootstrap draws all of three seeds alike once in nine times, and then takes what they have
    in common for certain.

    Args:
        values: ``[2, seeds, scenes]`` results of the two methods.
        weights: of the results, all above 0.
    """
    means = (values * weights).sum(-1, keepdims=True) / weights.sum(-1, keepdims=True)
    of_seeds = np.diff(means[..., 0], axis=0)[0]
    # what each scene adds to the weighted mean
    of_scenes = np.diff((weights * (values - means) / weights.sum(-1, keepdims=True)).mean(1), axis=0)[0]
    seeds, scenes = values.shape[1:]
    parts = [
        (of_seeds.var(ddof=1) / seeds, seeds - 1) if seeds > 1 else (0.0, 1),
        ((of_scenes**2).sum() * scenes / (scenes - 1), scenes - 1) if scenes > 1 else (0.0, 1),
    ]
    variance = sum(part for part, _ in parts)
    difference = abs(float(of_seeds.mean()))
    if variance <= (1e-12 * np.abs(values).max()) ** 2:  # rounding
        return 0.0 if difference > 0 else 1.0
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return float(2 * student_t.sf(difference / math.sqrt(variance), freedom))


def _difference_of_means(a: Array, a_weights: Array, b: Array, b_weights: Array, axis: int = -1) -> Array:
    first = (a * a_weights).sum(axis) / a_weights.sum(axis)
    second = (b * b_weights).sum(axis) / b_weights.sum(axis)
    difference: Array = second - first
    return difference


def paired_interval(columns: Array, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """Returns an interval of the difference of two weighted means over scenes, NaN for fewer than two scenes.

    It is bias-corrected and accelerated (BCa, Efron 1987).

    Args:
        columns: ``[4, scenes]``: value and weight in the first evaluation, value and weight in the second.
        confidence: of the interval.
        resamples: of scenes.
        seed: of the resamples.
    """
    if columns.shape[1] < 2 or not np.isfinite(columns).all():
        return math.nan, math.nan
    # BCa has no answer where resamples hardly differ, as for a run compared with itself; percentiles have
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = bootstrap(
                tuple(columns),
                _difference_of_means,
                paired=True,
                vectorized=True,
                n_resamples=resamples,
                batch=_BATCH,
                confidence_level=confidence,
                method=method,
                rng=seed,
            ).confidence_interval
        if np.isfinite([found.low, found.high]).all():
            break
    return float(found.low), float(found.high)


def _means(values: Array, weights: Array) -> Array:
    """``[..., 2]`` from ``[..., 2, seeds, scenes]``."""
    found: Array = ((values * weights).sum(-1) / weights.sum(-1)).mean(-1)
    return found
