"""Compares rows of a study's table of results; corrects p-values for their number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from lorasub.errors import ConfigError
from lorasub.metrics.bootstrap import CrossedDifference, crossed_difference


def compare_rows(first: pd.DataFrame, second: pd.DataFrame) -> CrossedDifference:
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
