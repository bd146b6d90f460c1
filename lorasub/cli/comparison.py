"""``compare``: the results of several tests side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorasub.cli.arguments import show, verb_parser
from lorasub.console import text_table
from lorasub.errors import ConfigError
from lorasub.files import write_csv
from lorasub.metrics.comparison import Difference, compare_results
from lorasub.metrics.results import Results, plain_number

_EXAMPLE = "lorasub compare lora=runs/lora/0_test ours=runs/projected/0_test"


def run(arguments: Sequence[str]) -> None:
    """Compare every evaluation with the first."""
    does = (
        "Set the results of several tests side by side: differences to the first, with bootstrap intervals over scenes."
    )
    parser = verb_parser("compare", does, _EXAMPLE)
    parser.add_argument("results", nargs="+", type=str, help="[NAME=]PATH of a run's folder or of its results.json")
    parser.add_argument(
        "--force", action="store_true", help="compare what is shared where precision, protocols or frames differ"
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals")
    parser.add_argument("--resamples", type=int, default=9999, help="of scenes, behind the intervals")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    parser.add_argument("--metrics", type=str, default=None, help="only these results, with commas between")
    parser.add_argument("--csv", type=str, default=None, help="also write the rows to this file")
    parsed = parser.parse_args(list(arguments))
    named = _read(parsed.results)
    (first_name, first), *others = named.items()
    rows: list[dict[str, Any]] = []
    for name, other in others:
        differences = compare_results(
            first,
            other,
            force=parsed.force,
            confidence=parsed.confidence,
            resamples=parsed.resamples,
            seed=parsed.seed,
        )
        rows += [_row(first_name, name, difference) for difference in _chosen(differences, parsed.metrics)]
    if parsed.csv:
        write_csv(parsed.csv, rows)
    result = {"first": first_name, "confidence": parsed.confidence, "forced": parsed.force, "rows": rows}
    show(result, _text(first_name, rows, parsed.confidence), as_json=parsed.json)


def _read(items: Sequence[str]) -> dict[str, Results]:
    """Name -> results; without a name, the path is the name."""
    if len(items) < 2:
        raise ConfigError("compare needs the results of at least two tests")
    named: dict[str, Results] = {}
    for item in items:
        name, equals, path = item.partition("=")
        path = path if equals else item
        if name in named:
            raise ConfigError(f"'{name}' comes twice; give names: NAME=PATH")
        if not Path(path).exists():
            raise ConfigError(f"there are no results at {path}; `lorasub test` leaves them in its run's folder")
        named[name] = Results.load(path)
    return named


def _chosen(differences: list[Difference], metrics: str | None) -> list[Difference]:
    if metrics is None:
        return differences
    names = metrics.split(",")
    known = {difference.name for difference in differences}
    if missing := [name for name in names if name not in known]:
        raise ConfigError(f"there is no result '{missing[0]}'; there are {', '.join(sorted(known))}")
    return [difference for difference in differences if difference.name in names]


def _row(first: str, second: str, found: Difference) -> dict[str, Any]:
    return {
        "set": found.set,
        "result": found.name,
        "first": first,
        "second": second,
        "first_value": plain_number(found.first),
        "second_value": plain_number(found.second),
        "difference": plain_number(found.difference),
        "low": plain_number(found.low),
        "high": plain_number(found.high),
        "clear": found.clear,
        "scenes": found.scenes,
        "protocol": found.protocol,
    }


def _text(first: str, rows: list[dict[str, Any]], confidence: float) -> str:
    """A table for each other evaluation; a star marks differences whose interval excludes 0."""
    parts = []
    for second in dict.fromkeys(row["second"] for row in rows):
        shown = [
            {
                "set": row["set"],
                "result": row["result"],
                first: row["first_value"],
                second: row["second_value"],
                "difference": row["difference"],
                f"{confidence:.0%} low": row["low"],
                "high": row["high"],
                " ": "*" if row["clear"] else "",
                "scenes": row["scenes"],
            }
            for row in rows
            if row["second"] == second
        ]
        parts.append(text_table(shown))
    return "\n\n".join(parts)
