"""test leaves results, compare reads them; as a user runs them."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lorasub import __version__
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.cli.main import main
from lorasub.files import read_json
from lorasub.metrics.results import Results, hash_json


def words(weights: Path, folder: Path, name: str, *more: str) -> list[str]:
    backbone = ["--model.backbone=lorasub.VGGT.from_pretrained", f"--model.backbone.source={weights}"]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    data = ["--data=scored_scenes.ScoredScenes", f"--run.folder={folder}", f"--run.name={name}"]
    adapter = ["--model.adapter=LoRA", "--model.adapter.r=4"]
    return ["test", "--model=GeometryTask", *backbone, *adapter, *data, *quiet, *more]


@pytest.fixture(scope="module")
def runs(tiny_weights: Path, tiny_config: VGGTConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests of two backbones on the same frames, one with more protocols, one on other frames."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(7)
    second = VGGT(tiny_config).save_pretrained(folder / "second")
    for name, weights, more in (
        ("one", tiny_weights, []),
        ("two", second, []),
        ("more", tiny_weights, ["--model.protocols=[default,evo_sim3]"]),
        ("other", tiny_weights, ["--data.seed=1"]),
        ("half", tiny_weights, ["--trainer.precision=bf16-mixed"]),
    ):
        assert main(words(weights, folder, name, *more)) == 0
    return folder


def test_results_say_what_they_mean(runs: Path) -> None:
    content = read_json(runs / "one" / "0" / "results.json")
    assert content["versions"]["lorasub"] == __version__
    assert content["model"]["base_model_hash"]
    assert content["model"]["adapter_hash"]
    assert content["config"]["data"]["init_args"]["seed"] == 0
    assert content["config_hash"] == hash_json(content["config"])
    found = content["sets"]["test"]
    assert found["protocols"]["abs_rel"] == "depth, alignment median per scene"
    assert len(found["scenes"]) == 5
    assert all(len(scene["frames"]) == 3 for scene in found["scenes"])
    with (runs / "one" / "0" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["abs_rel"]) == pytest.approx(found["overall"]["abs_rel"])


def test_protocols_are_chosen_on_the_command_line(runs: Path) -> None:
    results = Results.load(runs / "more" / "0").sets["test"]
    assert "evo_sim3/ate" in results.overall
    assert results.protocols["evo_sim3/ate"].startswith("evo_sim3: trajectory")
    by_hand = [scene.values["rotation_deg"] for scene in results.scenes]
    assert results.overall["rotation_deg"] == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-6)


def test_compare_prints_table_json_and_csv(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (str(runs / name / "0") for name in ("one", "two"))
    assert main(["compare", f"lora={one}", f"pissa={two}", "--resamples=200", f"--csv={tmp_path / 'c.csv'}"]) == 0
    text = capsys.readouterr().out
    assert "lora" in text.splitlines()[0]
    assert "95% low" in text.splitlines()[0]
    assert any(line.split()[:2] == ["test", "abs_rel"] for line in text.splitlines())
    assert main(["compare", one, two, "--resamples=200", "--metrics=abs_rel,rra@5", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["result"] for row in rows] == ["abs_rel", "rra@5"]
    assert rows[0]["scenes"] == 5
    assert rows[0]["low"] <= rows[0]["difference"] <= rows[0]["high"]
    assert rows[0]["difference"] != 0
    overall = Results.load(one).sets["test"].overall
    assert rows[0]["first_value"] == pytest.approx(overall["abs_rel"])
    with (tmp_path / "c.csv").open() as file:
        assert {row["result"] for row in csv.DictReader(file)} == set(overall)


def test_compare_refuses_and_can_be_forced(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, more, other = (str(runs / name / "0") for name in ("one", "more", "other"))
    assert main(["compare", one, more]) == 2
    assert "'evo_sim3/ate' is in the second only" in capsys.readouterr().err
    assert main(["compare", one, other]) == 2
    assert "5 scenes are in the first only" in capsys.readouterr().err
    half = str(runs / "half" / "0")
    assert main(["compare", one, half]) == 2
    assert "precision 32-true, the second in bf16-mixed" in capsys.readouterr().err
    assert main(["compare", one, half, "--force", "--resamples=200"]) == 0
    assert main(["compare", one, more, "--force", "--resamples=200"]) == 0
    assert main(["compare", one]) == 2
    assert main(["compare", one, str(runs / "none")]) == 2
    assert main(["compare", one, one]) == 2
    assert main(["compare", f"a={one}", f"b={one}", "--metrics=nonsense", "--resamples=200"]) == 2


@pytest.mark.ddp
def test_two_processes_write_what_one_writes(repository: Path, tiny_weights: Path, runs: Path, tmp_path: Path) -> None:
    """Five scenes on two processes: Lightning hands one out twice, which must not count twice."""
    more = ["--data.batch_size=1", "--trainer.devices=2", "--trainer.strategy=ddp"]
    command = [sys.executable, "-m", "lorasub.cli.main", *words(tiny_weights, tmp_path, "both", *more)]
    paths = os.pathsep.join(map(str, (Path(__file__).parent, repository / "tests")))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    both = Results.load(tmp_path / "both" / "0").sets["test"]
    alone = Results.load(runs / "one" / "0").sets["test"]
    assert both.frames_hash == alone.frames_hash
    for name, value in alone.overall.items():
        assert not math.isnan(value)
        assert both.overall[name] == pytest.approx(value, rel=1e-4), name
