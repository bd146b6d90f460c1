"""Where runs keep their files, and how they go on."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import yaml

from lorasub.cli.main import main
from lorasub.errors import RunInterruptedError
from lorasub.files import read_json, write_json
from lorasub.training import prepare
from lorasub.training.always_on import StepProgress
from lorasub.training.run_settings import RunFolder, Verb
from lorasub.training.runner import Run
from tests.training.small_runs import QUIET, adapter, fit, same_bits, words

AVERAGING = [
    "--trainer.callbacks+=lorasub.callbacks.WarmWeightAveraging",
    "--trainer.callbacks.decay=0.9",
]
LIGHTNINGS = ["--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging", "--trainer.callbacks.decay=0.9"]
CTRL_C = ["--trainer.callbacks+=tests.training.small_runs.PressCtrlC", "--trainer.callbacks.step=2"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("averaging", [[], AVERAGING, LIGHTNINGS], ids=["plain", "warm", "lightning"])
def test_ctrl_c_keeps_the_step_and_the_printed_command_ends_with_the_same_bits(
    tiny_weights: Path, capsys: pytest.CaptureFixture[str], averaging: list[str]
) -> None:
    more = [*averaging, "--trainer.max_steps=5", "--trainer.val_check_interval=2", "--trainer.precision=32-true"]
    assert fit(tiny_weights, *more, "--run.name=whole") == 0
    assert fit(tiny_weights, *more, *CTRL_C) == 130
    said = told(capsys)
    command = said[-1].removeprefix("go on with: ")
    assert "interrupted after step 3" in said[-2]
    checkpoint = torch.load("runs/geometry/0/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3
    assert not [name for name in checkpoint.get("current_model_state", {}) if name.endswith("qkv.weight")]

    assert main(shlex.split(command)[1:]) == 0
    assert any("going on after step 3" in line for line in told(capsys))
    assert [path.name for path in Path("runs/geometry").iterdir()] == ["0"]
    assert same_bits(Path("runs/geometry/0"), Path("runs/whole/0"))
    one, two = (read_json(f"runs/{run}/0/before_after.json") for run in ("geometry", "whole"))
    if averaging is not LIGHTNINGS:  # its average of equal numbers is not that number to the last bit, frozen ones too
        assert one == two
    logs = list(Path("runs/geometry/0").glob("events.out.*"))
    assert len(logs) == 2  # of one curve: the second says from which step it replaces the first


EPOCH = ["--trainer.max_steps=-1", "--trainer.max_epochs=1"]


@pytest.mark.parametrize(
    "settings",
    [["--trainer.max_steps=3"], [*AVERAGING, "--trainer.max_steps=3"], EPOCH],
    ids=["plain", "warm", "epochs"],
)
def test_a_fit_killed_between_its_last_checkpoint_and_its_end_is_completed(
    tiny_weights: Path, settings: list[str]
) -> None:
    more = [*settings, "--trainer.precision=32-true"]
    assert fit(tiny_weights, *more) == 0
    shutil.copytree("runs/geometry/0", "runs/geometry/1")
    shutil.rmtree("runs/geometry/1/adapter")
    Path("runs/geometry/1/before_after.json").unlink()
    assert main(["fit", "--ckpt_path=runs/geometry/1"]) == 0
    assert same_bits(Path("runs/geometry/0"), Path("runs/geometry/1"))
    one, two = (read_json(f"runs/geometry/{run}/before_after.json") for run in (0, 1))
    assert one == two


def test_last_is_the_newest_of_the_name_and_nothing_to_resume_is_an_error(
    tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = ["--trainer.max_steps=2", "--trainer.val_check_interval=2"]
    assert fit(tiny_weights, *steps, "--ckpt_path=last") == 1
    assert "no last checkpoint in runs/geometry" in told(capsys)[-1]
    assert not Path("runs").exists()
    assert fit(tiny_weights, *steps, "--ckpt_path=auto") == 0
    assert fit(tiny_weights, *steps) == 0
    os.utime("runs/geometry/0/checkpoints/last.ckpt", (1, 1))
    assert fit(tiny_weights, "--trainer.max_steps=3", "--trainer.val_check_interval=2", "--ckpt_path=last") == 0
    assert any("going on after step 2 of runs/geometry/1/" in line for line in told(capsys))
    assert sorted(path.name for path in Path("runs/geometry").iterdir()) == ["0", "1"]
    assert yaml.safe_load(Path("runs/geometry/1/config.yaml").read_text())["trainer"]["max_steps"] == 3
    assert yaml.safe_load(Path("runs/geometry/1/config_1.yaml").read_text())["trainer"]["max_steps"] == 2


def test_what_cannot_be_resumed_is_an_error(tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tiny_weights, "--trainer.max_steps=3", "--trainer.val_check_interval=3") == 0
    last = Path("runs/geometry/0/checkpoints/last.ckpt")
    assert fit(tiny_weights, "--trainer.max_steps=2", f"--ckpt_path={last}") == 2
    assert "step 3, beyond trainer.max_steps = 2" in told(capsys)[-1]
    other = ["--model.optimizer=SGD", "--model.optimizer.lr=0.1", "--trainer.max_steps=5"]
    assert fit(tiny_weights, *other, f"--ckpt_path={last}") == 2
    assert "was trained with AdamW, whose state SGD cannot take over" in told(capsys)[-1]
    content: dict[str, Any] = torch.load(last, weights_only=True)
    del content["optimizer_states"]
    torch.save(content, "weights.ckpt")
    assert fit(tiny_weights, "--trainer.max_steps=5", "--ckpt_path=weights.ckpt") == 2
    assert "holds weights alone" in told(capsys)[-1]
    assert fit(tiny_weights, "--ckpt_path=best") == 2
    Path("empty").mkdir()
    assert fit(tiny_weights, "--ckpt_path=empty") == 1
    assert "empty is a folder without checkpoints/last.ckpt" in told(capsys)[-1]
    assert [path.name for path in Path("runs/geometry").iterdir()] == ["0"]


def test_without_a_logger_runs_have_their_folders_and_every_fit_its_before_and_after(tiny_weights: Path) -> None:
    for rank in (2, 3):
        more = [f"--run.name=rank_{rank}", f"--model.adapter.r={rank}", "--trainer.logger=false"]
        assert fit(tiny_weights, *more, "--trainer.max_steps=2") == 0  # the config validates every 60 steps
    assert fit(tiny_weights, "--run.name=rank_2", "--trainer.logger=false", "--trainer.max_steps=1") == 0
    assert [path.name for path in Path().iterdir()] == ["runs"]
    assert len(adapter(Path("runs/rank_2/0"))) == len(adapter(Path("runs/rank_3/0"))) > 10
    assert sorted(path.name for path in Path("runs/rank_2").iterdir()) == ["0", "1"]
    assert read_json("runs/rank_2/0/before_after.json")["step"] == 2


def test_a_given_version_is_not_overwritten_without_being_told_to(
    tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--run.version=mine", "--trainer.max_steps=1"]
    assert fit(tiny_weights, *more) == 0
    before = Path("runs/geometry/mine/adapter/adapter_model.safetensors").read_bytes()
    assert fit(tiny_weights, *more, "--seed_everything=7") == 2
    assert "holds a run already" in told(capsys)[-1]
    assert Path("runs/geometry/mine/adapter/adapter_model.safetensors").read_bytes() == before
    assert fit(tiny_weights, *more, "--seed_everything=7", "--run.overwrite=true") == 0
    assert Path("runs/geometry/mine/adapter/adapter_model.safetensors").read_bytes() != before


def test_tests_and_predictions_lie_beside_their_run(tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tiny_weights, "--trainer.max_steps=1") == 0
    assert told(capsys)[-2:] == ["next: lorasub test --ckpt_path runs/geometry/0", "run: runs/geometry/0"]
    for expected in ("0_test", "0_test_1"):
        assert main(["test", "--ckpt_path=runs/geometry/0", *QUIET]) == 0
        assert told(capsys)[-1] == f"run: runs/geometry/{expected}"
        assert Path(f"runs/geometry/{expected}/results.json").is_file()
    assert main(["predict", "--ckpt_path", "runs/geometry/0/checkpoints/last.ckpt", *QUIET]) == 0
    assert told(capsys)[-1] == "run: runs/geometry/0_predict"
    assert any(Path("runs/geometry/0_predict/predictions").iterdir())
    # without a checkpoint, under the verb's name; a run of the fits' numbers is never taken
    assert main(["compare", "runs/geometry/0_test", "runs/geometry/0_test_1"]) == 0


def test_a_failed_command_leaves_no_folder(tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tiny_weights, "--trainer.max_steps=-1", "--trainer.max_epochs=-1") == 2
    assert "has no end" in told(capsys)[-1]
    assert fit(tiny_weights, "--model.adapter.targets=[nowhere]") == 2
    assert main(["test", f"--config={Path(__file__).parents[2] / 'configs' / 'real_rgbd.yaml'}", "--data.root=no"]) == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("forced", ["bf16-mixed", "32-true"])
def test_evaluation_does_not_depend_on_the_machines_precision(
    tiny_weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forced: str
) -> None:
    monkeypatch.setenv("LORASUB_AUTO_PRECISION", forced)
    assert fit(tiny_weights, "--trainer.max_steps=1") == 0
    assert any(line.startswith(f"precision: {forced} (LORASUB_AUTO_PRECISION is set)") for line in told(capsys))
    assert main(["test", "--ckpt_path=runs/geometry/0", *QUIET]) == 0
    assert any(line.startswith("precision: 32-true (evaluation)") for line in told(capsys))
    results = read_json("runs/geometry/0_test/results.json")
    assert results["model"]["precision"] == "32-true"
    # validation within the fit is the same computation as the test, but for its precision
    after = read_json("runs/geometry/0/before_after.json")["metrics"]["val/abs_rel"]["after"]
    close = 1e-6 if forced == "32-true" else 2e-2
    assert results["sets"]["test"]["overall"]["abs_rel"] == pytest.approx(after, rel=close)


def test_what_is_prepared_and_never_started_leaves_no_folder(tiny_weights: Path) -> None:
    prepared = prepare("test", words(tiny_weights, "--run.name=mine"))
    assert list(Path().iterdir()) == []
    prepared.start()
    assert Path("runs/mine/0/results.json").is_file()


def test_what_a_run_replaces_is_there_until_it_starts(tiny_weights: Path) -> None:
    given = ["--run.version=mine", "--trainer.max_steps=1"]
    assert fit(tiny_weights, *given) == 0
    before = Path("runs/geometry/mine/adapter/adapter_model.safetensors").read_bytes()
    assert fit(tiny_weights, *given, "--run.overwrite=true", "--trainer.devices=-3") != 0
    assert fit(tiny_weights, *given, "--run.overwrite=true", "--model.adapter.targets=[nowhere]") == 2
    assert Path("runs/geometry/mine/adapter/adapter_model.safetensors").read_bytes() == before
    Path("runs/geometry/mine/mine.txt").write_text("of the first run")
    assert fit(tiny_weights, *given, "--run.overwrite=true") == 0
    assert not Path("runs/geometry/mine/mine.txt").exists()


def test_the_bar_of_a_resumed_run_begins_at_its_step(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[float, float, float]] = []
    usual = StepProgress.on_train_start

    def watched(bar: StepProgress, *arguments: Any) -> None:
        usual(bar, *arguments)
        shown = bar.train_progress_bar
        seen.append((shown.n, shown.initial, shown.total))

    monkeypatch.setattr(StepProgress, "on_train_start", watched)
    shown = ["--trainer.enable_progress_bar=true", "--checkpoint.every_n_train_steps=2"]
    assert fit(tiny_weights, *shown, "--trainer.max_steps=4") == 0
    capsys.readouterr()
    assert fit(tiny_weights, *shown, "--trainer.max_steps=7", "--ckpt_path=runs/geometry/0") == 0
    assert seen == [(0, 0, 4), (4, 4, 7)]
    on_screen = capsys.readouterr().out
    assert "4/7" in on_screen
    assert "7/7" in on_screen
    assert "0/7" not in on_screen


@pytest.mark.parametrize(
    ("verb", "file", "says"),
    [
        ("fit", "config.yaml", "interrupted, before the first checkpoint"),
        ("test", "config.yaml", "interrupted"),
        ("predict", "predictions/room/points.ply", "interrupted; what was written is in {folder}"),
    ],
)
def test_what_an_interrupted_run_says(verb: Verb, file: str, says: str, tmp_path: Path) -> None:
    """A test and a prediction have no checkpoints to go on from; predictions are kept, and the rest is removed."""
    folder = RunFolder(tmp_path / "run")
    folder.reserve()
    write_json(folder.path / file, {})
    run = Run(verb, Mock(), Mock(), Mock(), {}, folder, None)
    run._start = Mock(side_effect=KeyboardInterrupt)  # type: ignore[method-assign]
    run._announce = Mock()  # type: ignore[method-assign]
    run.data = Mock(members=())
    with pytest.raises(RunInterruptedError) as told:
        run.start()
    assert str(told.value) == says.format(folder=folder.path)
    assert folder.path.is_dir() == (verb == "predict")
