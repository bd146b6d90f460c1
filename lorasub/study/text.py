"""Markdown tables, and a Markdown report as one HTML file that opens anywhere."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 0.9rem; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: 0.25rem 0.75rem; text-align: left }
img { max-width: 100% }
code { background: #f3f3f3; padding: 0 0.2rem }
"""


def markdown(rows: Rows, columns: Iterable[str] | None = None) -> str:
    """A Markdown table."""
    names = list(columns or rows[0])
    lines = [names, ["---"] * len(names), *([_cell(row.get(name)) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|")


def page(text: str, folder: Path) -> str:
    """A Markdown text as an HTML page; the pictures that it shows are put into the page itself.

    Args:
        text: with tables as GitHub writes them.
        folder: where the pictures are.
    """
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)

    def embedded(found: re.Match[str]) -> str:
        data = base64.b64encode((folder / html.unescape(found[1])).read_bytes()).decode("ascii")
        return f'src="data:image/png;base64,{data}"'

    body = re.sub(r'src="([^":]+\.png)"', embedded, body)
    title = html.escape(next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), ""))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
