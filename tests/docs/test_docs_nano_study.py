"""The page about the nano study has no number in its tables that its generated report does not have."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_tables_of_the_page_are_those_of_the_report() -> None:
    def tables(path: Path) -> list[str]:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]

    page, report = tables(DOCS / "nano_study.md"), set(tables(DOCS / "studies" / "nano_small" / "report.md"))
    assert len(page) > 20
    assert not [line for line in page if line not in report]
