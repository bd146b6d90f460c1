"""Results files round trip; comparisons refuse what does not compare, and find what was planted."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from lorasub.errors import ArtefactError, ConfigError
from lorasub.metrics.comparison import compare_results
from lorasub.metrics.results import Results, SceneResult, SetResult

PROTOCOLS = {"abs_rel": "depth, alignment median per scene", "auroc": "planar or real"}


def results(values: list[float], weights: list[float] | None = None, **changes) -> Results:
    weights = [1.0] * len(values) if weights is None else weights
    scenes = tuple(
        SceneResult(
            scene=f"room/{index}",
            frames=(f"{index}", changes.get("second_frame", "b")),
            values={"abs_rel": value},
            weights={"abs_rel": weight},
            brightness=(changes.get("brightness", 0.5), 0.25),
            notes={"DepthAccuracy": ["no pixel has a true depth"]} if weight == 0 else {},
        )
        for index, (value, weight) in enumerate(zip(values, weights, strict=True))
    )
    found = SetResult(protocols=changes.get("protocols", PROTOCOLS), scenes=scenes, whole={"auroc": 0.75})
    return Results(sets={"test": found}, model={"base_model_id": "nano"}, config={"a": 1}, versions={"lorasub": "0"})


def test_files_give_back_what_was_written(tmp_path: Path) -> None:
    written = results([0.1, math.nan, math.inf], [2.0, 0.0, 1.0])
    path = written.save(tmp_path)
    read = Results.load(tmp_path)
    assert read.to_dict() == written.to_dict()
    assert math.isnan(read.sets["test"].scenes[1].values["abs_rel"])
    assert math.isinf(read.sets["test"].overall["abs_rel"])
    content = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert content["sets"]["test"]["scenes"][1]["notes"]
    assert len(content["config_hash"]) == len(content["sets"]["test"]["frames_hash"]) == 64


def test_overall_is_the_weighted_mean_of_what_was_measured(tmp_path: Path) -> None:
    found = results([0.1, 0.4, math.nan], [3.0, 1.0, 0.0])
    assert found.sets["test"].overall == {"abs_rel": pytest.approx(0.175), "auroc": 0.75}
    found.save(tmp_path)
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["scene"] for row in rows] == ["room/0", "room/1", "room/2", "overall"]
    assert float(rows[-1]["abs_rel"]) == pytest.approx(0.175)
    assert rows[2]["abs_rel"] == ""


def test_the_same_images_on_another_device_compare() -> None:
    (found, *_) = compare_results(results([0.1, 0.2]), results([0.2, 0.3], brightness=0.5004), resamples=100)
    assert found.difference == pytest.approx(0.1)


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"holds no results\.json; name the folder"):
        Results.load(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"format": 2}', '{"format": 1, "sets": {"test": {}}}', "[1", "[]"])
def test_damaged_files_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ArtefactError, match=r"results\.json"):
        Results.load(tmp_path)


def test_a_planted_difference_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    scenes = rng.lognormal(-2, 1, 40)  # scenes differ a lot, methods a little
    better = scenes - 0.01 + rng.normal(0, 0.005, 40)
    same = scenes + rng.normal(0, 0.005, 40)
    first = results(list(scenes))
    planted, whole = compare_results(first, results(list(better)))
    assert planted.clear
    assert planted.difference == pytest.approx(np.mean(better - scenes))
    assert planted.low < planted.difference < planted.high < 0
    # with equal weights it is the interval of a mean: about that of the normal distribution
    half = norm.ppf(0.975) * np.std(better - scenes, ddof=1) / math.sqrt(40)
    assert planted.high - planted.low == pytest.approx(2 * half, rel=0.1)
    assert not compare_results(first, results(list(same)))[0].clear
    assert (whole.first, whole.second, whole.scenes) == (0.75, 0.75, 0)
    assert math.isnan(whole.low)


def test_a_run_equals_itself() -> None:
    found = compare_results(results([0.1, 0.2, 0.4]), results([0.1, 0.2, 0.4]))[0]
    assert (found.difference, found.low, found.high, found.clear) == (0, 0, 0, False)


def test_weights_count() -> None:
    found = compare_results(results([0.1, 0.3], [1, 3]), results([0.2, 0.3], [1, 3]))[0]
    assert found.first == pytest.approx(0.25)
    assert found.difference == pytest.approx(0.025)


def test_scenes_that_one_did_not_measure_are_left_out_of_both() -> None:
    found = compare_results(results([0.1, 0.9, 0.3]), results([0.2, math.nan, 0.4], [1, 0, 1]))[0]
    assert found.scenes == 2
    assert found.first == pytest.approx(0.2)


def test_one_scene_and_divergence_have_no_interval() -> None:
    assert math.isnan(compare_results(results([0.1]), results([0.2]))[0].low)
    found = compare_results(results([0.1, 0.2]), results([0.2, math.inf]))[0]
    assert math.isinf(found.difference)
    assert not found.clear


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (results([0.1, 0.2], protocols={**PROTOCOLS, "abs_rel": "depth, alignment scale"}), "'abs_rel' is measured by"),
        (results([0.1, 0.2], protocols={"abs_rel": PROTOCOLS["abs_rel"]}), "'auroc' is in the first only"),
        (results([0.1, 0.2], brightness=0.6), "2 scenes have other images under the same names: room/0, room/1"),
        (results([0.1, 0.2, 0.3]), "1 scenes are in the second only: room/2"),
        (results([0.1]), "1 scenes are in the first only: room/1"),
        (results([0.1, 0.2], second_frame="c"), "2 scenes have other views"),
    ],
)
def test_what_does_not_compare_is_said(other: Results, words: str) -> None:
    first = results([0.1, 0.2])
    with pytest.raises(ConfigError, match=words) as error:
        compare_results(first, other)
    assert "--force" in str(error.value)
    assert compare_results(first, other, force=True)[0].scenes == min(2, len(other.sets["test"].scenes))


def test_other_sets_do_not_compare() -> None:
    first, other = results([0.1, 0.2]), results([0.1, 0.2])
    renamed = Results(sets={"rooms": other.sets["test"]})
    with pytest.raises(ConfigError, match="'rooms' is in the second only"):
        compare_results(first, renamed)
    with pytest.raises(ConfigError, match="nothing is common"):
        compare_results(first, renamed, force=True)


@pytest.mark.parametrize("force", [False, True])
def test_scenes_of_one_name_are_compared_one_by_one(force: bool) -> None:
    """A set of more scenes than frames takes a frame as the reference several times, each with other views."""
    values = [0.1, 0.5, 0.2, 0.9]
    scenes = tuple(
        SceneResult(scene=f"room/{index % 2}", frames=(str(index),), values={"m": value}, weights={"m": 1.0})
        for index, value in enumerate(values)
    )
    one = Results(sets={"test": SetResult(protocols={"m": "p"}, scenes=scenes)})
    better = tuple(replace(scene, values={"m": scene.values["m"] - 0.05}) for scene in scenes)
    other = Results(sets={"test": SetResult(protocols={"m": "p"}, scenes=better)})
    (same,) = compare_results(one, one, resamples=200, force=force)
    assert (same.first, same.difference, same.low, same.high) == (pytest.approx(np.mean(values)), 0, 0, 0)
    (found,) = compare_results(one, other, resamples=200, force=force)
    assert (found.difference, found.low, found.high) == pytest.approx((-0.05, -0.05, -0.05))
