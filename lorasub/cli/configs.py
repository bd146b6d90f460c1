"""``configs``: which configs come with the package, and a copy of one to edit."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

from lorasub.cli.arguments import show, verb_parser
from lorasub.console import text_table
from lorasub.errors import ConfigError
from lorasub.packaged_configs import config_folder, config_names, find_config

_EXAMPLE = "lorasub configs geometry"


def run(arguments: Sequence[str]) -> None:
    """Lists the configs, or copies one."""
    does = "List the configs that come with the package, or copy one into configs/ to edit it."
    parser = verb_parser("configs", does, _EXAMPLE)
    parser.add_argument("name", nargs="?", type=str, default=None, help="of the config to copy")
    parser.add_argument("--out", type=str, default=None, help="the copy's file; configs/NAME.yaml by default")
    parsed = parser.parse_args(list(arguments))
    if parsed.name is None:
        rows = [{"config": name, "what it does": _first_sentence(name)} for name in config_names()]
        show({"configs": rows}, text_table(rows), as_json=parsed.json)
        return
    written = copy_config(parsed.name, parsed.out)
    text = "\n".join(f"written: {path}" for path in written)
    show({"written": [str(path) for path in written]}, text, as_json=parsed.json)


def copy_config(name: str, out: str | None = None) -> list[Path]:
    """Copies a config, with the readers that it names beside it, and returns the new files.

    Args:
        name: such as ``geometry``.
        out: the copy's file.

    Raises:
        ConfigError: there is no such config, or the file is there already.
    """
    source = find_config(name)
    inside = source.is_relative_to(config_folder())
    relative = source.relative_to(config_folder()) if inside else Path(source.name)
    target = Path("configs") / relative if out is None else Path(out)
    copies = {source: target}
    readers = config_folder() / "sample_readers.py"
    if "configs.sample_readers" in source.read_text(encoding="utf-8"):
        copies[readers] = target.parent / readers.name
    for path in copies.values():
        if path.exists():
            raise ConfigError(f"{path} is there already; name another file with --out")
    for old, new in copies.items():
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(old, new)
    return list(copies.values())


def _first_sentence(name: str) -> str:
    lines = find_config(name).read_text(encoding="utf-8").splitlines()
    words = " ".join(line.lstrip("# ") for line in itertools.takewhile(lambda line: line.strip("# "), lines)).split()
    end = next((number for number, word in enumerate(words, 1) if word[-1] in ".?"), len(words))
    return " ".join(words[:end])
