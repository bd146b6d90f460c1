"""The wheel works without a checkout: its configs travel with it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from lorasub.cli.main import main
from lorasub.packaged_configs import config_folder, config_names
from lorasub.study.reading import read_study
from tests.training.small_runs import DATA, NO_PICTURES, QUIET


def test_configs_are_listed_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(config_names())
    assert any(line.startswith("geometry ") and "LoRA adapter" in line for line in lines)
    assert all(line.endswith((".", "?", '"')) for line in lines[1:])  # whole sentences
    assert main(["configs", "geometry"]) == 0
    assert main(["configs", "real_samples"]) == 0
    assert {path.name for path in (tmp_path / "configs").iterdir()} == {
        *("geometry.yaml", "real_samples.yaml", "sample_readers.py")
    }
    assert (tmp_path / "configs" / "geometry.yaml").read_bytes() == (config_folder() / "geometry.yaml").read_bytes()
    (tmp_path / "configs" / "geometry.yaml").write_text("mine")
    assert main(["configs", "geometry"]) == 2
    assert (tmp_path / "configs" / "geometry.yaml").read_text() == "mine"
    assert main(["configs", "study/nano_ablations"]) == 0
    assert read_study("configs/study/nano_ablations.yaml") == read_study("study/nano_ablations")
    assert main(["configs", "geometri"]) == 2
    assert "'geometry'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_wheel_fits_outside_of_the_checkout(repository: Path, tiny_weights: Path, tmp_path: Path) -> None:
    """Built, installed into a fresh environment beside the packages that are here, and run for two steps."""

    def call(*command: str | Path, folder: Path = tmp_path) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, repository)
    (wheel,) = tmp_path.glob("lorasub-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"lorasub/configs/{name}.yaml" for name in config_names()} <= set(names)

    call(sys.executable, "-m", "venv", "--without-pip", tmp_path / "fresh")
    (site,) = (tmp_path / "fresh").glob("lib/python*/site-packages")
    # everything but lorasub itself: an editable installation of it is a file that is not read from here
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    call(*pip, "--python", tmp_path / "fresh" / "bin" / "python", "install", "--no-deps", wheel)
    lorasub = tmp_path / "fresh" / "bin" / "lorasub"
    assert "geometry" in call(lorasub, "configs")
    tiny = ["--model.backbone=lorasub.VGGT.from_pretrained", f"--model.backbone.source={tiny_weights}"]
    told = call(lorasub, "fit", "--config", "geometry", *tiny, *DATA, *QUIET, *NO_PICTURES, "--trainer.max_steps=2")
    assert told.splitlines()[-1] == "run: runs/geometry/0"
    assert (tmp_path / "runs" / "geometry" / "0" / "adapter" / "adapter_model.safetensors").is_file()
