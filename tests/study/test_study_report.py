"""The report, from result files that were made up: its numbers are computed again here, from the files alone."""

from __future__ import annotations

import base64
import csv
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from studies import small_study

from lorasub.files import write_json
from lorasub.metrics.results import Results, SceneResult, SetResult
from lorasub.study import Ablation, Plan, Record, Removal, Store, plan_study
from lorasub.study.report import write_report
from lorasub.study.scores import StudyResults
from lorasub.study.subspace_sections import explained_rows, overlap_rows
from lorasub.study.text import page
from lorasub.subspaces import LowRankUpdate, SubspaceBasis, mine_subspace

SCENES = 6


def made_up_results(rng: np.random.Generator) -> Results:
    def scene(index: int) -> SceneResult:
        value = 0.3 + 0.1 * index + 0.02 * float(rng.standard_normal())
        return SceneResult(
            scene=f"s{index}", frames=("a", "b"), values={"abs_rel": value}, weights={"abs_rel": 1.0 + index}
        )

    found = SetResult(protocols={"abs_rel": "median"}, scenes=tuple(scene(index) for index in range(SCENES)))
    return Results(sets={"test": found})


def overlap_file(scale: float = 1.0) -> dict[str, object]:
    def report(first: str, second: str, value: float) -> dict[str, object]:
        row = {"side": "output", "measure": "phi", "value": scale * value, "null_mean": 0.05}
        return {"first": first, "second": second, "summary": {"all": [row, row | {"measure": "distance"}]}}

    pairs = [("geometry", "geometry", 0.4), ("texture", "texture", 0.2), ("geometry", "texture", 0.1)]
    return {"names": ["geometry", "texture"], "reports": [report(*pair) for pair in pairs]}


def separation_file() -> list[dict[str, object]]:
    return [
        {"layers": layers, "side": "output", "within": 0.2, "between": 0.1, "p": p}
        for layers, p in (("all", 0.0123), ("frame_blocks qkv", 0.5))
    ]


def explained_file() -> list[dict[str, object]]:
    def row(basis: str, adapters: str, layers: str, explained: float) -> dict[str, object]:
        return {"basis": basis, "adapters": adapters, "layers": layers, "explained": explained, "chance": 0.01}

    values = {("geometry", "geometry"): 0.5, ("geometry", "texture"): 0.2, ("texture", "geometry"): 0.1}
    return [row(*pair, layers, value) for layers in ("all", "frame_blocks qkv") for pair, value in values.items()] + [
        row("texture", "texture", "all", 0.7)
    ]


def made_up_basis() -> SubspaceBasis:
    generator = torch.Generator().manual_seed(0)
    adapters = [
        {
            "blocks.0.qkv": LowRankUpdate(
                torch.randn(12, 2, generator=generator), torch.randn(2, 10, generator=generator)
            )
        }
        for _ in range(3)
    ]
    return mine_subspace(adapters, dim=2)


def fill(plan: Plan, store: Store, *, without: tuple[str, ...] = ()) -> None:
    """What a run would leave, for every step but some."""
    rng = np.random.default_rng(0)
    for number, step in enumerate(plan.graph):
        if step.name.startswith(without):
            continue
        folder = store.prepare(plan.graph, step)
        measured: dict[str, object] = {}
        if step.kind == "test":
            made_up_results(rng).save(folder / "run")
        elif step.kind == "choose":
            write_json(folder / "choice.json", {"learning_rate": 0.01, "at_edge": "lora" in step.name, "tried": {}})
        elif step.kind == "overlap":
            write_json(folder / "overlap.json", overlap_file())
            (folder / "overlap.png").write_bytes(b"")
            write_json(folder / "overlap_specific.json", overlap_file(scale=0.5))
            (folder / "overlap_specific.png").write_bytes(b"")
            write_json(folder / "separation.json", separation_file())
        elif step.kind == "mine":
            made_up_basis().save(folder / "basis")
        elif step.kind == "explain":
            write_json(folder / "explained.json", explained_file())
            (folder / "explained.png").write_bytes(b"")
        elif step.kind == "remove":
            measured = {"removed": 0.25}
        elif step.kind == "tune":
            measured = {
                "trainable": 100 + number,
                "parameters": {"frame_blocks": {"trainable": {"projected": 64}}, "total": {"trainable": {}}},
                "step_seconds": 0.5,
                "peak_memory_bytes": 2_000_000,
                "peak_memory_of": "process",
                "adapter_bytes": 4000,
                "step_zero_difference": 1e-7,
            }
        record = Record(key=step.key, name=step.name, seconds=1.0, work=step.work, finished=0.0, measured=measured)
        write_json(folder / "record.json", asdict(record))


@pytest.fixture
def plan() -> Plan:
    ablation = Ablation(setting="mining.alpha", values=[2.0], methods=["mined"])
    return plan_study(small_study(ablations={"alpha": ablation}, references=["lora r=4"]))


def table_after(text: str, title: str) -> list[list[str]]:
    """Cells of the first table below a title, the head first."""
    lines = text.split(title, 1)[1].split("\n")
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    end = next((i for i, row in enumerate(rows) if i > 1 and row[0] == "---"), len(rows) + 1)
    return [row for row in rows[: end - 1] if row[0] != "---"]


def overall(path: Path) -> float:
    """The weighted mean over scenes, from the file itself."""
    scenes = json.loads(path.read_text())["sets"]["test"]["scenes"]
    weights = [scene["weights"]["abs_rel"] for scene in scenes]
    return float(np.average([scene["values"]["abs_rel"] for scene in scenes], weights=weights))


def test_the_main_table_can_be_computed_again_from_the_files(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(plan, store)
    text = write_report(plan, store, command="lorasub study run x.yaml").read_text()
    head, *rows = table_after(text, "### room")
    assert head == ["method", "parameters", "test", "other"]
    assert [row[0] for row in rows] == ["none", "lora r=1", "lora r=4", "mined", "from_all"]
    for row in rows:
        for column, test in ((2, ""), (3, "other")):
            # the first of `scenes` is 2; without fine-tuning there is no number of scenes
            cells = [
                cell
                for cell in plan.cells
                if (cell.method, cell.test, cell.variant) == (row[0], test, "") and cell.scenes in (2, None)
                if cell.scenes == 2 or row[0] == "none"
            ]
            values = [overall(store.folder(plan.graph[cell.step]) / "run" / "results.json") for cell in cells]
            assert len(values) == (1 if row[0] == "none" else 2)
            expected = f"{np.mean(values):.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")
            assert row[column] == expected


def test_every_number_names_its_file(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(plan, store)
    folder = write_report(plan, store, command="x").parent
    with (folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(plan.cells)
    for row in rows:
        assert overall(tmp_path / row["file"]) == pytest.approx(float(row["value"]), rel=1e-12)
    assert {row["validation"] for row in rows if row["set"] == "other"} == {"False"}
    assert {row["validation"] for row in rows if row["set"] == "test"} == {"True"}


def test_differences_are_those_of_means_over_scenes_and_seeds(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(plan, store)
    results = StudyResults(plan, store)
    found = {(cell.method, cell.scenes, name): d for cell, name, d in results.differences("lora r=4", resamples=200)}
    chosen = found["mined", 2, "other"]

    def mean_of(method: str) -> float:
        cells = [
            cell
            for cell in plan.cells
            if (cell.method, cell.scenes, cell.test, cell.variant) == (method, 2, "other", "")
        ]
        return float(np.mean([overall(store.folder(plan.graph[cell.step]) / "run" / "results.json") for cell in cells]))

    assert chosen.difference == pytest.approx(mean_of("mined") - mean_of("lora r=4"), rel=1e-9)
    assert chosen.low < chosen.difference < chosen.high
    assert chosen.scenes == SCENES
    assert ("lora r=4", 2, "other") not in found


def test_sets_have_their_own_names_unless_two_data_share_one(tmp_path: Path) -> None:
    plan, store = plan_study(small_study()), Store(tmp_path)
    fill(plan, store)
    rng = np.random.default_rng(0)

    def named(*names: str) -> set[str]:
        for step in plan.graph:
            if step.name.endswith(" other"):
                sets = {name: next(iter(made_up_results(rng).sets.values())) for name in ("test", *names)}
                Results(sets=sets).save(store.folder(step) / "run")
        return {score.set for score in StudyResults(plan, store).scores()}

    assert named("kitchen") == {"test", "other", "kitchen"}
    assert named("other") == {"test", "other", "other/other"}


def test_what_is_not_done_is_left_out_and_told(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(plan, store, without=("tune room mined", "test room mined", "overlap"))
    failed = {"tune room mined scenes=2 seed=0": "no\nluck"}
    text = write_report(plan, store, command="x", failed=failed).read_text()
    done = sum(store.done(step) for step in plan.graph)
    assert f"{done} of {len(plan.graph)} steps are done" in text
    assert "- tune room mined scenes=2 seed=0: no luck" in text
    assert "mined" not in {row[0] for row in table_after(text, "### room")}
    assert "## Overlaps" not in text


def test_a_report_of_nothing_is_a_report(plan: Plan, tmp_path: Path) -> None:
    text = write_report(plan, Store(tmp_path), command="x").read_text()
    assert f"0 of {len(plan.graph)} steps are done" in text
    assert "## Protocol" in text


def test_every_file_that_the_report_shows_is_there(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(plan, store)
    path = write_report(plan, store, command="x")
    shown = re.findall(r"!\[.*?\]\((.*?)\)", path.read_text())
    assert set(shown) == {
        *("parameters_room.png", "overlap.png", "overlap_specific.png", "overlap_variants.png"),
        "ablation_alpha_room.png",
        *("spectra_geometry.png", "spectra_texture.png", "spectra_all.png"),
    }
    assert all((path.parent / name).is_file() for name in shown)
    assert "0.01 (end of the grid)" in path.read_text()
    assert "frame_blocks: 64 M" in path.read_text()
    assert "mining.alpha=2.0" in path.read_text()


def test_overlaps_are_averaged_within_and_between_attributes() -> None:
    assert overlap_rows(overlap_file()) == [
        {"side": "output", "pairs": "between attributes", "number": 1, "phi": 0.1, "chance": 0.05},
        {"side": "output", "pairs": "within an attribute", "number": 2, "phi": pytest.approx(0.3), "chance": 0.05},
    ]


def test_sets_are_pooled_by_geometric_means(tmp_path: Path) -> None:
    study = small_study(references=["lora r=4"])
    room = replace(study.downstream["room"], pooled=["test", "other"])
    plan, store = plan_study(replace(study, downstream={"room": room})), Store(tmp_path)
    fill(plan, store)

    def values(method: str) -> np.ndarray:
        cells = [cell for cell in plan.cells if (cell.method, cell.scenes) == (method, 2)]
        return np.array([overall(store.folder(plan.graph[cell.step]) / "run" / "results.json") for cell in cells])

    head, *rows = table_after(write_report(plan, store, command="x").read_text(), "## Over several test sets")
    assert head == ["downstream", "method", "scenes", "mean", "to lora r=4"]
    shown = {(row[1], row[2]): row[3:] for row in rows}
    mean, ratio = shown["mined", "2"]
    assert float(mean) == pytest.approx(np.exp(np.log(values("mined")).mean()), abs=1e-4)
    expected = np.exp(np.log(values("mined")).mean() - np.log(values("lora r=4")).mean())
    assert float(ratio.split()[0]) == pytest.approx(expected, abs=1e-3)
    assert len(shown["lora r=4", "2"]) == 1  # nothing to hold it against
    assert ("none", "") in shown


def test_parts_and_shuffled_labels_have_their_rows(tmp_path: Path) -> None:
    plan, store = plan_study(small_study()), Store(tmp_path)
    fill(plan, store)
    text = write_report(plan, store, command="x").read_text()
    head, *rows = table_after(text, "## Overlaps of attributes")
    assert head == ["part", "side", "pairs", "number", "phi", "chance"]
    assert [(row[0], row[4]) for row in rows] == [
        ("raw", "0.1"),
        ("raw", "0.3"),
        ("specific", "0.05"),
        ("specific", "0.15"),
    ]
    head, *rows = table_after(text, "## Attributes against shuffled labels")
    assert head == ["layers", "side", "within", "between", "p"]
    assert [(row[0], row[4]) for row in rows] == [("all", "0.0123"), ("frame_blocks qkv", "0.5")]


def test_held_out_adapters_are_averaged_over_own_and_other_attributes() -> None:
    everywhere, qkv = explained_rows(explained_file())
    assert everywhere["own attribute"] == pytest.approx((0.5 + 0.7) / 2)
    assert everywhere["other attributes"] == pytest.approx((0.2 + 0.1) / 2)
    assert (qkv["layers"], qkv["own attribute"], qkv["chance"]) == ("frame_blocks qkv", 0.5, 0.01)


def test_held_out_adapters_and_removals_have_their_sections(tmp_path: Path) -> None:
    plan = plan_study(small_study(partitions=4, removal=Removal(results=["abs_rel"])))
    store = Store(tmp_path)
    fill(plan, store)
    text = write_report(plan, store, command="x").read_text()
    assert table_after(text, "## Adapters that were held out")[1][:3] == ["all", "0.6", "0.15"]
    removals = table_after(text, "### abs_rel")[1:]
    assert [row[0] for row in removals] == ["nothing", "geometry", "texture", "random"]
    assert [row[1] for row in removals] == ["", "0.25", "0.25", "0.25"]
    with (store.root / "reports/small/removals.csv").open() as file:
        for row in csv.DictReader(file):
            found = Results.load((store.root / row["file"]).parent).sets["test"].overall
            assert float(row["abs_rel"]) == found["abs_rel"]
            shown = next(line for line in removals if line[0] == row["removed"])
            place = 2 + ["geometry", "texture"].index(row["scenes vary in"])
            assert float(shown[place]) == pytest.approx(found["abs_rel"], rel=1e-3)


def test_the_page_holds_its_pictures_and_says_what_the_text_says(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(plan, store)
    path = write_report(plan, store, command="x <y>")
    shown = path.with_suffix(".html").read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]*)"', shown)
    names = re.findall(r"!\[.*?\]\((.*?)\)", path.read_text())
    assert [base64.b64decode(data) for data in pictures] == [(path.parent / name).read_bytes() for name in names]
    assert "src=" not in re.sub(r'src="data:[^"]*"', "", shown)
    assert "x &lt;y&gt;" in shown
    assert shown.count("<table>") == len(re.findall(r"(?m)^\| ---", path.read_text()))


def test_a_page_does_not_run_what_a_name_says(tmp_path: Path) -> None:
    assert "<script>" not in page("# A <script>x</script> study\n\n<script>y</script>\n", tmp_path)
