"""Reads a study from its YAML file; errors name the path in the file, the value, and the nearest name that exists."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from lorasub.console import meant
from lorasub.errors import ConfigError
from lorasub.packaged_configs import find_config
from lorasub.study.specs import Study

#: Names under which a study names the file of another that it starts from.
_BASE = "base"
#: Settings by name from which null takes away what the base has.
_REMOVABLE = {"ablations", "bases", "downstream", "methods", "shifts", "tests"}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes ``1e-3`` for a text, since it has no point."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_study(path: str | os.PathLike[str]) -> Study:
    """Reads a study, and what it is based on.

    Args:
        path: of the file, or the name of a study that comes with the package, such as ``study/smoke``.

    Raises:
        ConfigError: there is no such study, it is no YAML, or a setting is unknown, missing, of a wrong type or out of
            range.
    """
    content = _content(find_config(str(path)), ())
    try:
        return TypeAdapter(Study).validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        told = list(dict.fromkeys(_told(dict(found), content) for found in error.errors()))
        raise ConfigError("\n".join(f"{path}: {line}" for line in told)) from error


def _content(path: Path, before: tuple[Path, ...]) -> Any:
    """The settings in a file, on top of those of its base."""
    if path.resolve() in before:
        raise ConfigError(f"{path} is based on itself")
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"the study {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path} should hold settings by name, not {content!r}")
    own = {str(name): value for name, value in content.items() if name != _BASE}
    if _BASE not in content:
        return own
    beside = path.parent / str(content[_BASE])
    base = beside if beside.is_file() else find_config(str(content[_BASE]))
    merged = _merged(_content(base, (*before, path.resolve())), own)
    _take_away(merged)
    return merged


def _take_away(settings: Any) -> None:
    """Leaves out what is null below a removable setting, at any depth."""
    for name, value in settings.items() if isinstance(settings, dict) else ():
        if name in _REMOVABLE and isinstance(value, dict):
            settings[name] = value = {each: kept for each, kept in value.items() if kept is not None}
        _take_away(value)


def _merged(base: Any, changes: Any) -> Any:
    """Settings by name go on top of each other; anything else replaces what was there."""
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        return changes
    return {**base, **{name: _merged(base.get(name), value) for name, value in changes.items()}}


def _told(found: dict[str, Any], content: Any) -> str:
    """One of pydantic's errors in words."""
    where, at = "", content
    *parents, last = found["loc"] or ("",)
    for part in parents:
        where, at = _step_into(where, at, part)
    place = f"{where}.{last}".lstrip(".") if isinstance(last, str) else f"{where}[{last}]"
    if found["type"] == "unexpected_keyword_argument":
        names = _names_at(parents)
        return f"there is no setting '{place}'{meant(str(last), names, '; there are')}"
    if found["type"] in ("missing", "missing_argument"):
        return f"'{place}' is missing"
    where, at = _step_into(where, at, last)
    if found["type"] == "union_tag_invalid":
        return f"{where}.source should be one of {found['ctx']['expected_tags']}, not {found['ctx']['tag']!r}"
    if found["type"] == "value_error":
        return f"{where}: {found['ctx']['error']}".removeprefix(": ")
    wanted = found["msg"].removeprefix("Input ").replace("an object", "settings by name")
    return f"{where or 'the study'} {wanted}, not {at!r}"


def _step_into(where: str, at: Any, part: Any) -> tuple[str, Any]:
    """One step down; pydantic also names members of unions, which are no steps."""
    if isinstance(at, Mapping) and part in at:
        return f"{where}.{part}".lstrip("."), at[part]
    if isinstance(at, Sequence) and isinstance(part, int):
        return f"{where}[{part}]", at[part]
    return where, at


def _names_at(path: Sequence[Any]) -> list[str]:
    """Names of the settings of the dataclass that a path leads to."""
    at: Any = Study
    for part in path:
        options = typing.get_args(at) if typing.get_origin(at) in (types.UnionType, typing.Union) else (at,)
        at = next((each for each in options if each is not type(None)), None)
        if dataclasses.is_dataclass(at) and part in (hints := typing.get_type_hints(at)):
            at = hints[part]
        elif typing.get_origin(at) in (dict, list):
            at = typing.get_args(at)[-1]
    options = typing.get_args(at) if typing.get_origin(at) in (types.UnionType, typing.Union) else (at,)
    return [item.name for each in options if dataclasses.is_dataclass(each) for item in dataclasses.fields(each)]
