"""``audit``: does only the chosen attribute vary? ``generate``: synthetic scenes as files."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from PIL import Image
from tqdm import tqdm

from lorasub.cli.arguments import show, table, verb_parser
from lorasub.cli.generation import generate
from lorasub.data.synthetic import SyntheticScenes
from lorasub.errors import ConfigError
from lorasub.exports.scene_folders import LAYOUTS, Layout
from lorasub.files import atomic_path, write_json
from lorasub.scenes.audit import audit, contact_sheet
from lorasub.scenes.presets import ATTRIBUTES, PRESETS, Design, SceneSampler


def run(verb: str, arguments: Sequence[str]) -> None:
    """Run one of the verbs of this module."""
    {"audit": _audit, "generate": _generate}[verb](arguments)


def _generate(arguments: Sequence[str]) -> None:
    parser = verb_parser(
        "generate",
        "Write synthetic scenes to disk. Stopped, it goes on with the same command.",
        "lorasub generate --config configs/geometry.yaml --data.num_scenes 100 --out scenes",
    )
    parser.add_argument("--config", action="config", help="YAML file of a fit; its `data` is what is written")
    parser.add_class_arguments(SyntheticScenes, "data", skip={"num_workers"})
    parser.add_argument("--out", type=str, required=True, help="folder of the data set")
    parser.add_argument("--layout", type=Layout, default="lorasub", help=", ".join(LAYOUTS))
    parser.add_argument("--workers", type=int, default=0, help="processes that render and write")
    parser.add_argument("--device", type=str, default="cpu", help="cpu or cuda")
    with tempfile.TemporaryDirectory() as folder:
        parsed = parser.parse_args(_data_of_configs(arguments, Path(folder)))
    # the first name is that of jsonargparse 4.49 and later, where the second is deprecated
    instantiate = parser.instantiate if hasattr(parser, "instantiate") else parser.instantiate_classes
    data: SyntheticScenes = instantiate(parsed).data
    path = generate(data, parsed.out, layout=parsed.layout, workers=parsed.workers, device=parsed.device)
    result = {"manifest": str(path), "train": data.num_scenes, "validation": data.val_scenes}
    text = f"{data.num_scenes} training and {data.val_scenes} validation scenes: {path}"
    show(result, text, as_json=parsed.json)


def _data_of_configs(arguments: Sequence[str], folder: Path) -> list[str]:
    """The arguments with each config of a fit replaced by a file that holds the settings of its data alone."""
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    for place in [index + 1 for index, word in enumerate(words[:-1]) if word == "--config"]:
        given = Path(words[place])
        try:
            content = yaml.safe_load(given.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{given} cannot be read as YAML: {error}") from error
        data = content.get("data") if isinstance(content, dict) else None
        if not isinstance(data, dict):
            raise ConfigError(f"{given} has no section 'data'")
        kind = str(data.get("class_path", "SyntheticScenes"))
        if kind.rpartition(".")[2] != "SyntheticScenes":
            raise ConfigError(f"the data of {given} is {kind}; only SyntheticScenes can be generated")
        settings = dict(data.get("init_args", {}) if "class_path" in data else data)
        settings.pop("num_workers", None)
        words[place] = str(folder / f"{place}.yaml")
        Path(words[place]).write_text(yaml.safe_dump({"data": settings}), encoding="utf-8")
    return words


def _audit(arguments: Sequence[str]) -> None:
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
    parser.add_argument("--image_size", type=int, default=56, help="height and width of what is compared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=str, default=None, help="folder for audit.json and a contact sheet per preset")
    parsed = parser.parse_args(list(arguments))
    rows = []
    for preset in tqdm(parsed.presets, unit="preset", leave=False, disable=not sys.stderr.isatty()):
        sampler = SceneSampler(
            attribute=preset, design=parsed.design, partition=parsed.partition, seed=parsed.seed, num_views=2
        )
        found = audit(sampler, num_scenes=parsed.num_scenes, image_size=(parsed.image_size, parsed.image_size))
        dominance = found.dominance(preset) if preset in ATTRIBUTES else None
        row: dict[str, Any] = {"preset": found.preset, **{str(name): value for name, value in found.images.items()}}
        rows.append(row | {"chosen over the largest other": dominance, "scenes": found.scenes})
        if parsed.out:
            sheet = Image.fromarray(contact_sheet(dataclasses.replace(sampler, num_views=4)))
            with atomic_path(Path(parsed.out) / f"scenes_{preset}.png") as temporary:
                sheet.quantize(256).save(temporary, format="PNG", optimize=True)  # a third of the size
    if parsed.out:
        write_json(Path(parsed.out) / "audit.json", rows)
    show({"presets": rows}, table(rows), as_json=parsed.json)
