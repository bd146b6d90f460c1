"""``audit``: does only the chosen attribute vary?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from PIL import Image
from tqdm import tqdm

from lorasub.cli.arguments import show, table, verb_parser
from lorasub.files import atomic_path, write_json
from lorasub.scenes.audit import audit, contact_sheet
from lorasub.scenes.presets import ATTRIBUTES, PRESETS, Design, SceneSampler


def run(verb: str, arguments: Sequence[str]) -> None:
    """Run ``audit``."""
    parser = verb_parser(
        "audit",
        "Measure how much each attribute varies in the scenes of a preset: 1 is as much as the ranges allow.",
        "lorasub audit geometry texture --out audit",
    )
    parser.add_argument(
        "presets", nargs="*", type=str, default=list(PRESETS), help=f"some of {', '.join(PRESETS)}; all by default"
    )
    parser.add_argument("--design", type=Design, default="within", help=f"{' or '.join(get_args(Design))}")
    parser.add_argument("--partition", type=int, default=0)
    parser.add_argument("--num_scenes", type=int, default=16, help="scenes that are compared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=str, default=None, help="folder for audit.json and a contact sheet per preset")
    parsed = parser.parse_args(list(arguments))
    rows = []
    for preset in tqdm(parsed.presets, unit="preset", leave=False, disable=not sys.stderr.isatty()):
        sampler = SceneSampler(
            attribute=preset, design=parsed.design, partition=parsed.partition, seed=parsed.seed, num_views=2
        )
        found = audit(sampler, num_scenes=parsed.num_scenes)
        dominance = found.dominance(preset) if preset in ATTRIBUTES else None
        row: dict[str, Any] = {"preset": found.preset, **{str(name): value for name, value in found.images.items()}}
        rows.append(row | {"chosen over the largest other": dominance, "scenes": found.scenes})
        if parsed.out:
            with atomic_path(Path(parsed.out) / f"{preset}.png") as temporary:
                Image.fromarray(contact_sheet(sampler)).save(temporary, format="PNG")
    if parsed.out:
        write_json(Path(parsed.out) / "audit.json", rows)
    show({"presets": rows}, table(rows), as_json=parsed.json)
