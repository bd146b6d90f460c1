"""The page about backbones: its code runs, and its numbers are the model's."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch

from lorasub import VGGT, Predictions, VGGTConfig
from lorasub.backbones.vggt import presets


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs" / "backbones.md").read_text(encoding="utf-8")


def test_code_of_the_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*UNTRAINED.*")
        for block in blocks:
            exec(compile(block, "docs/backbones.md", "exec"), names)
    predictions = names["predictions"]
    assert isinstance(predictions, Predictions)
    assert predictions.depth.shape == predictions.depth_conf.shape == (1, 2, 64, 96)
    assert predictions.pose_encoding is None
    assert len(names["backbone"].weights_hash()) == 64


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
