"""What a run promises holds at either precision that a machine may choose: each test runs with both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lorasub as ls
from lorasub.cli.main import main
from lorasub.files import read_json
from lorasub.training.precision import FORCED
from tests.training.small_runs import QUIET, adapter, fit, same_bits, words

EVERY_OTHER = ["--checkpoint.every_n_train_steps=2", "--trainer.max_steps=4", "--trainer.val_check_interval=2"]
AVERAGING = ["--trainer.callbacks+=lorasub.callbacks.WarmWeightAveraging", "--trainer.callbacks.decay=0.9"]
CTRL_C = ["--trainer.callbacks+=tests.training.small_runs.PressCtrlC", "--trainer.callbacks.step=2"]
CACHE = ["--trainer.callbacks+=lorasub.callbacks.EncoderCache"]


@pytest.fixture(params=["bf16-mixed", "32-true"], autouse=True)
def forced(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The precision that fits choose, in a folder of the test's own."""
    monkeypatch.setenv(FORCED, request.param)
    monkeypatch.chdir(tmp_path)
    chosen: str = request.param
    return chosen


@pytest.mark.parametrize("more", [[], AVERAGING, CACHE], ids=["plain", "averaged", "cached"])
def test_a_resumed_fit_ends_with_the_same_bits(tiny_weights: Path, more: list[str]) -> None:
    assert fit(tiny_weights, *EVERY_OTHER, *more, "--run.name=whole") == 0
    assert fit(tiny_weights, *EVERY_OTHER, *more, *CTRL_C) == 130
    assert fit(tiny_weights, *EVERY_OTHER, *more, "--ckpt_path=runs/geometry/0") == 0
    assert same_bits(Path("runs/geometry/0"), Path("runs/whole/0"))


@pytest.mark.parametrize("init", ["default", "pissa"])
def test_adapters_are_float32_and_begin_at_the_base_model(tiny_weights: Path, forced: str, init: str) -> None:
    assert fit(tiny_weights, "--trainer.max_steps=1", f"--model.adapter.init={init}", "--model.adapter.r=2") == 0
    assert {tensor.dtype for tensor in adapter(Path("runs/geometry/0")).values()} == {torch.float32}
    before = read_json("runs/geometry/0/before_after.json")["metrics"]["val/abs_rel"]["before"]
    assert main(["test", *words(tiny_weights, "--model.adapter=null", "--run.name=base")]) == 0
    base = read_json("runs/base/0/results.json")["sets"]["test"]["overall"]["abs_rel"]
    assert before == pytest.approx(base, rel=1e-5 if forced == "32-true" else 2e-2)


def test_a_projected_fit_of_a_mined_basis_is_tested_as_it_was_trained(tiny_weights: Path, forced: str) -> None:
    for partition in (0, 1):
        assert fit(tiny_weights, "--trainer.max_steps=2", f"--data.partition={partition}") == 0
    assert main(["mine", "runs/geometry/0", "runs/geometry/1", "--dim=2", "--out=basis"]) == 0
    for layer in ls.SubspaceBasis.load("basis").layers.values():
        torch.testing.assert_close(layer.U.T @ layer.U, torch.eye(layer.U.shape[1]), atol=1e-5, rtol=0)
    projected = ["--model.adapter=ProjectedLoRA", "--model.adapter.basis=basis", "--model.adapter.targets=blocks"]
    assert fit(tiny_weights, *EVERY_OTHER, *projected, "--run.name=projected") == 0
    assert main(["test", "--ckpt_path=runs/projected/0", *QUIET, "--figures.scenes=0"]) == 0
    after = read_json("runs/projected/0/before_after.json")["metrics"]["val/abs_rel"]["after"]
    tested = read_json("runs/projected/0_test/results.json")["sets"]["test"]["overall"]["abs_rel"]
    assert tested == pytest.approx(after, rel=1e-5 if forced == "32-true" else 2e-2)


def test_weights_that_are_trained_themselves_stay_float32(tiny_weights: Path) -> None:
    assert fit(tiny_weights, "--trainer.max_steps=1", "--model.adapter=FullFineTuning") == 0
    state = torch.load("runs/geometry/0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    trained = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    assert len(trained) > 20
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
