"""Compares two methods that have several seeds each: intervals cover both the seeds and the test scenes.

A fit with another seed takes other training scenes and ends elsewhere; another set of test scenes has other difficult
ones. Either alone can make two equal methods look different. So seeds and scenes are both drawn anew, independently (a
crossed, or two-way, bootstrap: Owen 2007, "The pigeonhole bootstrap"), and of what is drawn both methods' values are
taken together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lorasub.errors import ConfigError

Array = npt.NDArray[np.float64]

#: Draws of seeds and scenes behind each interval; the smallest p-value is 2 / (RESAMPLES + 1).
RESAMPLES = 9999
_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Difference of two methods with its interval.

    Attributes:
        difference: of the means over seeds of the weighted means over scenes.
        low: lower end of the interval, between percentiles; NaN where there is one seed and one scene.
        high: upper end.
        p: two-sided p-value of no difference, by inverting the interval.
        seeds: number of seeds that both have.
        scenes: number of scenes that all seeds of both could measure.
    """

    difference: float
    low: float
    high: float
    p: float
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
) -> Difference:
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
        return Difference(difference=math.nan, low=math.nan, high=math.nan, p=math.nan, seeds=seeds, scenes=0)
    difference = float(np.diff(_means(values, counted))[0])
    if seeds * scenes < 2:
        return Difference(difference=difference, low=math.nan, high=math.nan, p=math.nan, seeds=seeds, scenes=scenes)
    rng = np.random.default_rng(seed)
    drawn = []
    for start in range(0, resamples, _BATCH):
        count = min(_BATCH, resamples - start)
        rows = rng.integers(seeds, size=(count, 1, seeds, 1))
        columns = rng.integers(scenes, size=(count, 1, 1, scenes))
        both = np.arange(2).reshape(1, 2, 1, 1)
        drawn.append(np.diff(_means(values[both, rows, columns], counted[both, rows, columns]))[:, 0])
    draws = np.concatenate(drawn)
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    below, above = (draws <= 0).sum(), (draws >= 0).sum()
    p = min(1.0, 2 * (1 + min(below, above)) / (resamples + 1))
    return Difference(difference=difference, low=float(low), high=float(high), p=float(p), seeds=seeds, scenes=scenes)


def compare_rows(first: pd.DataFrame, second: pd.DataFrame) -> Difference:
    """Returns the difference of two rows of a report on one test set, from their part of the table of results.

    Args:
        first: rows of one label, set and result; a single seed of -1 stands for all seeds.
        second: likewise, of what is compared.

    Raises:
        ConfigError: they were measured by other protocols or on other frames, or have no seed in common.
    """
    for name in ("protocol", "frames"):
        found = {*first[name], *second[name]}
        if len(found) > 1:
            raise ConfigError(
                f"results of '{first['label'].iloc[0]}' and '{second['label'].iloc[0]}' do not compare: "
                f"they differ in {name}: {sorted(found)}"
            )
    by_scene = bool((first["scene"] != "").any() and (second["scene"] != "").any())
    sides = [side[(side["scene"] != "") == by_scene] for side in (first, second)]
    own = [set(side["seed"]) for side in sides]
    seeds = own[0] & own[1] or set.union(*own)
    if own[0].isdisjoint(own[1]) and -1 not in seeds:
        raise ConfigError(f"there is no seed in common to compare: {own}")
    chosen = [side[side["seed"].isin(seeds)] for side in sides]
    values, weights = (
        [side.pivot(index="seed", columns="scene", values=name).to_numpy(float) for side in chosen]
        for name in ("value", "weight")
    )
    return crossed_difference(values[0], values[1], (weights[0], weights[1]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected for their number (Holm 1979); NaN stays NaN and counts as no comparison."""
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    found, largest = [math.nan] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        found[index] = largest
    return found


def _means(values: Array, weights: Array) -> Array:
    """``[..., 2]`` from ``[..., 2, seeds, scenes]``."""
    found: Array = ((values * weights).sum(-1) / weights.sum(-1)).mean(-1)
    return found
