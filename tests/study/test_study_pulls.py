"""The gradient test of a study: which sets it compares, and what the report says of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import fill, pulled
from studies import SIZES, small_study

from lorasub.backbones import VGGT
from lorasub.data import SyntheticScenes
from lorasub.errors import ConfigError
from lorasub.scenes.presets import shifted
from lorasub.scenes.ranges import SceneRanges
from lorasub.study import Graph, Store, Study, TrainingScenes, Workers, plan_study, run_graph
from lorasub.study.gradient_specs import GradientTest, ShiftedSets
from lorasub.study.pull_tables import NOT_OWN, OWN, pull_answer, pull_rows
from lorasub.study.report import write_report
from lorasub.study.steps.pulls import ComparePulls, Pull
from lorasub.subspaces.gradients import StoredGradients
from lorasub.tasks import GeometryTask

TEST = GradientTest(
    doses=[0.5, 1.0], shifts={"texture": {"fine": ["scale", "warp"]}}, partitions=4, scenes=4, placebo=8
)


def test_a_shift_alone_moves_its_ranges_to_where_the_dose_says() -> None:
    found = ShiftedSets(attribute="camera", dose=0.5, shift="roll", moved=("roll",)).arguments(3)
    assert found["ranges"] == {"camera": {"roll": list(shifted(SceneRanges(), "camera", 0.5).camera.roll)}}
    assert found["dose"] == 0.0  # nothing else is moved


def test_every_kind_of_set_is_planned_once_with_partitions_of_its_own() -> None:
    plan = plan_study(small_study(gradient_test=TEST, compare_adapters=False))
    pulls = [step.spec for step in plan.graph.values() if step.kind == "pull"]
    assert len(pulls) == 2 * 2 + 1 + 1  # two attributes at two doses, one shift, the placebo
    placebo = pulls[-1]
    assert isinstance(placebo, Pull)
    given = [data["init_args"]["data"]["init_args"] for data in placebo.data]
    assert [each["seed"] for each in given] == list(range(8))
    assert {each["attribute"] for each in given} == {"all"}
    for spec in pulls[:-1]:
        assert [data["init_args"]["data"]["init_args"]["partition"] for data in spec.data] == [0, 1, 2, 3]
    assert plan.pulls is not None
    compared = plan.graph[plan.pulls.key].spec
    assert isinstance(compared, ComparePulls)
    assert sum(group.sets for group in compared.groups) == 5 * 4 + 8
    assert not plan.comparisons


def test_adapters_are_not_fitted_where_nothing_needs_them() -> None:
    study = small_study(compare_adapters=False, downstream={}, gradient_test=TEST)
    assert not [step for step in plan_study(study).graph.values() if step.kind == "fit"]


@pytest.mark.parametrize(
    ("shifts", "told"),
    [
        ({"sound": {"loud": ["volume"]}}, "'sound' is none of geometry"),
        ({"camera": {"odd": ["rol"]}}, "rol.* is none of fov, roll"),
    ],
)
def test_unknown_shifts_are_told(shifts: dict[str, dict[str, list[str]]], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        GradientTest(shifts=shifts)


def test_an_attribute_has_a_direction_only_beyond_others_and_beyond_the_placebo() -> None:
    names = ["geometry", "texture", "camera"]
    sets, cosines = pulled({(name, 1.0): 0.6 if name == "geometry" else 0.2 for name in names}, between=0.2, placebo=12)
    table = pull_rows(sets, cosines).set_index("sets")
    assert table.loc["geometry", "verdict"] == OWN
    assert table.loc["geometry", "p others"] == pytest.approx(1 / 495)  # 4 of 12 sets
    assert table.loc["geometry", "p placebo"] == pytest.approx(1 / 1820)  # 4 of 16
    assert {table.loc[name, "verdict"] for name in ["texture", "camera", "placebo 1", "placebo 2", "placebo 3"]} == {
        NOT_OWN
    }
    assert "1 of 3 attributes have a direction of their own (geometry)" in pull_answer(table.reset_index())


def test_sets_that_agree_with_everything_have_no_direction_of_their_own() -> None:
    sets, cosines = pulled({(name, 1.0): 0.9 for name in ("geometry", "texture", "camera")}, between=0.9, placebo=12)
    table = pull_rows(sets, cosines)
    assert set(table["verdict"]) == {NOT_OWN}
    assert "0 of 3 attributes have a direction of their own (none)" in pull_answer(table)


def test_a_placebo_of_one_group_has_no_rows_of_its_own() -> None:
    sets, cosines = pulled({(name, 1.0): 0.3 for name in ("geometry", "camera")}, between=0.1, placebo=4)
    assert pull_rows(sets, cosines)["sets"].tolist() == ["geometry", "camera"]


def test_steps_gather_the_gradients_of_halves_and_compare_them(tiny_study: Study) -> None:
    """Against backward passes by hand: batches go to the halves in turn."""
    wanted = GradientTest(doses=[1.0], partitions=2, scenes=4, placebo=2)
    plan, graph = plan_study(replace(tiny_study, gradient_test=wanted)), Graph()
    for step in plan.graph.values():
        if step.kind in ("pull", "compare_pulls"):
            graph.add(step)
    store = Store(tiny_study.folder)
    assert run_graph(graph, store, Workers(), retries=0).failed == {}
    *_, placebo, compared = graph.values()
    found = json.loads((store.folder(compared) / "cosines.json").read_text())
    assert [each["label"] for each in found["sets"]] == ["lighting"] * 2 + ["camera"] * 2 + ["placebo"] * 2

    task = GeometryTask(VGGT.from_pretrained(str(tiny_study.backbone["init_args"]["source"]))).eval()
    task.backbone.requires_grad_(True)
    data = TrainingScenes(SyntheticScenes(**SIZES, attribute="all", seed=1), scenes=4, seed=0)
    halves: list[dict[str, torch.Tensor]] = []
    for batch in data.train_dataloader():  # two batches: one for each half
        task.zero_grad()
        batch = task.prepare_batch(data.on_after_batch_transfer(batch, 0))
        task.compute_loss(task(batch.images), batch).total.mean().backward()
        stored = StoredGradients(store.folder(placebo) / f"gradients_1_{len(halves)}.safetensors")
        halves.append({path: task.backbone.get_submodule(path).weight.grad.clone() for path in stored})
        for path, gradient in halves[-1].items():
            torch.testing.assert_close(stored[path], gradient, rtol=1e-3, atol=1e-6)
    cosines = [
        torch.cosine_similarity(halves[0][path].flatten(), halves[1][path].flatten(), dim=0) for path in halves[0]
    ]
    assert found["cosines"][5][5] == pytest.approx(float(torch.stack(cosines).mean()), abs=1e-3)


def test_the_report_has_table_and_answer(tmp_path: Path) -> None:
    attributes = ["geometry", "texture", "camera", "lighting"]
    plan = plan_study(small_study(gradient_test=TEST, attributes=attributes))
    store = Store(tmp_path)
    fill(plan, store)
    text = write_report(plan, store, command="lorasub study run x.yaml").read_text()
    assert "## Do attributes pull the model in directions of their own?" in text
    assert "At dose 1, 4 of 4 attributes have a direction of their own (geometry, texture, camera, lighting)." in text
    assert (tmp_path / "reports" / "small" / "gradient_test.png").is_file()
    written = np.genfromtxt(tmp_path / "reports" / "small" / "gradient_test.csv", delimiter=",", names=True)
    assert len(written) == 4 * 2 + 1 + 2
