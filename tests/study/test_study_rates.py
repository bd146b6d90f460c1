"""The choice of a learning rate, from files that trials would leave."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lorasub.errors import NumericalError
from lorasub.files import read_json, write_json
from lorasub.study import Output, Workplace
from lorasub.study.steps.training import RateTrial, SelectRate, select_rate

#: Rate -> seed -> outcome after the fit; None where it diverged.
Outcomes = Mapping[float, Mapping[int, float | None]]


def chosen(root: Path, outcomes: Outcomes, *, larger_is_better: bool = False) -> dict[str, Any]:
    """Writes what the trials would leave, lets the step choose, and returns what it writes."""
    trials, number = [], itertools.count()
    place = Workplace(folder=root / "steps" / "select_lr" / "here", root=root)
    place.folder.mkdir(parents=True)
    for rate, by_seed in outcomes.items():
        for seed, value in by_seed.items():
            trial = Output(kind="lr_trial", key=f"{next(number):064d}"[::-1])
            (place.of(trial) / "run").mkdir(parents=True)
            write_json(place.of(trial) / "record.json", {"measured": {"diverged": "NaN"} if value is None else {}})
            if value is not None:
                metrics = {"val/abs_rel": {"before": 0.9, "after": value}}
                write_json(place.of(trial) / "run" / "before_after.json", {"metrics": metrics})
            trials.append(RateTrial(learning_rate=rate, seed=seed, trial=trial))
    spec = SelectRate(trials=tuple(trials), metric="val/abs_rel", larger_is_better=larger_is_better)
    told = select_rate(spec, place)
    found: dict[str, Any] = read_json(place.folder / "choice.json")
    assert {name: found[name] for name in told} == told
    return found


def test_the_mean_over_seeds_decides(tmp_path: Path) -> None:
    # the single best fit (0.10) and the best of the first seed (0.20) are of the first rate; means are .35, .25, .30
    outcomes = {1e-3: {7: 0.20, 8: 0.10, 9: 0.75}, 1e-2: {7: 0.25, 8: 0.25, 9: 0.25}, 1e-1: {7: 0.3, 8: 0.3, 9: 0.3}}
    found = chosen(tmp_path, outcomes)
    assert (found["learning_rate"], found["at_edge"]) == (1e-2, False)
    assert found["tried"] == pytest.approx({"0.001": 0.35, "0.01": 0.25, "0.1": 0.30})
    assert found["by_seed"] == {
        "0.001": {"7": 0.20, "8": 0.10, "9": 0.75},
        "0.01": {"7": 0.25, "8": 0.25, "9": 0.25},
        "0.1": {"7": 0.3, "8": 0.3, "9": 0.3},
    }


def test_larger_may_be_better_and_ends_of_the_grid_are_marked(tmp_path: Path) -> None:
    outcomes = {1e-3: {7: 0.20, 8: 0.10}, 1e-2: {7: 0.25, 8: 0.25}, 1e-1: {7: 0.9, 8: 0.1}}
    found = chosen(tmp_path, outcomes, larger_is_better=True)
    assert (found["learning_rate"], found["at_edge"]) == (1e-1, True)


def test_a_rate_that_diverged_with_any_seed_is_out(tmp_path: Path) -> None:
    found = chosen(tmp_path, {1e-3: {7: 0.4, 8: 0.5}, 1e-2: {7: 0.1, 8: None}, 1e-1: {7: float("nan"), 8: 0.1}})
    assert (found["learning_rate"], found["at_edge"]) == (1e-3, True)
    assert found["tried"] == {"0.001": pytest.approx(0.45), "0.01": None, "0.1": None}
    assert found["by_seed"]["0.01"] == {"7": 0.1, "8": None}


def test_one_seed_is_its_own_mean(tmp_path: Path) -> None:
    found = chosen(tmp_path, {1e-3: {1000: 0.4}, 1e-2: {1000: 0.3}, 1e-1: {1000: 0.5}})
    assert (found["learning_rate"], found["at_edge"]) == (1e-2, False)


def test_where_every_rate_diverged_nothing_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(NumericalError, match=r"no rate of \[0\.001, 0\.01\].*add smaller ones"):
        chosen(tmp_path, {1e-3: {7: 0.4, 8: None}, 1e-2: {7: None, 8: 0.1}})
