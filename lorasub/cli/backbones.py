"""``inspect backbone``: does a backbone keep the contract? Run on random images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lorasub.backbones import Backbone
from lorasub.cli.arguments import show, verb_parser
from lorasub.console import text_table
from lorasub.errors import ConfigError
from lorasub.training.backbone_check import BackboneReport, check_backbone


def run(arguments: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        ConfigError: something breaks the contract; all of it is printed first.
    """
    parser = verb_parser(
        "inspect backbone",
        "Run a backbone on random images: shapes, frames, signs, gradients, determinism, and what its groups match.",
        "lorasub inspect backbone mymodule.SmallDepth --backbone.dim 64",
    )
    parser.add_argument("--backbone", type=Backbone, required=True, help="import path; its own options as --backbone.X")
    parser.add_argument("--views", type=int, default=3, help="views of a scene")
    parser.add_argument("--image_size", type=tuple[int, int], default=None, help="[H, W] in pixels; small by default")
    words = list(arguments)
    if words and not words[0].startswith("-"):
        words[0] = f"--backbone={words[0]}"
    parsed = parser.parse_args(words)
    backbone = parser.instantiate_classes(parsed).backbone
    report = check_backbone(backbone, views=parsed.views, image_size=parsed.image_size)
    show(_data(report), _text(report), as_json=parsed.json)
    if not report.ok:
        wrong = sum(finding.verdict == "wrong" for finding in report.findings)
        raise ConfigError(f"{report.name} breaks the contract in {wrong} point{'s' * (wrong > 1)}; see above")


def _text(report: BackboneReport) -> str:
    findings = [f"{finding.verdict:<6} {finding.subject:<12} {finding.text}" for finding in report.findings]
    rows = [
        {
            "group": name,
            "layers": len(paths),
            "first": paths[0] if paths else None,
            "last": paths[-1] if paths else None,
        }
        for name, paths in report.groups.items()
    ]
    facts = [f"{name}: {value}" for name, value in report.facts.items()]
    return "\n".join([*findings, "", text_table(rows), "", *facts])


def _data(report: BackboneReport) -> dict[str, Any]:
    findings = [
        {"subject": finding.subject, "verdict": finding.verdict, "text": finding.text} for finding in report.findings
    ]
    return {"backbone": report.name, "ok": report.ok, "findings": findings, "groups": report.groups, **report.facts}
