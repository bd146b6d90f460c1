"""``data check``: was this capture read right?"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tqdm import tqdm

from lorasub.cli.arguments import show, verb_parser
from lorasub.data.check import check_capture
from lorasub.data.readers.discovery import find_captures
from lorasub.errors import ConfigError, DataError


def run(verb: str, arguments: Sequence[str]) -> None:
    """Run ``data check``."""
    if not arguments or arguments[0] not in ("check", "-h", "--help"):
        raise ConfigError(f"there is 'lorasub data check PATH', not 'lorasub data {' '.join(arguments[:1])}'")
    does = "Read a capture, and prove poses, depth unit and intrinsics by moving depth from view to view."
    parser = verb_parser("data check", does, "lorasub data check path/to/capture")
    parser.add_argument("path", type=str, help="folder of the capture, or of several")
    parser.add_argument("--format", type=str, default="auto", help="name of a format, or auto")
    parsed = parser.parse_args(list(arguments[1:] if arguments[0] == "check" else arguments))
    reports = []
    for capture in find_captures(parsed.path, parsed.format):
        with tqdm(total=len(capture), unit="frame", leave=False, disable=not sys.stderr.isatty()) as bar:
            reports.append(check_capture(capture, on_frame=bar.update))
    text = "\n\n".join(report.words() for report in reports)
    show({"captures": [report.as_dict() for report in reports]}, text, as_json=parsed.json)
    if bad := [report.name for report in reports if not report.ok]:
        raise DataError(f"{len(bad)} of {len(reports)} captures have problems: {', '.join(bad)}")
