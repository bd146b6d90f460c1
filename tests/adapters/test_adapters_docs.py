"""The code on the adapters' page runs as it stands there."""

from __future__ import annotations

import re

import pytest
import yaml

from lorasub.adapters import PEFT


def test_the_page_runs(repository, tmp_path, monkeypatch, capsys):
    pytest.importorskip("peft")
    blocks = re.findall(r"```python\n(.*?)```", (repository / "docs" / "adapters.md").read_text(), re.DOTALL)
    assert len(blocks) >= 6
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks), {})
    out = capsys.readouterr().out
    assert "total" in out
    assert "projected" in out


def test_the_settings_of_adalora_are_right(repository):
    blocks = re.findall(r"```yaml\n(.*?)```", (repository / "docs" / "adapters.md").read_text(), re.DOTALL)
    (found,) = [
        entry["init_args"]
        for block in blocks
        if isinstance(adapters := yaml.safe_load(block).get("adapter"), list)
        for entry in adapters
        if entry["class_path"] == "PEFT"
    ]
    assert PEFT(**found).config["peft_type"] == "ADALORA"
