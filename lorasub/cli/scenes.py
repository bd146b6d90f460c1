"""``generate``: synthetic scenes as files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from lorasub.cli.arguments import show, verb_parser
from lorasub.cli.generation import generate
from lorasub.data.synthetic import SyntheticScenes
from lorasub.errors import ConfigError
from lorasub.exports.scene_folders import LAYOUTS, Layout
from lorasub.training.packaged_configs import find_config
from lorasub.training.sources import read_yaml


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
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
    data: SyntheticScenes = parser.instantiate(parsed).data
    path = generate(data, parsed.out, layout=parsed.layout, workers=parsed.workers, device=parsed.device)
    result = {"manifest": str(path), "train": data.num_scenes, "validation": data.val_scenes}
    text = f"{data.num_scenes} training and {data.val_scenes} validation scenes: {path}"
    show(result, text, as_json=parsed.json)


def _data_of_configs(arguments: Sequence[str], folder: Path) -> list[str]:
    """The arguments with each config of a fit replaced by a file that holds the settings of its data alone."""
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    for place in [index + 1 for index, word in enumerate(words[:-1]) if word == "--config"]:
        given = find_config(words[place])
        data = read_yaml(given).get("data")
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
