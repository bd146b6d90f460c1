"""Help that answers at once, and errors that a person can act on."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tqdm import tqdm

from lorasub._version import __version__
from lorasub.cli.main import VERBS, main

HEAVY = ("torch", "lightning", "jsonargparse", "numpy", "matplotlib")


def heavy_imports_of(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command, which in the end prints the heavy packages that it has imported."""
    code = (
        "import sys; from lorasub.cli.main import main; code = main(sys.argv[1:]); "
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules]); sys.exit(code)"
    )
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [["--help"], ["--version"], []])
def test_help_and_version_import_nothing_heavy(words: list[str]) -> None:
    done = heavy_imports_of(*words)
    assert done.returncode == (0 if words else 2)
    assert "heavy: []" in done.stdout
    text = done.stdout + done.stderr
    assert (__version__ if words == ["--version"] else "usage: lorasub") in text


def test_configs_are_listed_without_torch() -> None:
    done = heavy_imports_of("configs")
    assert done.returncode == 0
    assert "heavy: ['jsonargparse']" in done.stdout


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {verb} " in told for verb in VERBS)


def test_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fti"]) == 2
    told = capsys.readouterr().err
    assert "'fti'" in told
    assert "fit" in told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["data", "check"], "lorasub data check needs path; lorasub data check --help has an example"),
        (["data", "check", "x", "--format.class_path=Nope"], "format.class_path: there is no class 'Nope'"),
    ],
)
def test_mistakes_of_every_verb_are_told_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"lorasub: {says}"


def test_warnings_are_one_line_without_a_place_in_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def warn(verb: str, arguments: object) -> None:
        told.append(warnings.formatwarning(UserWarning("skipping\n  a frame"), UserWarning, "reader.py", 168))

    monkeypatch.setattr("lorasub.cli.main.run_verb", warn)
    assert main(["configs"]) == main(["configs", "--debug"]) == 0
    assert told[0] == "warning: skipping a frame\n"
    assert "reader.py:168" in told[1]
    assert warnings.formatwarning(UserWarning("x"), UserWarning, "reader.py", 168).startswith("reader.py:168")


def test_an_error_stands_on_a_line_of_its_own_while_a_bar_is_open(capsys: pytest.CaptureFixture[str]) -> None:
    with tqdm(total=3, file=sys.stderr) as bar:
        bar.update()
        assert main(["fti"]) == 2
        told = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert next(line for line in told if "there is no verb" in line).startswith("lorasub: ")


@pytest.fixture
def capture_folder(tmp_path: Path) -> Path:
    """A 7-Scenes folder of ten views of a flat wall, from a camera that slides along x."""
    folder = tmp_path / "capture"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    (folder / "camera-intrinsics.txt").write_text("60 0 32\n0 60 24\n0 0 1\n")
    for index in range(10):
        stem = folder / f"frame-{index:06d}"
        pixels = torch.randint(0, 255, (48, 64, 3), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(f"{stem}.color.png")
        Image.fromarray(torch.full((48, 64), 2000, dtype=torch.int32).numpy().astype("uint16")).save(
            f"{stem}.depth.png"
        )
        pose = torch.eye(4)
        pose[0, 3] = 0.05 * index
        Path(f"{stem}.pose.txt").write_text("\n".join(" ".join(f"{v:.6f}" for v in row) for row in pose.tolist()))
    return folder


def fit(repository: Path, tmp_path: Path, weights: Path | None, *words: str, config: str = "geometry") -> int:
    if weights is not None:
        words = ("--model.backbone=lorasub.VGGT.from_pretrained", f"--model.backbone.source={weights}", *words)
    return main(
        [
            *("fit", "--config", str(repository / "configs" / f"{config}.yaml"), "--trainer.accelerator=cpu"),
            *(f"--run.folder={tmp_path / 'runs'}", "--trainer.max_steps=1", "--trainer.limit_val_batches=1"),
            *("--trainer.enable_progress_bar=false", "--data.image_size=28", "--panels.scenes=0", *words),
        ]
    )


WRONG: dict[str, tuple[list[str], str, int]] = {
    "unknown attribute": (["--data.attribute=colour"], "colour", 2),
    "rank 0": (["--model.adapter.r=0"], "rank must be", 2),
    "no target": (["--model.adapter.targets=[nothing_like_this]"], "nothing_like_this", 2),
    "image size": (["--data.image_size=30"], "patch", 2),
    "unknown option": (["--model.adapter.rnak=3"], "rnak", 2),
    "unknown preset": (["--model.backbone.name=micro"], "micro", 2),
    "no config": (["--config=does_not_exist.yaml"], "does_not_exist.yaml", 2),
    "no checkpoint": (["--ckpt_path=nowhere.ckpt"], "nowhere.ckpt", 1),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings(
    repository: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    words, says, code = WRONG[case]
    assert fit(repository, tmp_path, None if "preset" in case else tiny_weights, *words) == code
    told = capsys.readouterr().err
    assert says in told
    assert "Traceback" not in told
    assert len([line for line in told.splitlines() if line.startswith("lorasub: ")]) <= 1


def test_missing_folder(
    repository: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(repository, tmp_path, tiny_weights, f"--data.root={tmp_path / 'nowhere'}", config="real_rgbd") == 1
    assert "nowhere" in capsys.readouterr().err


def test_truncated_image(
    repository: Path, tiny_weights: Path, tmp_path: Path, capture_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = capture_folder / "frame-000009.color.png"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    words = [f"--data.root={capture_folder}", "--data.num_views=2", "--data.batch_size=1"]
    assert fit(repository, tmp_path, tiny_weights, *words, config="real_rgbd") == 1
    assert damaged.name in capsys.readouterr().err


def test_checkpoint_of_another_model(
    repository: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(repository, tmp_path, tiny_weights) == 0
    checkpoint = tmp_path / "runs" / "geometry" / "0" / "checkpoints" / "last.ckpt"
    content: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    content["lorasub"]["base_model_hash"] = "f" * 64
    torch.save(content, checkpoint)
    assert fit(repository, tmp_path, tiny_weights, f"--ckpt_path={checkpoint}", "--trainer.max_steps=2") == 1
    assert "ffffffffffff" in capsys.readouterr().err
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    assert fit(repository, tmp_path, tiny_weights, f"--ckpt_path={checkpoint}") == 1
    assert "last.ckpt" in capsys.readouterr().err
