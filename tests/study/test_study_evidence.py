"""The gates, on results that are made up: a study that loses to a plane says so, one that wins does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from made_up import fill, levels
from studies import small_study

from lorasub.study import Plan, Primary, Store, plan_study
from lorasub.study.evidence import compare_methods, judge_places
from lorasub.study.report import NO_EVIDENCE, write_report
from lorasub.study.table import outcomes, results_table

PRIMARY = Primary(downstream="room", method="mined", reference="lora r=4", dimension=8, outcome="abs_rel", scenes=2)
METHODS = {"mined": 0.10, "lora r=4": 0.20, "lora r=1": 0.20, "from_all": 0.20, "none": 0.5}


def reported(tmp_path: Path, values: Mapping[str, float], **changed: object) -> tuple[Plan, Store, str]:
    """A study whose rows have these means, give or take a little."""
    study = small_study(primary=PRIMARY, seeds=[0, 1, 2], **changed)
    plan, store = plan_study(study), Store(tmp_path)
    fill(plan, store, value=levels(values))
    return plan, store, write_report(plan, store, command="x").read_text()


def test_a_study_that_loses_to_the_plane_says_no_evidence(tmp_path: Path) -> None:
    _, _, text = reported(tmp_path, METHODS | {"a plane": 0.05, "mean of the training scenes": 0.3})
    assert "**No evidence: in none of 1 places does the best method beat the rows that do not look.**" in text
    assert f"| *evidence* |  | {NO_EVIDENCE} | {NO_EVIDENCE} |" in text
    assert "- other: a plane is better" in text
    assert "| *the best one, against none* |  | better | better |" in text  # which does not make it evidence
    assert "**0.1" not in text  # nobody is best where nothing counts
    assert "**No evidence here**: no place counts." in text


def test_a_study_that_wins_does_not(tmp_path: Path) -> None:
    plan, store, text = reported(tmp_path, METHODS | {"a plane": 0.4, "mean of the training scenes": 0.3})
    assert NO_EVIDENCE not in text.lower().replace("the table says *no evidence here*", "")
    assert "| *evidence* |  | counts | counts |" in text
    assert "| *the best one, against none* |  | better | better |" in text
    assert "1 of 1 places count. There it is clearly better in 1, clearly worse in 0" in text
    own = outcomes(results_table(plan, store), plan)
    found = compare_methods(own, plan.study, judge_places(own, plan.study))
    # three other methods at two numbers of training scenes, in the one place that chose no learning rate
    assert set(found["set"]) == {"other"}
    assert len(found) == 6
    assert found[found["label"] == "mined"]["clear"].all()
    assert (found["p_holm"] >= found["p"]).all()
    (alone,) = found[found["primary"]].itertuples()  # what was fixed before is not corrected for what was not
    assert (alone.label, alone.reference, alone.scenes) == ("mined", "lora r=4", 2)
    assert alone.p_holm == alone.p
    rest = found[~found["primary"]]
    assert rest["p_holm"].min() == pytest.approx(5 * rest["p"].min())


def test_the_mean_of_the_training_scenes_has_to_be_beaten_too(tmp_path: Path) -> None:
    plan, store, text = reported(tmp_path, METHODS | {"a plane": 0.4, "mean of the training scenes": 0.1})
    assert "mean of the training scenes is" in text
    places = judge_places(outcomes(results_table(plan, store), plan), plan.study)
    assert not places["counts"].any()


def test_where_a_row_that_does_not_look_is_missing_nothing_counts(tmp_path: Path) -> None:
    study = small_study(primary=PRIMARY)
    plan, store = plan_study(study), Store(tmp_path)
    values = METHODS | {"a plane": 0.4, "mean of the training scenes": 0.3}
    fill(plan, store, value=levels(values), without=("test room plane",))
    text = write_report(plan, store, command="x").read_text()
    assert "a plane was not measured" in text
    assert "**No evidence" in text


def test_the_model_as_it_is_may_be_a_reference(tmp_path: Path) -> None:
    study = small_study(primary=PRIMARY, seeds=[0, 1, 2], references=["none"])
    others = dict.fromkeys(("other", "third"), study.downstream["room"].tests["other"])
    room = dataclasses.replace(study.downstream["room"], tests=others, pooled=["other", "third"], scenes=[2])
    plan, store = plan_study(dataclasses.replace(study, downstream={"room": room})), Store(tmp_path)
    fill(plan, store, value=levels(METHODS | {"none": 0.15, "a plane": 0.4, "mean of the training scenes": 0.4}))
    own = outcomes(results_table(plan, store), plan)
    found = compare_methods(own, plan.study, judge_places(own, plan.study))
    against = found[found["reference"] == "none"].set_index(["set", "label"])
    assert set(against.index.get_level_values("label")) == {"mined", "lora r=4", "lora r=1", "from_all"}
    for name, sign in (("mined", -1), ("lora r=4", 1)):
        assert np.sign(against.loc[("other", name), "difference"]) == sign
        of = own[(own["set"] != "test") & (own["scene"] == "")]
        means = np.log(
            of[of["label"] == name].groupby("set")["value"].apply(lambda values: np.exp(np.log(values).mean()))
        )
        expected = np.exp((means - np.log(of[of["label"] == "none"].set_index("set")["value"])).mean())
        assert against.loc[("pooled", name), "difference"] == pytest.approx(expected)
        assert against.loc[("pooled", name), "seeds"] == 3


def test_two_seeds_make_nothing_clear(tmp_path: Path) -> None:
    plan, store = plan_study(small_study(primary=PRIMARY)), Store(tmp_path)
    fill(plan, store, value=levels(METHODS | {"a plane": 0.4, "mean of the training scenes": 0.3}))
    own = outcomes(results_table(plan, store), plan)
    found = compare_methods(own, plan.study, judge_places(own, plan.study))
    assert (found["p_holm"] < 0.05).any()
    assert not found["clear"].any()
    assert "clearly better in 0" in write_report(plan, store, command="x").read_text()


def test_larger_may_be_better(tmp_path: Path) -> None:
    study = small_study()
    room = dataclasses.replace(study.downstream["room"], larger_is_better=True)
    values = METHODS | {"mined": 0.9, "a plane": 0.4, "mean of the training scenes": 0.3}
    plan, store = plan_study(dataclasses.replace(study, downstream={"room": room})), Store(tmp_path)
    fill(plan, store, value=levels(values))
    places = judge_places(outcomes(results_table(plan, store), plan), plan.study)
    assert set(places["best"]) == {"mined"}
    assert places["counts"].all()


def test_a_basis_of_another_dimension_than_was_fixed_is_told(tmp_path: Path) -> None:
    values = METHODS | {"a plane": 0.4, "mean of the training scenes": 0.3}
    _, _, text = reported(tmp_path, values)
    assert "Not as fixed" not in text
    plan, store = plan_study(small_study(primary=dataclasses.replace(PRIMARY, dimension=16))), Store(tmp_path / "b")
    fill(plan, store, value=levels(values))
    told = write_report(plan, store, command="x").read_text()
    assert "**Not as fixed**: the basis has 8.0 and 8.0 dimensions" in told


def test_a_study_without_a_question_says_that_it_explores(tmp_path: Path) -> None:
    plan, store = plan_study(small_study()), Store(tmp_path)
    fill(plan, store, value=levels(METHODS | {"a plane": 0.4, "mean of the training scenes": 0.3}))
    assert "it tests nothing" in write_report(plan, store, command="x").read_text()


def test_nobody_is_clearly_better_where_all_are_equal(tmp_path: Path) -> None:
    """Fifty studies of equal methods: corrected, differences are found in about one of twenty."""
    study = small_study(references=["lora r=4"], seeds=[0, 1, 2])
    plan = plan_study(study)
    rng, found = np.random.default_rng(0), 0
    values = dict.fromkeys(METHODS, 0.2) | {"none": 0.5, "a plane": 0.4, "mean of the training scenes": 0.4}
    store = Store(tmp_path)
    fill(plan, store, value=levels(values, rng))
    table = outcomes(results_table(plan, store), plan)
    places = judge_places(table, study)
    for _ in range(50):
        noise = 0.2 + 0.02 * rng.standard_normal(len(table))
        equal = table.assign(value=table["value"].where(table["kind"] != "method", noise))
        found += bool(compare_methods(equal, study, places)["clear"].any())
    assert found <= 6  # one in twenty, and what chance adds to that


def test_enough_comparisons_do_not_make_a_difference_unclear(tmp_path: Path) -> None:
    """The smallest p-value of a bootstrap, 2 / 10,000, times 400 would be above any level."""
    study = small_study(seeds=[0, 1, 2], references=["lora r=4", "none"])
    others = {f"set{number}": study.downstream["room"].tests["other"] for number in range(40)}
    room = dataclasses.replace(study.downstream["room"], tests=others)
    study = dataclasses.replace(study, downstream={"room": room})
    plan, store = plan_study(study), Store(tmp_path)
    fill(plan, store, value=levels(METHODS | {"a plane": 0.9, "mean of the training scenes": 0.9}))
    own = outcomes(results_table(plan, store), plan)
    found = compare_methods(own, study, judge_places(own, study))
    assert len(found) > 400
    assert found[(found["label"] == "mined") & (found["reference"] == "lora r=4")]["clear"].all()


@pytest.mark.parametrize(("gain", "specific"), [(0.5, True), (0.5, False), (0.1, True)])
def test_the_causal_test_needs_a_gain_and_compares_equal_energy(tmp_path: Path, gain: float, specific: bool) -> None:
    from lorasub.study import Removal
    from lorasub.study.subspace_tables import removal_table
    from lorasub.study.table import Finished

    plan, store = plan_study(small_study(partitions=4, removal=Removal())), Store(tmp_path)
    values = {}
    for removal in plan.removals:
        values |= {removal.without_adapter.key: 0.4, removal.whole.key: 0.4 * (1 - gain)}
        for removed, step in removal.rests.items():
            values[step.key] = 0.4 * (1 - gain) + 0.02 + 0.05 * (removed == removal.attribute and specific)
    fill(plan, store, value=lambda step, scene: values.get(step.key, 0.3) + 0.001 * scene)
    table, tests = removal_table(Finished(plan, store))
    assert table["attribute"].tolist() == ["geometry", "texture"]
    for row in table.to_dict("records"):
        if gain < 0.2:
            assert row["verdict"] == "no gain to take away: no evidence here"
        else:
            assert row["verdict"].endswith(": specific" if specific else "nothing specific")
            assert row["energy taken"] == 0.25
    assert tests == (0 if gain < 0.2 else 4)
    assert "## Without a subspace" in write_report(plan, store, command="x").read_text()
