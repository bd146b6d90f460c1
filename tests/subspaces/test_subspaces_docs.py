"""The code of docs/subspaces.md runs, and its assertions hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


@pytest.mark.filterwarnings("error")
def test_page_runs(repository: Path) -> None:
    text = (repository / "docs" / "subspaces.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) > 8
    # blank lines in front keep line numbers of the page in tracebacks
    namespace: dict[str, object] = {}
    for block in blocks:
        line = text[: text.index(block)].count("\n")
        exec(compile("\n" * line + block, "docs/subspaces.md", "exec"), namespace)
