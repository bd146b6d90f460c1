"""The code on the adapters' page runs as it stands there."""

from __future__ import annotations

import re

import pytest


def test_the_page_runs(repository, tmp_path, monkeypatch, capsys):
    pytest.importorskip("peft")
    blocks = re.findall(r"```python\n(.*?)```", (repository / "docs" / "adapters.md").read_text(), re.DOTALL)
    assert len(blocks) >= 6
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks), {})
    out = capsys.readouterr().out
    assert "total" in out
    assert "projected" in out
