"""Differences between methods with several seeds: against closed forms and scipy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import bootstrap, norm, ttest_1samp

from lorasub.errors import ConfigError
from lorasub.metrics.bootstrap import crossed_difference
from lorasub.study.evidence import compare_rows, holm

Array = npt.NDArray[np.float64]


@pytest.mark.parametrize(("of_seeds", "of_scenes"), [(1.0, 0.0), (0.0, 1.0), (0.7, 0.4)])
def test_the_interval_has_the_width_that_both_spreads_give(of_seeds: float, of_scenes: float) -> None:
    # a difference of a_seed + b_scene: the mean of a draw has the variance var(a) / seeds + var(b) / scenes
    rng = np.random.default_rng(0)
    seeds, scenes = 40, 60
    a, b = of_seeds * rng.standard_normal((seeds, 1)), of_scenes * rng.standard_normal((1, scenes))
    # hard scenes are hard for both methods, which must not widen the interval
    common = 10 * rng.standard_normal((seeds, scenes))
    found = crossed_difference(common, common + a + b)
    deviation = np.sqrt(a.var() / seeds + b.var() / scenes)
    expected = (a.mean() + b.mean()) + norm.ppf([0.025, 0.975]) * deviation
    assert found.difference == pytest.approx(a.mean() + b.mean(), abs=1e-9)
    assert [found.low, found.high] == pytest.approx(expected.tolist(), abs=0.1 * deviation)


def test_p_is_that_of_the_normal_where_the_spread_is_normal() -> None:
    rng = np.random.default_rng(7)
    values = rng.standard_normal((1, 400))
    for effect in (0.0, 0.06, 0.1):
        centred = values - values.mean() + effect
        found = crossed_difference(np.zeros_like(values), centred)
        expected = 2 * norm.sf(effect / (values.std() / 20))
        assert found.p == pytest.approx(expected, abs=0.03)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_with_one_seed_it_is_the_bootstrap_over_scenes() -> None:
    first, second = np.random.default_rng(1).gamma(1.0, size=(2, 25))
    found = crossed_difference(first[None], second[None])
    expected = bootstrap((second - first,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], abs=0.03)


def test_a_constant_difference_is_certain() -> None:
    table = np.random.default_rng(2).random((3, 5))
    found = crossed_difference(table, table - 0.25)
    assert [found.difference, found.low, found.high] == pytest.approx([-0.25] * 3)
    assert found.p == pytest.approx(2 / 10_000)


def test_one_number_has_no_interval() -> None:
    found = crossed_difference(np.array([[1.0]]), np.array([[2.0]]))
    assert found.difference == 1.0
    assert np.isnan([found.low, found.high, found.p]).all()


def test_nothing_measured_is_no_difference() -> None:
    found = crossed_difference(np.array([[np.nan]]), np.array([[2.0]]))
    assert np.isnan(found.difference)
    assert found.scenes == 0


def test_with_one_seed_or_one_scene_t_is_that_of_scipy() -> None:
    first, second = np.random.default_rng(5).gamma(1.0, size=(2, 7))
    expected = ttest_1samp(second - first, 0.0).pvalue
    assert crossed_difference(first[None], second[None]).p_t == pytest.approx(expected)
    assert crossed_difference(first[:, None], second[:, None]).p_t == pytest.approx(expected)


def test_t_is_normal_where_seeds_and_scenes_are_many() -> None:
    rng = np.random.default_rng(6)
    a, b = 0.3 * rng.standard_normal((400, 1)), rng.standard_normal((1, 900))
    deviation = np.sqrt(a.var() / 400 + b.var() / 900)
    for effect in (0.5, 2.0, 6.0):  # the last one below what any bootstrap tells
        second = effect * deviation + a - a.mean() + b - b.mean()
        found = crossed_difference(np.zeros_like(second), second)
        # some thousand degrees of freedom: the tails are a little heavier
        assert np.log(found.p_t) == pytest.approx(np.log(2 * norm.sf(effect)), rel=0.02)


def test_what_weighs_nothing_adds_nothing_to_t() -> None:
    rng = np.random.default_rng(8)
    first, second = rng.random((2, 3, 6))
    weights = np.tile([1.0, 1, 1, 1, 1e-9, 1e-9], (3, 1))
    found, light = (
        crossed_difference(one[:, :kept], two[:, :kept], (weights[:, :kept],) * 2)
        for one, two, kept in ((first, second, 4), (first, second, 6))
    )
    assert light.difference == pytest.approx(found.difference)
    # six scenes count where four do: the factor n / (n - 1), and their degrees of freedom
    assert light.p_t == pytest.approx(found.p_t, rel=0.5)


@pytest.mark.parametrize("of_seeds", [0.0, 0.5, 1.0])
def test_t_keeps_its_promise_with_three_seeds_and_the_bootstrap_does_not(of_seeds: float) -> None:
    rng = np.random.default_rng(9)
    found = []
    for _ in range(400):
        noise = 0.5 * rng.standard_normal((3, 8))
        second = of_seeds * rng.standard_normal((3, 1)) + (1 - of_seeds) * rng.standard_normal((1, 8)) + noise
        found.append(crossed_difference(np.zeros_like(second), second, resamples=999))
    p_t = np.array([each.p_t for each in found])
    assert (p_t < 0.05).mean() < 0.09
    assert (p_t < 0.001).mean() <= 0.0075
    if of_seeds == 1.0:  # seeds alone differ: all three on one side is no evidence
        assert np.mean([each.p < 0.0025 for each in found]) > 0.05


def rows(
    table: Sequence[Sequence[float]] | Array,
    weights: Array | None = None,
    seeds: Sequence[int] | None = None,
    **changed: str,
) -> pd.DataFrame:
    """The part of a table of results that one method has on one set."""
    values = np.asarray(table, dtype=float)
    counted = np.ones_like(values) if weights is None else np.asarray(weights)
    seeds = range(len(values)) if seeds is None else seeds
    common = {"label": "m", "protocol": "median", "frames": "f"} | changed
    found = [
        {**common, "seed": seed, "scene": f"s{i}", "value": values[row, i], "weight": counted[row, i]}
        for row, seed in enumerate(seeds)
        for i in range(values.shape[1])
    ]
    overall = [
        {**common, "seed": seed, "scene": "", "value": np.average(values[row], weights=counted[row]), "weight": 1.0}
        for row, seed in enumerate(seeds)
    ]
    return pd.DataFrame(found + overall)


def test_a_model_without_seeds_is_the_same_for_all() -> None:
    rng = np.random.default_rng(3)
    unadapted, table = rng.random((1, 8)), rng.random((3, 8))
    found = compare_rows(rows(unadapted, seeds=[-1]), rows(table))
    assert found == compare_rows(rows(np.tile(unadapted, (3, 1))), rows(table))
    assert found.seeds == 3


def test_only_seeds_of_both_count() -> None:
    one, other = np.random.default_rng(4).random((2, 4, 6))
    found = compare_rows(rows(one[:3]), rows(other[1:], seeds=[1, 2, 3]))
    assert found.difference == pytest.approx((other[1:3] - one[1:3]).mean())
    with pytest.raises(ConfigError, match="no seed in common"):
        compare_rows(rows(one[:1], seeds=[0]), rows(other[:1], seeds=[1]))


def test_scenes_have_their_weights_and_those_that_one_could_not_measure_do_not_count() -> None:
    first = rows([[1, 2, 3], [1, 5, 9]], np.array([[1.0, 1, 2], [1, 0, 1]]))
    second = rows([[2, 2, 2], [4, 4, 4]], np.array([[1.0, 1, 2], [1, 1, 1]]))
    found = compare_rows(first, second)
    assert found.scenes == 2
    assert found.difference == pytest.approx((2 + 4) / 2 - ((1 + 2 * 3) / 3 + (1 + 9) / 2) / 2)


def test_results_of_a_whole_set_have_the_spread_of_their_seeds() -> None:
    first, second = (
        rows([[1.0]] * 3).query("scene == ''").assign(value=values) for values in ([0.5, 0.6, 0.4], [0.7, 0.9, 0.9])
    )
    found = compare_rows(first, second)
    assert found.difference == pytest.approx(1 / 3)
    assert (found.low, found.high) == pytest.approx((0.2, 0.5))


@pytest.mark.parametrize("name", ["protocol", "frames"])
def test_what_was_measured_in_another_way_does_not_compare(name: str) -> None:
    with pytest.raises(ConfigError, match=f"differ in {name}"):
        compare_rows(rows([[1.0, 2.0]]), rows([[1.0, 2.0]], **{name: "other"}))


def test_holm_by_hand() -> None:
    # 0.01 * 4; 0.02 * 3; 0.03 * 2, and never below an earlier one; 0.9
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    found = holm([0.4, float("nan"), 0.5])
    assert found[0] == pytest.approx(0.8)
    assert np.isnan(found[1])
    assert holm([]) == []


def test_holm_keeps_its_promise_under_the_null() -> None:
    p = np.random.default_rng(0).random((2000, 20))
    assert np.mean([min(holm(each.tolist())) < 0.05 for each in p]) == pytest.approx(0.05, abs=0.015)
