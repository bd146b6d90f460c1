"""Turns jsonargparse's account of a wrong setting, often twenty nested lines, into one line with a suggestion."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from lorasub import adapters, backbones, callbacks, data, losses, tasks
from lorasub.console import meant
from lorasub.parsing import OneLineErrors

_KEY = re.compile(r'Parser key "([^"]+)"')
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_NESTED = re.compile(r"NestedArg\(key='([^']+)'")
_OPTION = re.compile(r"Option '([^']+)' is not accepted")
_UNKNOWN_CLASS = re.compile(r"Expected a dot import path string: (.+)")
_TYPE = re.compile(r"Expected an? (.+?)\. Got value: (.+)")
_UNKNOWN_WORDS = re.compile(r"[Uu]nrecognized arguments: (.+)")
_UNKNOWN_KEY = re.compile(r"""[Kk]ey ['"]([^'"]+)['"] is not expected""")

_REQUIRED = re.compile(r"arguments are required: (.+)")
_NOT_THERE = re.compile(r"module '([^']+)' has no attribute '([^']+)'")
#: Where the classes are that settings name.
_PARTS = (tasks, backbones, adapters, data, callbacks, losses, torch.optim)
#: Base classes of sections, which stand in messages where the command line names no class.
_SECTIONS = {"LightningDataModule": "data", "SceneTask": "model"}
#: Beginnings of lines that only say where in jsonargparse's trials a line stands.
_FRAME = (
    "Parser key",
    "Expected a path but",
    "Does not validate",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Problem with",
)


class SettingsParser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser, whose errors are ours: one line each, with what was probably meant."""

    def explained(self, message: str) -> str:
        """See :class:`~lorasub.parsing.OneLineErrors`."""
        return explain(message, self)


def explain(message: str, parser: ArgumentParser) -> str:
    """Say in one line what is wrong with a setting, and what was probably meant.

    Args:
        message: of jsonargparse.
        parser: that it comes from.
    """
    if found := _UNKNOWN_WORDS.search(message):
        word = found[1].split()[0].partition("=")[0]
        return f"there is no option '{word}'{meant(word, _options(parser))}"
    if found := _UNKNOWN_KEY.search(message):
        names = [option.removeprefix("--") for option in _options(parser)]
        return f"there is no setting '{found[1]}'{meant(found[1], names)}"
    keys, classes = _KEY.findall(message), _CLASS.findall(message)
    given = _NESTED.findall(message)
    if found := _OPTION.search(message):
        classes += re.findall(r"is not accepted\. Got value: Namespace\(class_path='([^']+)'", message)
        name = classes[-1].rpartition(".")[2] if classes else "it"
        names = _parameters(classes[-1]) if classes else []
        where = f" (at {'.'.join(dict.fromkeys(keys))})" if keys else ""
        if name in _SECTIONS:
            section = _SECTIONS[name]
            return f"--{section}.{found[1]} changes settings of no class yet; name one with --{section} CLASS"
        return f"{name} has no option '{found[1]}'{meant(found[1], names, '; it has')}{where}"
    if found := _UNKNOWN_CLASS.search(message):
        word = found[1].strip()
        return f"{_path(keys, given)}: there is no class '{word}'{meant(word, _classes())}"
    if found := _TYPE.search(message):
        given_value = found[2].partition(". Got value: ")[0]
        choices = re.findall(r"'([^']+)'", found[1]) if "Literal" in found[1] else []
        wanted = f"one of {', '.join(choices)}" if choices else re.sub(r"<class '([^']+)'>", r"\1", found[1])
        return f"{_path(keys, given)} is '{given_value}'; it must be {wanted}{meant(given_value, choices)}"
    if found := _REQUIRED.search(message):
        owner = f"{classes[-1].rpartition('.')[2]} (at {'.'.join(dict.fromkeys(keys))})" if classes else parser.prog
        if "--config" not in _options(parser):
            return f"{owner} needs {found[1]}; {parser.prog} --help has an example"
        return f"{owner} needs {found[1]}; give it in a --config or as an option"
    if found := _NOT_THERE.search(message):
        return f"{_path(keys, given)}: {found[1]} has no class '{found[2]}'{meant(found[2], _classes())}"
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    telling = [line for line in lines if not line.startswith(_FRAME) and line != "Expected a <class 'NoneType'>"]
    return (
        f"{_path(keys, given)}: {'; '.join(dict.fromkeys(telling[:2] or lines[:2]))}" if keys else "; ".join(lines[:2])
    )


def _path(keys: Sequence[str], given: Sequence[str]) -> str:
    """The setting's full name: keys of all levels, the last of which may be told as a nested argument only."""
    path = ".".join(dict.fromkeys(keys))
    longest = max(given, key=len, default="")
    whole = f"{keys[0]}.{longest}" if keys and longest else path
    return whole if len(whole) > len(path) else path


def _options(parser: ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def _classes() -> list[str]:
    """Names of classes that settings may mean."""
    return [name for part in _PARTS for name in part.__all__ if name[:1].isupper()]


def _parameters(path: str) -> list[str]:
    """Names of the arguments of a class or class method, by its full name; nothing if it cannot be found."""
    names = path.split(".")
    first = next((index for index, name in enumerate(names) if name[:1].isupper()), len(names) - 1)
    owner: Any = next((vars(part)[names[first]] for part in _PARTS if names[first] in vars(part)), None)
    for name in names[first + 1 :]:
        owner = getattr(owner, name, None)
    if not callable(owner):
        return []
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [name for name, given in inspect.signature(owner).parameters.items() if given.kind not in kinds]
