"""Two methods side by side, each from several seeds: intervals that cover both the seeds and the test scenes.

A fit with another seed takes other training scenes and ends elsewhere; another set of test scenes has other difficult
ones. Either alone can make two equal methods look different. So seeds and scenes are both drawn anew, independently
(a crossed, or two-way, bootstrap: Owen 2007, "The pigeonhole bootstrap"), and of what is drawn both methods' values are
taken together. The pigeonhole bootstrap errs on the side of wide intervals; that it sees few seeds errs the other way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lorasub.errors import ConfigError
from lorasub.metrics.comparison import Difference, unlike
from lorasub.metrics.results import Results, SetResult

Array = npt.NDArray[np.float64]

#: Draws that are held in memory at a time.
_BATCH = 500


def seed_differences(
    first: Mapping[int | None, Results],
    second: Mapping[int | None, Results],
    name: str,
    *,
    confidence: float = 0.95,
    resamples: int = 4999,
    seed: int = 0,
) -> list[Difference]:
    """Compare one result of two methods on every test set that has it.

    The value of a method is the mean over seeds of its weighted means over scenes. A scene counts where all seeds of
    both methods could measure it.

    Args:
        first: seed -> what is compared with; ``{None: results}`` for a model without seeds, which is the same for all.
        second: seed -> what is compared. Seeds that only one of the two has are left out.
        name: of the result.
        confidence: of the intervals, which are those between percentiles.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        A difference for each set; its interval is NaN where there is a single seed and a single scene. Results that are
        no means over scenes (AUROC) have intervals over seeds alone.

    Raises:
        ConfigError: the methods were measured by other protocols or on other views, or have no seed in common.
    """
    if None in first:
        first = dict.fromkeys(second, first[None])
    seeds = [each for each in second if each in first]
    if not seeds:
        raise ConfigError(f"there is no seed in common to compare: {list(first)} and {list(second)}")
    for each in seeds:
        if reasons := unlike(first[each], second[each]):
            raise ConfigError(f"results of seed {each} do not compare: {'; '.join(reasons)}")
    found = []
    for set_name, measured in first[seeds[0]].sets.items():
        if name not in measured.protocols:
            continue
        values, weights = _paired(
            [first[each].sets[set_name] for each in seeds], [second[each].sets[set_name] for each in seeds], name
        )
        means = _means(values, weights)
        low, high = _interval(values, weights, confidence, resamples, seed)
        found.append(
            Difference(
                set=set_name,
                name=name,
                protocol=measured.protocols[name],
                first=float(means[0]),
                second=float(means[1]),
                low=low,
                high=high,
                scenes=len(measured.scenes) if name in measured.whole else values.shape[2],
            )
        )
    return found


def pooled_ratio(
    first: Array, second: Array, *, confidence: float = 0.95, resamples: int = 4999, seed: int = 0
) -> tuple[float, float, float]:
    """How many times as large one method's results are as another's, over several test sets.

    The geometric mean of the ratios, so that a set with large values counts no more than others. Seeds and sets are
    drawn anew for the interval: it speaks of further sets of the kind.

    Args:
        first: ``[seeds, sets]`` results of what is compared with, above 0.
        second: likewise, of what is compared.
        confidence: of the interval.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        The ratio and the ends of its interval, which are NaN where there is one seed and one set.
    """
    values = np.log(np.stack([first, second]))
    weights = np.ones_like(values)
    means = _means(values, weights)
    low, high = np.exp(_interval(values, weights, confidence, resamples, seed))
    return float(np.exp(means[1] - means[0])), float(low), float(high)


def _paired(first: list[SetResult], second: list[SetResult], name: str) -> tuple[Array, Array]:
    """Values and weights ``[2, seeds, scenes]`` of the scenes that all of them measured."""
    both = [first, second]
    if all(name in found.whole for group in both for found in group):
        values = np.array([[[found.whole[name]] for found in group] for group in both], dtype=np.float64)
        return values, np.ones_like(values)
    columns = []
    for same in zip(*(found.scenes for group in both for found in group), strict=True):
        if all(scene.weights.get(name, 0) > 0 for scene in same):
            columns.append([(scene.values[name], scene.weights[name]) for scene in same])
    table = np.array(columns, dtype=np.float64).reshape(-1, 2, len(first), 2)
    return table[..., 0].transpose(1, 2, 0), table[..., 1].transpose(1, 2, 0)


def _means(values: Array, weights: Array) -> Array:
    """``[..., 2]`` from ``[..., 2, seeds, scenes]``; NaN without scenes."""
    if not values.shape[-1]:
        return np.full(values.shape[:-2], math.nan)
    found: Array = ((values * weights).sum(-1) / weights.sum(-1)).mean(-1)
    return found


def _interval(values: Array, weights: Array, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    _, seeds, scenes = values.shape
    if seeds * scenes < 2 or not np.isfinite(values).all():
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    drawn = []
    for start in range(0, resamples, _BATCH):
        count = min(_BATCH, resamples - start)
        rows = rng.integers(seeds, size=(count, 1, seeds, 1))
        columns = rng.integers(scenes, size=(count, 1, 1, scenes))
        methods = np.arange(2).reshape(1, 2, 1, 1)
        means = _means(values[methods, rows, columns], weights[methods, rows, columns])
        drawn.append(means[:, 1] - means[:, 0])
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return float(low), float(high)
