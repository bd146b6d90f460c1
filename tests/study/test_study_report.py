"""The report, from result files that were made up: its numbers are computed again here, from the files alone."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import explained_file, fill, levels, made_up_results, overlap_file
from studies import small_study

from lorasub.metrics.results import Results
from lorasub.study import Ablation, AdapterFits, AlternateAdapter, AnyVersionStore, Plan, Store, UntilFlat, plan_study
from lorasub.study.report import write_report
from lorasub.study.subspace_tables import explained_rows, overlap_rows
from lorasub.study.table import results_table


@pytest.fixture
def plan() -> Plan:
    ablation = Ablation(setting="mining.alpha", values=[2.0], methods=["mined"])
    return plan_study(small_study(ablations={"alpha": ablation}, references=["lora r=4"]))


def table_after(text: str, title: str) -> list[list[str]]:
    """Cells of the first table below a title, the head first."""
    lines = text.split(title, 1)[1].split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line[1:-1].split("|")])
    return [row for row in rows if row[0] != "---"]


def overall(path: Path) -> float:
    """The weighted mean over scenes, from the file itself."""
    scenes = json.loads(path.read_text())["sets"]["test"]["scenes"]
    weights = [scene["weights"]["abs_rel"] for scene in scenes]
    return float(np.average([scene["values"]["abs_rel"] for scene in scenes], weights=weights))


def results_file(plan: Plan, store: Store, key: str) -> Path:
    return store.folder(plan.graph[key]) / "run" / "results.json"


def test_the_main_table_can_be_computed_again_from_the_files(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(plan, store)
    text = write_report(plan, store, command="lorasub study run x.yaml").read_text()
    for scenes, title in ((2, "### room, 2 training scenes"), (None, "### room, all training scenes")):
        head, *rows, against, verdicts = table_after(text, title)
        assert against[0] == "*the best one, against none*"
        assert head == ["method", "parameters", "test", "other"]
        assert [row[0] for row in rows] == [
            *("*a plane*", "*mean of the training scenes*", "none", "lora r=1 †", "lora r=4 †", "mined", "from_all")
        ]
        assert verdicts[0] == "*evidence*"
        for row in rows:
            name = row[0].strip("*† ")
            for column, test in ((2, ""), (3, "other")):
                cells = [
                    cell
                    for cell in plan.cells
                    if cell.variant is None and cell.test == test
                    if (cell.arm and cell.arm.label == name and cell.scenes == scenes)
                    or (cell.row == "mean" and name.startswith("mean") and cell.scenes == scenes)
                    or (cell.row, name) in {("plane", "a plane"), ("zero-shot", "none")}
                ]
                values = [overall(results_file(plan, store, cell.step.key)) for cell in cells]
                assert len(values) == (1 if name in ("none", "a plane") else 2)
                expected = f"{np.mean(values):.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")
                assert row[column].strip("*") == expected


def test_ends_of_grids_are_told_in_every_table(plan: Plan, tmp_path: Path) -> None:
    study = small_study(references=["lora r=4"])
    room = replace(study.downstream["room"], pooled=["test", "other"])
    plan, store = plan_study(replace(study, downstream={"room": room})), Store(tmp_path)
    values = {"mined": 0.1, "lora r=4": 0.2, "lora r=1": 0.2, "from_all": 0.2, "none": 0.5}
    fill(plan, store, value=levels(values | {"a plane": 0.4, "mean of the training scenes": 0.4}))
    text = write_report(plan, store, command="x").read_text()
    titles = ("### room, 2", "### room, all", "## Over several places", "## Differences", "## Costs")
    for title in titles:
        cells = [cell for row in table_after(text, title) for cell in row if re.search(r"lora r=|end of", cell)]
        assert any("†" in cell for cell in cells), title
    assert text.count("† The learning rate stands at an end of its grid") == 4


def test_every_number_names_its_file(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(plan, store)
    folder = write_report(plan, store, command="x").parent
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(plan.cells)
    for row in rows:
        assert overall(tmp_path / row["file"]) == pytest.approx(float(row["value"]), rel=1e-12)
    assert {row["validation"] for row in rows if row["set"] == "other"} == {"False"}
    assert {row["validation"] for row in rows if row["set"] == "test"} == {"True"}


def test_sets_have_their_own_names_unless_two_data_share_one(tmp_path: Path) -> None:
    plan, store = plan_study(small_study()), Store(tmp_path)
    fill(plan, store)

    def named(*names: str) -> set[str]:
        for step in plan.graph.values():
            if step.name.endswith(" other"):
                sets = {name: made_up_results([0.1]).sets["test"] for name in ("test", *names)}
                Results(sets=sets).save(store.folder(step) / "run")
        return set(results_table(plan, store)["set"])

    assert named("kitchen") == {"test", "other", "kitchen"}
    assert named("other") == {"test", "other", "other/other"}


def test_what_is_not_done_is_left_out_and_told(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(plan, store, without=("finetune room mined", "test room mined", "overlap"))
    failed = {"finetune room mined scenes=2 seed=0": "no\nluck"}
    text = write_report(plan, store, command="x", failed=failed).read_text()
    done = sum(store.done(step) for step in plan.graph.values())
    assert f"{done} of {len(plan.graph)} steps are done" in text
    assert "- finetune room mined scenes=2 seed=0: no luck" in text
    assert "mined" not in {row[0] for row in table_after(text, "### room")}
    assert "## Overlaps" not in text


def test_a_report_of_nothing_is_a_report(plan: Plan, tmp_path: Path) -> None:
    text = write_report(plan, Store(tmp_path), command="x").read_text()
    assert f"0 of {len(plan.graph)} steps are done" in text
    assert "Nothing is done yet" in text
    assert "## Protocol" in text


def test_a_report_without_any_method_has_the_rows_that_do_not_look(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(plan, store, without=("finetune", *(f"test room {method}" for method in ("lora", "mined", "from_all"))))
    text = write_report(plan, store, command="x").read_text()
    rows = {row[0] for row in table_after(text, "### room, 2 training scenes")}
    assert {"*a plane*", "none"} <= rows or {"*plane*", "none"} <= rows
    assert not any("lora" in row or "mined" in row for row in rows)


@pytest.mark.parametrize(
    ("seeds", "told"),
    [
        ([1000], "in fits of a seed (1000) that is not reported. Test data"),
        ([7, 8], "by the mean over 2 fits of seeds (7, 8) that are not reported; a rate that diverges with one"),
    ],
)
def test_the_report_says_how_rates_are_chosen(seeds: list[int], told: str, tmp_path: Path) -> None:
    assert told in write_report(plan_study(small_study(tuning_seeds=seeds)), Store(tmp_path), command="x").read_text()


@pytest.mark.parametrize(
    ("fits", "told"),
    [
        (AdapterFits(steps=10), "geometry, texture, 10 steps, learning rate 0.001.\n"),
        (
            AdapterFits(
                steps=10,
                until_flat=UntilFlat(validate_every=2),
                alternate=AlternateAdapter(adapter={"class_path": "lorasub.TruncatedFineTuning"}, learning_rate=1e-4),
            ),
            "geometry, texture, until the validation loss is flat, at most 10 steps, learning rate 0.001; "
            "every second one is TruncatedFineTuning, learning rate 0.0001.\n",
        ),
    ],
    ids=["alike", "in turn"],
)
def test_the_report_says_how_adapters_are_fitted(fits: AdapterFits, told: str, tmp_path: Path) -> None:
    assert told in write_report(plan_study(small_study(adapters=fits)), Store(tmp_path), command="x").read_text()


def test_every_file_that_the_report_shows_is_there(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(plan, store)
    path = write_report(plan, store, command="x")
    text = path.read_text()
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert set(shown) == {
        *("parameters_room.png", "overlap.png", "overlap_specific.png", "overlap_variants.png"),
        "ablation_alpha_room.png",
        *("spectra_geometry.png", "spectra_texture.png", "spectra_all.png"),
    }
    assert all((path.parent / name).is_file() for name in shown)
    assert "0.01 (end of the grid †)" in text
    assert "frame_blocks: 64 M" in text
    head, *rows = table_after(text, "### mining.alpha, room")
    assert head[:2] == ["method", "value"]
    assert {(row[0], row[1]) for row in rows if row[0] == "mined"} == {("mined", "(the study)"), ("mined", "2.0")}
    assert {row[0] for row in rows} == {"*a plane*", "*mean of the training scenes*", "none", "mined"}


def test_overlaps_are_averaged_within_and_between_attributes() -> None:
    assert overlap_rows(overlap_file()).to_dict("records") == [
        {"side": "output", "pairs": "between attributes", "number": 1, "phi": 0.1, "chance": 0.05},
        {"side": "output", "pairs": "within an attribute", "number": 2, "phi": pytest.approx(0.3), "chance": 0.05},
    ]


def test_places_are_pooled_by_geometric_means_and_those_that_count_compared(tmp_path: Path) -> None:
    study = small_study(references=["lora r=4"], seeds=[0, 1, 2])
    others = dict.fromkeys(("other", "third"), study.downstream["room"].tests["other"])
    room = replace(study.downstream["room"], tests=others, pooled=["other", "third"])
    plan, store = plan_study(replace(study, downstream={"room": room})), Store(tmp_path)
    values = {"mined": 0.1, "lora r=4": 0.2, "lora r=1": 0.2, "from_all": 0.2, "none": 0.5}
    fill(plan, store, value=levels(values | {"a plane": 0.4, "mean of the training scenes": 0.4}))
    text = write_report(plan, store, command="x").read_text()

    def files(label: str) -> list[float]:
        cells = [c for c in plan.cells if c.arm and c.arm.label == label and c.scenes == 2 and c.test]
        return [overall(results_file(plan, store, cell.step.key)) for cell in cells]

    shown = {(row[1], row[2]): row[4] for row in table_after(text, "## Over several places")}
    by_seed = np.exp(np.log(np.array(files("mined")).reshape(3, 2)).mean(1))
    assert shown["2", "mined"] == f"{by_seed.mean():.4f} ± {by_seed.std(ddof=1):.4f}"
    assert ("2", "*a plane*") in shown
    assert "2 of 2 places count: other, third." in text
    (pooled,) = [row for row in table_after(text, "## Differences") if row[1:4] == ["2", "pooled", "mined"]]
    expected = np.exp(np.log(files("mined")).mean() - np.log(files("lora r=4")).mean())
    assert float(pooled[5].split()[0]) == pytest.approx(expected, abs=1e-3)


def test_parts_and_shuffled_labels_have_their_rows(tmp_path: Path) -> None:
    plan, store = plan_study(small_study()), Store(tmp_path)
    fill(plan, store)
    text = write_report(plan, store, command="x").read_text()
    head, *rows = table_after(text, "## Overlaps of attributes")
    assert head == ["part", "side", "pairs", "number", "phi", "chance"]
    assert [(row[0], row[4]) for row in rows] == [
        *(("raw", "0.1"), ("raw", "0.3"), ("specific", "0.05"), ("specific", "0.15"))
    ]
    head, *rows = table_after(text, "## Attributes against shuffled labels")
    assert head == ["layers", "side", "within", "between", "p", "p_holm"]
    assert [(row[0], row[4], row[5]) for row in rows] == [
        *(("all", "0.0123", "0.0246"), ("frame_blocks qkv", "0.5", "0.5"))
    ]


def test_held_out_adapters_are_averaged_over_own_and_other_attributes() -> None:
    everywhere, qkv = explained_rows(explained_file()).to_dict("records")
    assert everywhere["own attribute"] == pytest.approx((0.5 + 0.7) / 2)
    assert everywhere["other attributes"] == pytest.approx((0.2 + 0.1) / 2)
    assert (qkv["layers"], qkv["own attribute"], qkv["chance"]) == ("frame_blocks qkv", 0.5, 0.01)


def test_a_study_that_was_begun_before_is_reported_from_its_files(tmp_path: Path) -> None:
    """Older versions had other keys, other names of kinds, and no rows that do not look."""
    plan, store = plan_study(small_study(references=["lora r=4"])), Store(tmp_path)
    fill(plan, store, without=("constant", "test room plane", "test room mean"))
    former = {"lr_trial": "try", "select_lr": "choose", "finetune": "tune"}
    for folder in sorted(tmp_path.glob("steps/*/*")):
        kind = folder.parent.name
        key = json.loads((folder / "step.json").read_text())["key"][::-1]
        old = tmp_path / "old" / "steps" / former.get(kind, kind) / key[:16]
        shutil.copytree(folder, old)
        for name in ("record.json", "step.json"):
            content = json.loads((old / name).read_text())
            content |= {"key": key, "name": content["name"].replace(kind, former.get(kind, kind), 1)}
            if spec := content.pop("spec", None):  # which was called otherwise
                content |= {"kind": former.get(kind, kind), "config": {}}
                content["inputs"] = {"fit": {"key": "x", "folder": "y"}} if spec.get("checkpoint") else {}
            (old / name).write_text(json.dumps(content))
    assert not any(Store(tmp_path / "old").done(step) for step in plan.graph.values())
    before = table_after(write_report(plan, store, command="x").read_text(), "### room, 2")
    text = write_report(plan, AnyVersionStore(tmp_path / "old"), command="x").read_text()
    assert table_after(text, "### room, 2") == before
    done = sum(store.done(step) for step in plan.graph.values())
    assert f"**{done} of these results were left by other settings or by another version of lorasub**" in text
    assert "a plane was not measured; mean of the training scenes was not measured" in text
    assert "0.01 (end of the grid †)" in text


def test_a_method_called_like_a_row_that_does_not_look_is_told_from_it(tmp_path: Path) -> None:
    """Results of other versions are found by name, and both are called ``mean``."""
    study = small_study()
    study = small_study(methods={**study.methods, "mean": replace(study.methods["mined"], learning_rates=[0.5])})
    plan, old = plan_study(study), Store(tmp_path)
    fill(plan, old, value=lambda step, scene: 0.5 if step.spec.checkpoint is None else 0.1)
    for folder in sorted(tmp_path.glob("steps/*/*")):
        for name in ("record.json", "step.json"):
            content = json.loads((folder / name).read_text())
            key = content["key"][::-1]
            (folder / name).write_text(json.dumps(content | {"key": key}))
        folder.rename(folder.with_name(key[:16]))
    text = write_report(plan, AnyVersionStore(tmp_path), command="x").read_text()
    found = {row[0].strip("*"): row[2].split(" ")[0].strip("*") for row in table_after(text, "### room, 2")}
    assert (found["mean"], found["mean of the training scenes"]) == ("0.1000", "0.5000")


def test_the_page_holds_its_pictures_and_says_what_the_text_says(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(plan, store)
    path = write_report(plan, store, command="x <script>y</script>")
    shown = path.with_suffix(".html").read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]*)"', shown)
    names = re.findall(r"!\[.*?\]\((.*?)\)", path.read_text())
    assert [base64.b64decode(data) for data in pictures] == [(path.parent / name).read_bytes() for name in names]
    assert "src=" not in re.sub(r'src="data:[^"]*"', "", shown)
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown  # a page does not run what a name says
    assert shown.count("<table>") == len(re.findall(r"(?m)^\| ---", path.read_text()))
