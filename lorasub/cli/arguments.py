"""Parsers, progress bars and printed results of the verbs outside of Lightning's command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from tqdm import tqdm

from lorasub.errors import ConfigError
from lorasub.parsing import OneLineErrors


class VerbParser(OneLineErrors, ArgumentParser):
    """A parser whose errors are one line, with what was probably meant."""

    def explained(self, message: str) -> str:
        """See :class:`~lorasub.parsing.OneLineErrors`."""
        from lorasub.training.mistakes import explain  # heavy, and of use for mistakes only

        return explain(message, self)


def verb_parser(verb: str, does: str, example: str) -> VerbParser:
    """A parser whose help ends with an example, with ``--json`` for results as data.

    Args:
        verb: as on the command line.
        does: one sentence.
        example: a command.
    """
    parser = VerbParser(prog=f"lorasub {verb}", description=does, epilog=f"example: {example}")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def add_out(parser: ArgumentParser, does: str, *, required: bool = True) -> None:
    """Add ``--out`` and ``--overwrite``.

    Args:
        parser: of a verb.
        does: what the folder or file is for.
        required: whether there must be one.
    """
    parser.add_argument("--out", type=str, required=required, default=None, help=does)
    parser.add_argument("--overwrite", action="store_true", help="replace what is at --out already")


def check_out(parsed: Namespace | argparse.Namespace) -> None:
    """Refuse to write where something is, before anything is computed.

    Raises:
        ConfigError: naming the way out.
    """
    if parsed.out is None or parsed.overwrite:
        return
    path = Path(parsed.out)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ConfigError(f"{path} is there already; choose another --out, or give --overwrite to replace it")


def options_of(parsed: Namespace, names: Sequence[str]) -> dict[str, Any]:
    """The keyword arguments of these names, for the function whose options they are."""
    return {name: parsed[name] for name in names}


def named_paths(items: Sequence[str]) -> dict[str, list[str]]:
    """``NAME=PATH,PATH`` items as name -> paths; an item without a name is named by its last folder.

    Raises:
        ConfigError: a name comes twice, or a path is missing.
    """
    named: dict[str, list[str]] = {}
    for item in items:
        name, equals, value = item.partition("=")
        paths = [path for path in (value if equals else name).split(",") if path]
        if not equals:
            name = name.rstrip("/").rpartition("/")[2]
        if not paths or not name:
            raise ConfigError(f"'{item}' should be PATH or NAME=PATH[,PATH...]")
        if name in named:
            raise ConfigError(f"the name '{name}' comes twice; give other names: NAME=PATH")
        named[name] = paths
    return named


def progress(items: Iterable[Any] | None = None, unit: str = "layer", **options: Any) -> Any:
    """Returns a progress bar on standard error, which only people see.

    Args:
        items: to go through; None for a bar that is moved with ``update``.
        unit: name of one item.
        options: of tqdm.
    """
    return tqdm(items, unit=unit, disable=not sys.stderr.isatty(), **{"leave": False, **options})


def show(result: Any, text: str, *, as_json: bool) -> None:
    """Print a result, as data or as text."""
    if as_json:
        from lorasub.files import plain  # imports torch, a second that a verb without tensors need not wait

        text = json.dumps(plain(result), indent=2, default=str)
    print(text)  # noqa: T201
