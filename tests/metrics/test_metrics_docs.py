"""The page on evaluation lists the protocols that there are."""

from __future__ import annotations

from pathlib import Path

from lorasub.metrics import PROTOCOLS


def test_the_page_lists_every_protocol(repository: Path) -> None:
    page = (repository / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = [f"| `{name}` | {protocol.measures} | {protocol.used_by} |" for name, protocol in PROTOCOLS.items()]
    assert "\n".join(rows) in page
