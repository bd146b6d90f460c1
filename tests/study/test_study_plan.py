"""Which steps a study means, and what a change of its settings changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies import SCENES, projected, small_study

from lorasub.errors import ConfigError
from lorasub.study import (
    Ablation,
    AdapterFits,
    Basis,
    Downstream,
    GradientBasis,
    Graph,
    MeanBasis,
    Method,
    Output,
    Plan,
    Primary,
    Step,
    Study,
    Variant,
    plan_study,
)
from lorasub.study.reading import read_study
from lorasub.study.specs import replaced
from lorasub.study.steps.training import Fit, Scoring, SelectRate

PRIMARY: dict[str, Any] = {
    **{"downstream": "room", "method": "mined", "reference": "lora r=1", "dimension": 8, "outcome": "abs_rel"},
    "scenes": 2,
}
ALL_BUT_BASES = "name: x\nbackbone: {}\ndownstream: {}\nmethods: {none: {}}\n"
STUDIES = sorted((Path(__file__).resolve().parents[2] / "configs" / "study").glob("*.yaml"))


def kinds(plan: Plan) -> dict[str, int]:
    found: dict[str, int] = {}
    for step in plan.graph.values():
        found[step.kind] = found.get(step.kind, 0) + 1
    return found


def keys_of(plan: Plan, *words: str) -> set[str]:
    """Keys of the steps whose name begins with one of these."""
    return {step.key for step in plan.graph.values() if step.name.startswith(words)}


def new_keys(study: Study, setting: str, value: Any) -> tuple[set[str], set[str]]:
    """Names of the steps that the change brings and of those that it makes superfluous."""
    before, after = (plan_study(changed).graph for changed in (study, replaced(study, setting, value)))
    return {after[key].name for key in after.keys() - before}, {before[key].name for key in before.keys() - after}


def test_steps_are_counted_as_by_hand() -> None:
    plan = plan_study(small_study())
    # 3 adapters of geometry, texture and all, again for the second seed; two methods of one rate, two (the ranks of
    # LoRA) of three; 4 methods and the mean scene x 2 numbers of scenes x 2 seeds, each tested on 2 sets, and twice the
    # model as it is and a plane
    assert kinds(plan) == {
        "fit": 2 * 9,
        "mine": 2 * 3,
        "combine": 2 * 2,
        "overlap": 1,
        "constant": 4,
        "lr_trial": 2 * 1 + 2 * 3,
        "select_lr": 4,
        "finetune": 16,
        "test": 32 + 8 + 4,
    }
    assert len(plan.cells) == 44
    assert {cell.arm.label for cell in plan.cells if cell.arm} == {"lora r=1", "lora r=4", "mined", "from_all"}
    assert {cell.row for cell in plan.cells} == {"method", "zero-shot", "plane", "mean"}


def test_every_table_has_rows_that_do_not_look() -> None:
    plan = plan_study(small_study(ablations={"x": Ablation(setting="mining.alpha", values=[2.0], methods=["mined"])}))
    places = {(cell.variant, cell.test, cell.scenes, cell.seed) for cell in plan.cells if cell.row == "method"}
    assert places == {(c.variant, c.test, c.scenes, c.seed) for c in plan.cells if c.row == "mean"}
    for row in ("plane", "zero-shot"):
        assert {place[:2] for place in places} == {(c.variant, c.test) for c in plan.cells if c.row == row}
    # the mean of exactly the scenes that the methods of that seed learn from
    for cell in plan.cells:
        if cell.row == "mean":
            spec = plan.graph[plan.graph[cell.step.key].spec.constant.key].spec
            arguments = spec.data["init_args"]
            assert (arguments["scenes"], arguments["seed"]) == (cell.scenes, cell.seed)


def test_a_basis_from_gradients_needs_no_adapters() -> None:
    bases = {"steep": GradientBasis(source="gradients", dim=6, attributes=["texture"], partitions=2, scenes=3)}
    methods = {"none": Method(), "steep": Method(adapter=[projected("steep")])}
    plan = plan_study(small_study(bases=bases, methods=methods))
    first, second = (step for step in plan.graph.values() if step.kind == "gradients")
    assert [data["init_args"]["scenes"] for data in first.spec.data["texture"]] == [3, 3]
    inner = [data["init_args"]["data"]["init_args"] for data in second.spec.data["texture"]]
    assert [(each["attribute"], each["partition"], each["seed"]) for each in inner] == [
        *(("texture", 0, 1000), ("texture", 1, 1000))
    ]
    assert plan.dims[first.key] == 6
    assert not first.inputs
    (fits,) = {len(step.inputs) for step in plan.graph.values() if step.kind == "lr_trial"}
    assert fits == 1


def test_the_mean_of_adapters_is_an_adapter_or_a_start() -> None:
    bases = {"mean": MeanBasis(source="mean"), "combined": Basis()}
    start = {"class_path": "ProjectedLoRA", "init_args": {"basis": "combined", "init_from": "mean"}}
    methods = {
        "none": Method(),
        "mean": Method(adapter=[{"class_path": "MeanAdapter", "init_args": {"basis": "mean"}}]),
        "from_mean": Method(adapter=[start]),
        "from_zero": Method(adapter=[projected("combined")]),
    }
    plan = plan_study(small_study(bases=bases, methods=methods))
    first, second = (step for step in plan.graph.values() if step.kind == "mean")
    assert [(each.attribute, each.partition) for each in first.spec.adapters] == [
        (attribute, partition) for attribute in ("geometry", "texture") for partition in range(3)
    ]
    assert first.inputs != second.inputs  # drawn again with the seed
    tunings = {}
    for step in plan.graph.values():
        if step.kind == "finetune" and "seed=0" in step.name:
            tunings[step.name.split()[2]] = step.spec.training.adapters[0]
    assert (tunings["mean"].basis.key, tunings["mean"].start) == (first.key, None)
    assert tunings["from_mean"].start.key == first.key
    assert tunings["from_mean"].basis == tunings["from_zero"].basis
    assert [tunings[name].changes_nothing_at_first for name in methods if name != "none"] == [True, False, True]


def test_bases_are_drawn_again_with_every_seed() -> None:
    def seeds(**changed: Any) -> tuple[set[tuple[int, int]], set[int]]:
        random = Method(adapter=[{"class_path": "RandomBasis", "init_args": {"dim": 4}}])
        methods = small_study().methods | {"random": random}
        plan = plan_study(small_study(methods=methods, **changed))
        fits = [step.spec.training for step in plan.graph.values() if step.kind == "fit"]
        random_fits = [s.spec.training for s in plan.graph.values() if s.kind == "finetune" and " random " in s.name]
        drawn = {choice.settings["init_args"]["seed"] for each in random_fits for choice in each.adapters}
        return {(each.seed, each.data["init_args"].get("seed", 0)) for each in fits}, drawn

    assert seeds() == ({(0, 0), (1, 1000)}, {0, 1})
    assert seeds(basis_draws="once") == ({(0, 0)}, {0})


def test_the_same_study_has_the_same_keys() -> None:
    first, second = (plan_study(small_study()) for _ in range(2))
    assert list(first.graph) == list(second.graph)


def test_inputs_come_before_what_needs_them() -> None:
    seen: set[str] = set()
    for step in plan_study(small_study()).graph.values():
        assert seen.issuperset(step.inputs)
        seen.add(step.key)


@pytest.mark.parametrize(
    ("setting", "value", "changed"),
    [
        ("adapters.steps", 11, ("fit", "mine", "combine", "overlap", "lr_trial room mined", "lr_trial room from_all")),
        # an argument that was left to its default
        (
            "adapters.data.init_args.bases",
            8,
            ("fit", "mine", "combine", "overlap", "lr_trial room mined", "lr_trial room from_all"),
        ),
        ("mining.alpha", 2.0, ("mine", "combine", "overlap", "lr_trial room mined", "lr_trial room from_all")),
        ("mining.overlap_dim", 8, ("overlap",)),
        ("bases.all.dim", 6, ("mine all", "combine all", "lr_trial room from_all")),
        ("bases.combined.tolerance", 0.1, ("combine combined", "lr_trial room mined")),
        ("downstream.room.steps", 6, ("lr_trial room",)),
    ],
)
def test_a_changed_setting_changes_its_own_steps_and_their_descendants_and_no_other(
    setting: str, value: Any, changed: tuple[str, ...]
) -> None:
    plan = plan_study(small_study())
    touched = keys_of(plan, *changed)
    expected = set(touched)
    for step in plan.graph.values():  # in an order in which inputs come first
        if expected & step.inputs:
            expected.add(step.key)
    after = set(plan_study(replaced(small_study(), setting, value)).graph)
    assert plan.graph.keys() - after == expected
    assert expected


@pytest.mark.parametrize("setting", ["adapters.length", "bases.combined.size", "adapters.data.arguments.bases"])
def test_a_setting_that_is_not_there_is_named(setting: str) -> None:
    with pytest.raises(ConfigError, match="there is no setting"):
        replaced(small_study(), setting, 1)


def test_partitions_can_have_scenes_of_their_own() -> None:
    def seeds(**changed: Any) -> list[int | None]:
        plan = plan_study(small_study(adapters=AdapterFits(steps=10, **changed)))
        fits = [s for s in plan.graph.values() if s.name.startswith("fit texture") and "draw" not in s.name]
        return [step.spec.training.data["init_args"].get("seed") for step in fits]

    assert seeds() == [None] * 3
    assert seeds(separate_seeds=True) == [None, 1, 2]
    data = {"class_path": "SyntheticScenes", "init_args": {"seed": 7}}
    assert seeds(separate_seeds=True, data=data) == [7, 8, 9]


def test_a_placebo_has_other_scenes_for_every_label_and_no_attribute() -> None:
    plan = plan_study(small_study(adapters=AdapterFits(steps=10, placebo=True), basis_draws="once"))
    fits = [step.spec.training.data["init_args"] for step in plan.graph.values() if step.kind == "fit"]
    assert {data["attribute"] for data in fits} == {"all"}
    # two labels of three partitions each, and the three of `all` that a basis asks for
    assert sorted(data["partition"] for data in fits) == list(range(9))


def test_another_seed_adds_and_takes_nothing_away() -> None:
    brought, superfluous = new_keys(small_study(), "seeds", [0, 1, 2])
    assert superfluous == set()
    assert brought
    assert all("seed=2" in name or "draw=2" in name for name in brought)


def test_one_more_partition_keeps_the_adapters_that_are_there() -> None:
    brought, superfluous = new_keys(small_study(), "partitions", 4)
    assert {name for name in brought if name.startswith("fit")} == {
        f"fit {a} 3{draw}" for a in ("geometry", "texture", "all") for draw in ("", " draw=1")
    }
    assert not any(name.startswith("fit") for name in superfluous)
    assert any(name.startswith("mine") for name in superfluous)


def test_the_name_of_a_step_is_not_part_of_it() -> None:
    step = Step(kind="mine", name="one", spec=Output(kind="a", key="b"), code="c")
    assert dataclasses.replace(step, name="other").key == step.key
    assert dataclasses.replace(step, code="d").key != step.key


def test_an_ablation_shares_what_does_not_depend_on_it() -> None:
    ablation = Ablation(setting="mining.alpha", values=[1.0, 2.0], methods=["mined"])
    plain, ablated = plan_study(small_study()), plan_study(small_study(ablations={"alpha": ablation}))
    # 1.0 is what the study has anyway
    added = [step for step in ablated.graph.values() if step.key not in plain.graph]
    kinds = {"mine", "combine", "overlap", "lr_trial", "select_lr", "finetune", "test"}
    assert {step.kind for step in added} == kinds
    assert all("mining.alpha=2.0" in step.name for step in added)
    one, two = (Variant(ablation="alpha", setting="mining.alpha", value=value) for value in (1.0, 2.0))
    assert {cell.variant for cell in ablated.cells} == {None, one, two}
    same = {cell.step for cell in ablated.cells if cell.variant == one}
    assert same <= {cell.step for cell in ablated.cells if cell.variant is None}


def test_the_rate_is_chosen_on_other_fits_than_those_that_are_reported() -> None:
    plan = plan_study(small_study(tuning_seeds=[1000, 1001]))
    reported = {cell.finetune.key for cell in plan.cells if cell.finetune}
    for step in plan.graph.values():
        if isinstance(step.spec, SelectRate):
            trials = [plan.graph[key] for key in step.inputs]
            assert {trial.spec.training.seed for trial in trials} == {1000, 1001}
            # every rate with every seed, and on the scenes of that seed
            fits = [(each.spec.learning_rate, each.spec.training.seed) for each in trials]
            assert sorted(fits) == sorted((each.learning_rate, each.seed) for each in step.spec.trials)
            assert len(set(fits)) == len(fits) == 2 * len({rate for rate, _ in fits})
            assert all(each.spec.training.data["init_args"]["seed"] == each.spec.training.seed for each in trials)
            assert not reported & step.inputs
            assert all(isinstance(trial.spec, Fit) for trial in trials)  # and none of them has seen a test


def test_parts_of_a_split_can_be_combined() -> None:
    method = Method(adapter=[projected("own")])
    study = small_study(bases={"own": Basis(part="common+specific")}, methods={"none": Method(), "own": method})
    plan = plan_study(dataclasses.replace(study, basis_draws="once"))
    (split,) = [step for step in plan.graph.values() if step.kind == "split"]
    found = {(each.attribute, each.partition) for each in split.spec.adapters}
    assert found == {(attribute, i) for attribute in ("geometry", "texture") for i in range(3)}


def test_a_step_without_its_input_is_refused() -> None:
    test = Scoring(data={}, checkpoint=Output(kind="finetune", key="missing"))
    with pytest.raises(ConfigError, match="needs the step missing"):
        Graph().add(Step(kind="test", name="t", spec=test))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"methods": {"lora": Method(adapter=[{"class_path": "LoRA"}])}}, "none"),
        ({"seeds": [0, 1000]}, "1000 is among both tuning_seeds"),
        ({"tuning_seeds": []}, "tuning_seeds must be a list of different values"),
        ({"partitions": 1}, "partitions"),
        ({"downstream": {"room": Downstream(data=SCENES, methods=["lara"])}}, "lara"),
        ({"ablations": {"x": Ablation(setting="mining.alhpa", values=[1], methods=["mined"])}}, "did you mean 'alpha'"),
        ({"references": ["lora r=2"]}, "references.*did you mean 'lora r="),
        ({"primary": PRIMARY | {"method": "mind"}}, "primary.method.*did you mean 'mined'"),
        ({"primary": PRIMARY | {"outcome": "delta1"}}, "primary.outcome.*abs_rel"),
        ({"primary": PRIMARY | {"scenes": 3}}, "primary.scenes.*'3'"),
    ],
)
def test_settings_that_do_not_fit_are_told(changed: dict[str, Any], told: str) -> None:
    if "primary" in changed:
        changed = {"primary": Primary(**changed["primary"])}
    with pytest.raises(ConfigError, match=told):
        small_study(**changed)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_that_comes_along_is_planned(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert f"lorasub study run configs/study/{path.name}" in text
    plan = plan_study(read_study(str(path)))
    assert {cell.downstream for cell in plan.cells} == set(plan.study.downstream)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\nbackbone: {}\nmethods: {}\n", "'downstream' is missing"),
        ("name: x\nbackbone: {}\nmethods: {}\ndownstream: {}\nseed: [0]\n", "did you mean 'seeds'"),
        (
            "name: x\nbackbone: {}\ndownstream: {}\nmethods: {}\nmining: {alpha: high}\n",
            "mining.alpha should be a valid",
        ),
        ("name: x\nbackbone: {}\ndownstream: {}\nmethods: {a: {sweep: {r: 1}}}\n", "methods.a.sweep.r should.*not 1"),
        (
            "name: x\nbackbone: {}\ndownstream: {}\nmethods: {a: {swep: {r: 1}}}\n",
            "methods.a.swep'; did you mean 'sweep",
        ),
        ("name: x\nbackbone: {}\ndownstream: {}\nmethods: {none: {}}\nadapters: {steps: 0}\n", "adapters: .*not 0"),
        (
            "name: x\nbackbone: {}\ndownstream: {}\nmethods: {}\nbases: {a: {part: row}}\n",
            "bases.a.part should be.*'row'",
        ),
        (f"{ALL_BUT_BASES}bases: {{a: {{source: gradients, dim: 4, budget: 9}}}}\n", "not both"),
        (f"{ALL_BUT_BASES}bases: {{a: {{source: gradients, part: specific}}}}\n", "need a number as dim"),
        (f"{ALL_BUT_BASES}bases: {{a: {{source: activations, columns: kfac}}}}\n", "need gradients"),
        (f"{ALL_BUT_BASES}bases: {{a: {{source: magic}}}}\n", "bases.a.source should be one of.*not 'magic'"),
        ("name: [\n", "no YAML"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_study(tmp_path / "study.yaml")


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "name: x\nbackbone: {}\nmethods: {none: {}}\ndownstream: {}\nlearning_rates: [1e-3, 2.5E-4, 1]\n"
    )
    assert read_study(tmp_path / "study.yaml").learning_rates == [0.001, 0.00025, 1.0]


def test_a_study_may_start_from_another(tmp_path: Path) -> None:
    task = {"data": {"class_path": "SyntheticScenes"}, "steps": 5}
    base = {"name": "base", "backbone": {"class_path": "VGGT"}, "methods": {"none": {}}, "downstream": {"a": task}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**base, "seeds": [0, 1, 2]}))
    middle = {"base": "base.yaml", "seeds": [7], "downstream": {"a": {"steps": 9}, "b": task}}
    (tmp_path / "middle.yaml").write_text(yaml.safe_dump(middle))
    (tmp_path / "top.yaml").write_text(yaml.safe_dump({"base": "middle.yaml", "name": "top"}))
    study = read_study(tmp_path / "top.yaml")
    assert (study.name, study.seeds) == ("top", [7])
    assert {name: found.steps for name, found in study.downstream.items()} == {"a": 9, "b": 5}
    assert study.downstream["a"].data == {"class_path": "SyntheticScenes"}

    (tmp_path / "base.yaml").write_text("base: top.yaml")
    with pytest.raises(ConfigError, match="based on itself"):
        read_study(tmp_path / "top.yaml")
    (tmp_path / "top.yaml").write_text("base: gone.yaml")
    with pytest.raises(ConfigError, match=r"no config gone\.yaml"):
        read_study(tmp_path / "top.yaml")


def test_a_study_of_the_package_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smoke = next(path for path in STUDIES if path.name == "smoke.yaml")
    monkeypatch.chdir(tmp_path)
    assert read_study("study/smoke") == read_study("configs/study/smoke.yaml") == read_study(smoke)
    with pytest.raises(ConfigError, match="no config study/smokes; did you mean 'study/smoke'"):
        read_study("study/smokes")
    Path("mine.yaml").write_text("base: study/smoke\nname: mine\n")
    assert read_study("mine.yaml").methods == read_study(smoke).methods


def test_null_takes_away_what_a_base_has_by_name(tmp_path: Path) -> None:
    smoke = next(path for path in STUDIES if path.name == "smoke.yaml")
    (tmp_path / "mine.yaml").write_text(
        f"base: {smoke}\nmethods: {{mined: null}}\nbases: {{steep: null}}\nprimary: null\n"
        "downstream: {transparent: {tests: {synthetic: null}}}\ngradient_test: {shifts: {lighting: null}}\n"
    )
    study = read_study(tmp_path / "mine.yaml")
    assert not study.downstream["transparent"].tests
    assert study.gradient_test is not None
    assert not study.gradient_test.shifts
    assert set(study.methods) == {"none", "lora"}
    assert "steep" not in study.bases


def test_null_turns_off_what_a_base_asks_for(tmp_path: Path) -> None:
    smoke = next(path for path in STUDIES if path.name == "smoke.yaml")
    assert read_study(smoke).removal is not None
    (tmp_path / "mine.yaml").write_text(f"base: {smoke}\nname: mine\nremoval: null\n")
    assert read_study(tmp_path / "mine.yaml").removal is None
