"""Two evaluations side by side: differences with bootstrap intervals over scenes, and when there is nothing to compare.

Scenes differ far more than methods do. So differences are taken scene by scene, and the interval comes from drawing
scenes, both methods' values of a scene together (a paired bootstrap).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lorasub.console import some_of
from lorasub.errors import ConfigError
from lorasub.metrics.bootstrap import Array, paired_interval
from lorasub.metrics.results import Results, SceneResult, SetResult

#: Mean brightness (0 to 1) by which the same view may differ, resized or rendered on another device.
SAME_BRIGHTNESS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One result of two evaluations.

    Attributes:
        set: name of the test set.
        name: of the result.
        protocol: how it was measured.
        first: its value in the first evaluation, over the scenes that both measured.
        second: in the second.
        low: lower end of the interval of ``second - first``; NaN if there is none (one scene, or no mean over scenes).
        high: upper end.
        scenes: number of scenes that both measured.
    """

    set: str
    name: str
    protocol: str
    first: float
    second: float
    low: float
    high: float
    scenes: int

    @property
    def difference(self) -> float:
        """``second - first``."""
        return self.second - self.first

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def compare_results(
    first: Results,
    second: Results,
    *,
    force: bool = False,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> list[Difference]:
    """Compare two evaluations of the same protocols on the same frames.

    Intervals are bias-corrected and accelerated (BCa, Efron 1987), of the difference of the weighted means.

    Args:
        first: what is compared with.
        second: what is compared.
        force: compare what both have under the same name, in scenes of the same name, whatever else differs.
        confidence: of the intervals.
        resamples: of scenes.
        seed: of the resamples.

    Raises:
        ConfigError: precision, protocols or frames differ (saying which), or nothing is common to both.

    Example:
        >>> def measured(*values):
        ...     scenes = [
        ...         SceneResult(scene=str(i), frames=("0",), values={"abs_rel": value}, weights={"abs_rel": 1.0})
        ...         for i, value in enumerate(values)
        ...     ]
        ...     return Results(sets={"test": SetResult(protocols={"abs_rel": "depth"}, scenes=tuple(scenes))})
        >>> (found,) = compare_results(measured(0.3, 0.4, 0.5, 0.6), measured(0.2, 0.28, 0.41, 0.5), resamples=999)
        >>> round(found.difference, 4), found.clear
        (-0.1025, True)
    """
    if not 0 < confidence < 1 or resamples < 100:
        raise ConfigError(f"confidence must be in (0, 1) and resamples at least 100, not {confidence} and {resamples}")
    if not force and (reasons := unlike(first, second)):
        listed = "".join(f"\n  {reason}" for reason in reasons)
        raise ConfigError(f"these results do not compare:{listed}\nuse --force to compare what they share all the same")
    found = []
    for name in [name for name in first.sets if name in second.sets]:
        one, other = first.sets[name], second.sets[name]
        for result, protocol in one.protocols.items():
            if result in other.protocols:
                columns = _paired(one, other, result)
                low, high = paired_interval(columns, confidence, resamples, seed)
                values = [_mean(columns[0], columns[1]), _mean(columns[2], columns[3])]
                if result in one.whole and result in other.whole:
                    values = [one.whole[result], other.whole[result]]
                found.append(
                    Difference(
                        set=name,
                        name=result,
                        protocol=protocol,
                        first=values[0],
                        second=values[1],
                        low=low,
                        high=high,
                        scenes=columns.shape[1],
                    )
                )
    if not found:
        raise ConfigError(f"nothing is common to both: sets {sorted(first.sets)} and {sorted(second.sets)}")
    return found


def unlike(first: Results, second: Results) -> list[str]:
    """Returns the reasons, in words, for which two evaluations do not compare; none if they do."""
    reasons = []
    precisions = [results.model.get("precision") for results in (first, second)]
    if None not in precisions and precisions[0] != precisions[1]:
        reasons.append(f"the first was computed in precision {precisions[0]}, the second in {precisions[1]}")
    for name in sorted(first.sets.keys() ^ second.sets.keys()):
        reasons.append(f"the test set '{name}' is in the {'first' if name in first.sets else 'second'} only")
    for name in sorted(first.sets.keys() & second.sets.keys()):
        one, other = first.sets[name], second.sets[name]
        for result in sorted(one.protocols.keys() | other.protocols.keys()):
            a, b = one.protocols.get(result), other.protocols.get(result)
            if a is None or b is None:
                reasons.append(f"{name}: '{result}' is in the {'second' if a is None else 'first'} only")
            elif a != b:
                reasons.append(f'{name}: \'{result}\' is measured by "{a}" in the first, by "{b}" in the second')
        reasons += [f"{name}: {reason}" for reason in _unlike_frames(one, other)]
    return reasons


def _unlike_frames(one: SetResult, other: SetResult) -> list[str]:
    if one.frames_hash == other.frames_hash:
        return _unlike_images(one, other)
    frames = [{scene.scene: scene.frames for scene in found.scenes} for found in (one, other)]
    reasons = []
    for here, there, which in ((*frames, "first"), (*reversed(frames), "second")):
        if missing := [scene for scene in here if scene not in there]:
            reasons.append(f"{len(missing)} scenes are in the {which} only: {some_of(missing)}")
    changed = [scene for scene in frames[0] if scene in frames[1] and frames[0][scene] != frames[1][scene]]
    if changed:
        reasons.append(f"{len(changed)} scenes have other views in the second: {some_of(changed)}")
    return reasons or ["the scenes come in another order, or more than once"]


def _unlike_images(one: SetResult, other: SetResult) -> list[str]:
    """The reason for which scenes of equal names are not the same: another seed, another folder of that name."""
    changed = [
        here.scene
        for here, there in zip(one.scenes, other.scenes, strict=True)
        if any(abs(a - b) > SAME_BRIGHTNESS for a, b in zip(here.brightness, there.brightness, strict=False))
    ]
    return [f"{len(changed)} scenes have other images under the same names: {some_of(changed)}"] if changed else []


def _paired(one: SetResult, other: SetResult, name: str) -> Array:
    """``[4, scenes]``: value and weight in the first, value and weight in the second, of scenes that both measured."""
    there = dict(_counted(other))
    columns = []
    for key, scene in _counted(one):
        partner = there.get(key)
        if partner is None or not (scene.weights.get(name, 0) > 0 and partner.weights.get(name, 0) > 0):
            continue
        columns.append((scene.values[name], scene.weights[name], partner.values[name], partner.weights[name]))
    return np.array(columns, dtype=np.float64).reshape(-1, 4).T


def _counted(found: SetResult) -> Iterator[tuple[tuple[str, int], SceneResult]]:
    """Scenes by their name and how often it came before: a reference frame may come again with other views."""
    before: Counter[str] = Counter()
    for scene in found.scenes:
        yield (scene.scene, before[scene.scene]), scene
        before[scene.scene] += 1


def _mean(values: Array, weights: Array) -> float:
    return float((values * weights).sum() / weights.sum()) if len(values) else math.nan
