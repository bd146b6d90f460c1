"""The page about backbones: its code runs, and its numbers are the model's."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from scene_examples import random_scenes
from torch.utils.data import DataLoader

from lorasub import VGGT, DepthAnything3, GeometryTask, LoRA, Predictions, SceneBatch, VGGTConfig
from lorasub.backbones.depth_anything3.config import PRESETS as DEPTH_ANYTHING_3
from lorasub.backbones.vggt import presets
from lorasub.cli.main import main


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs" / "backbones.md").read_text(encoding="utf-8")


def test_code_of_the_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*UNTRAINED.*")
        for block in blocks:
            exec(compile(block, "docs/backbones.md", "exec"), names)
    backbone: Any = names["SmallDepth"]
    predictions = backbone()(torch.rand(1, 2, 3, 64, 96))
    assert isinstance(predictions, Predictions)
    assert predictions.depth.shape == predictions.depth_conf.shape == (1, 2, 64, 96)
    encoding: Any = names["encoding"]
    assert encoding[0, 1, :3].tolist() == [-0.5, 0.0, 0.0]


@pytest.mark.slow
def test_the_script_about_two_backbones_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one step in place of forty, and two adapters in place of four."""
    (block,) = re.findall(r"^```{code-block} python\n(# two_backbones.py.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    short = block.replace("= 400, 40, 4, 56", "= 1, 1, 2, 28")
    assert short != block
    monkeypatch.chdir(tmp_path)
    exec(compile(short, "docs/backbones.md", "exec"), {})
    bases = {path.parent.relative_to(tmp_path / "bases").as_posix() for path in tmp_path.glob("bases/*/*/basis.json")}
    assert bases == {"nano/geometry", "nano/texture", "small-da3/geometry", "small-da3/texture"}


def test_what_inspect_says_of_the_example_is_true(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"^```python\n(# smalldepth.py.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    (tmp_path / "smalldepth.py").write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (command, shown) = re.findall(
        r"^\$ lorasub (inspect backbone \S+)\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE
    )[0]
    assert main(command.split()) == 0
    words, told = shown.split(), capsys.readouterr().out.split()  # the table's columns are no part of the promise
    assert words == told[: len(words)]


def test_the_example_of_the_page_can_be_fitted(page: str, tmp_path: Path) -> None:
    """Its blocks are torch's own transformer layers, whose fast path validation takes."""
    (block,) = re.findall(r"^```python\n([^`]*?class SmallDepth.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/backbones.md", "exec"), names)
    task = GeometryTask(names["SmallDepth"](dim=16, depth=1), LoRA(r=2, targets="blocks"))
    assert {"blocks.layers.0.self_attn", "blocks.layers.0.linear1"} <= set(task.adapters.layers)
    scenes = [random_scenes(1, 2, (16, 32), seed=seed, dtype=torch.float32) for seed in range(2)]
    loader: Any = DataLoader(scenes, batch_size=2, collate_fn=SceneBatch.concatenate)  # type: ignore[arg-type]
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, loader, loader)
    moved = [name for name, value in task.adapters.state_dict().items() if "lora_B" in name and value.abs().max() > 0]
    assert len(moved) == len(task.adapters.layers)


@pytest.mark.parametrize("name", DEPTH_ANYTHING_3)
def test_table_of_depth_anything_3_is_true(page: str, name: str) -> None:
    with torch.device("meta"):
        model = DepthAnything3.from_preset(name)  # type: ignore[arg-type]
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}`")]
    preset, count = DEPTH_ANYTHING_3[name], sum(p.numel() for p in model.parameters())
    own, alternating = preset.config.alternate_from, preset.config.depth - preset.config.alternate_from
    licence = preset.license.replace("-BY-NC-4", " BY-NC 4")
    assert row == f"| `{name}` | `{preset.hub_id}` | {licence} | {count:,} | {own}, {alternating} |"


@pytest.mark.parametrize(("name", "column"), [("nano", 1), ("vggt-1b", 2)])
def test_table_of_sizes_is_true(page: str, name: str, column: int) -> None:
    config: VGGTConfig = presets.PRESETS[name].config
    with torch.device("meta"):
        model = VGGT(config)
    groups = {
        "parameters: encoder": "aggregator.patch_embed.",
        "frame blocks": "aggregator.frame_blocks.",
        "global blocks": "aggregator.global_blocks.",
        "camera head": "camera_head.",
        "depth head": "depth_head.",
        "point head": "point_head.",
        "all": "",
    }
    rows = {cells[0]: cells for line in page.splitlines() if len(cells := re.split(r"\s*\|\s*", line.strip("| "))) == 3}
    for row, prefix in groups.items():
        count = sum(p.numel() for path, p in model.named_parameters() if path.startswith(prefix))
        assert rows[row][column] == f"{count:,}", row
