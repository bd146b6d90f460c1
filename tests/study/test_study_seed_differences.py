"""Differences between methods with several seeds: against closed forms and scipy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import bootstrap, norm

from lorasub.errors import ConfigError
from lorasub.metrics.comparison import Difference
from lorasub.metrics.results import Results, SceneResult, SetResult
from lorasub.study.seed_differences import pooled_ratio, seed_differences

Array = npt.NDArray[np.float64]
Seeds = dict[int | None, Results]


def results_of(
    values: Sequence[float], weights: Sequence[float] | None = None, protocol: str = "median", **whole: float
) -> Results:
    """One evaluation, a value and a weight of ``error`` for each scene."""
    weights = [1.0] * len(values) if weights is None else weights
    scenes = tuple(
        SceneResult(scene=f"s{i}", frames=("a",), values={"error": float(v)}, weights={"error": float(w)})
        for i, (v, w) in enumerate(zip(values, weights, strict=True))
    )
    protocols = {"error": protocol, **dict.fromkeys(whole, "all")}
    return Results(sets={"test": SetResult(protocols=protocols, scenes=scenes, whole=whole)})


def method(table: Array) -> Seeds:
    """Values ``[seeds, scenes]`` of a method."""
    return {seed: results_of(row.tolist()) for seed, row in enumerate(table)}


def compared(first: Seeds, second: Seeds, name: str = "error") -> Difference:
    (found,) = seed_differences(first, second, name, resamples=20_000)
    return found


@pytest.mark.parametrize(("of_seeds", "of_scenes"), [(1.0, 0.0), (0.0, 1.0), (0.7, 0.4)])
def test_the_interval_has_the_width_that_both_spreads_give(of_seeds: float, of_scenes: float) -> None:
    # a difference of a_seed + b_scene: the mean of a draw has the variance var(a) / seeds + var(b) / scenes
    rng = np.random.default_rng(0)
    seeds, scenes = 40, 60
    a, b = of_seeds * rng.standard_normal((seeds, 1)), of_scenes * rng.standard_normal((1, scenes))
    # hard scenes are hard for both methods, which must not widen the interval
    common = 10 * rng.standard_normal((seeds, scenes))
    found = compared(method(common), method(common + a + b))
    deviation = np.sqrt(a.var() / seeds + b.var() / scenes)
    expected = (a.mean() + b.mean()) + norm.ppf([0.025, 0.975]) * deviation
    assert found.difference == pytest.approx(a.mean() + b.mean(), abs=1e-9)
    assert [found.low, found.high] == pytest.approx(expected.tolist(), abs=0.1 * deviation)


def test_with_one_seed_it_is_the_bootstrap_over_scenes() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.gamma(1.0, size=(2, 25))
    found = compared(method(first[None]), method(second[None]))
    expected = bootstrap((second - first,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], abs=0.02)


def test_a_constant_difference_is_certain() -> None:
    table = np.random.default_rng(2).random((3, 5))
    found = compared(method(table), method(table - 0.25))
    assert [found.difference, found.low, found.high] == pytest.approx([-0.25] * 3)
    assert found.clear


def test_a_model_without_seeds_is_the_same_for_all() -> None:
    rng = np.random.default_rng(3)
    unadapted, table = rng.random(8), rng.random((3, 8))
    found = compared({None: results_of(unadapted.tolist())}, method(table))
    repeated = compared(method(np.tile(unadapted, (3, 1))), method(table))
    assert found == repeated


def test_only_seeds_of_both_count() -> None:
    rng = np.random.default_rng(4)
    one, other = rng.random((2, 4, 6))
    first, second = method(one), method(other)
    del first[3], second[0]
    found = compared(first, second)
    assert found.difference == pytest.approx((other[1:3] - one[1:3]).mean())
    with pytest.raises(ConfigError, match="no seed in common"):
        seed_differences({0: first[1]}, {1: second[1]}, "error")


def test_scenes_have_their_weights_and_those_that_one_could_not_measure_do_not_count() -> None:
    first: Seeds = {0: results_of([1, 2, 3], [1, 1, 2]), 1: results_of([1, 5, 9], [1, 0, 1])}
    second: Seeds = {0: results_of([2, 2, 2], [1, 1, 2]), 1: results_of([4, 4, 4])}
    found = compared(first, second)
    assert found.scenes == 2
    assert found.first == pytest.approx(((1 + 2 * 3) / 3 + (1 + 9) / 2) / 2)
    assert found.second == pytest.approx((2 + 4) / 2)


def test_results_of_a_whole_set_have_the_spread_of_their_seeds() -> None:
    scores = [(0.5, 0.7), (0.6, 0.9), (0.4, 0.9)]
    first: Seeds = {seed: results_of([1, 2], auroc=score) for seed, (score, _) in enumerate(scores)}
    second: Seeds = {seed: results_of([1, 2], auroc=score) for seed, (_, score) in enumerate(scores)}
    found = compared(first, second, "auroc")
    assert found.difference == pytest.approx(1 / 3)
    assert (found.low, found.high) == pytest.approx((0.2, 0.5))
    assert found.scenes == 2


def test_one_number_has_no_interval() -> None:
    found = compared({0: results_of([1.0])}, {0: results_of([2.0])})
    assert found.difference == 1.0
    assert np.isnan([found.low, found.high]).all()
    assert not found.clear


def test_nothing_measured_is_no_difference() -> None:
    found = compared({0: results_of([1.0], [0.0])}, {0: results_of([2.0])})
    assert np.isnan(found.difference)
    assert found.scenes == 0


def test_what_was_measured_in_another_way_does_not_compare() -> None:
    with pytest.raises(ConfigError, match=r"seed 1.*measured by"):
        seed_differences(
            {0: results_of([1.0]), 1: results_of([1.0])},
            {0: results_of([1.0]), 1: results_of([1.0], protocol="none")},
            "error",
        )
    with pytest.raises(ConfigError, match="in the first only"):
        seed_differences({0: results_of([1.0, 2.0])}, {0: results_of([1.0])}, "error")


def test_a_ratio_over_sets_is_a_geometric_mean_with_the_spread_of_seeds_and_sets() -> None:
    rng = np.random.default_rng(5)
    seeds, sets = 30, 50
    a, b = 0.3 * rng.standard_normal((seeds, 1)), 0.2 * rng.standard_normal((1, sets))
    first = np.exp(3 * rng.standard_normal((seeds, sets)))  # sets of all sizes
    ratio, low, high = pooled_ratio(first, first * np.exp(0.1 + a + b), resamples=20_000)
    assert ratio == pytest.approx(np.exp(0.1 + a.mean() + b.mean()))
    deviation = np.sqrt(a.var() / seeds + b.var() / sets)
    assert np.log([low, high]) == pytest.approx(
        np.log(ratio) + 1.96 * deviation * np.array([-1, 1]), abs=0.1 * deviation
    )
    one = pooled_ratio(np.array([[0.5]]), np.array([[1.0]]))
    assert one[0] == 2.0
    assert np.isnan(one[1:]).all()
