"""A study from its YAML file, every value checked against the type that its dataclass gives it.

The command line's own parser would look into every ``class_path`` entry and build what it names; a study only hands
such entries on to the fits that will.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from lorasub.errors import ConfigError
from lorasub.study.settings import Study


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes ``1e-3`` for a text, since it has no point."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


#: Name under which a study names the file of another that it starts from.
_BASE = "base"


def read_study(path: str | os.PathLike[str]) -> Study:
    """Read a study, and what it is based on.

    Raises:
        ConfigError: the file is missing or no YAML, or a setting is unknown, missing, of a wrong type or out of range.
    """
    content = _content(Path(path), ())
    try:
        study = converted(content, Study, "")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    assert isinstance(study, Study)
    return study


def _content(path: Path, before: tuple[Path, ...]) -> Any:
    """The settings in a file, on top of those of its base."""
    if path.resolve() in before:
        raise ConfigError(f"{path} is based on itself")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"the study {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, Mapping) or _BASE not in content:
        return content
    own = {name: value for name, value in content.items() if name != _BASE}
    return _merged(_content(path.parent / str(content[_BASE]), (*before, path.resolve())), own)


def _merged(base: Any, changes: Any) -> Any:
    """Settings by name go on top of each other; anything else replaces what was there."""
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        return changes
    return {**base, **{name: _merged(base.get(name), value) for name, value in changes.items()}}


def converted(value: Any, wanted: Any, where: str) -> Any:
    """Plain values as what a type annotation asks for.

    Args:
        value: from YAML.
        wanted: a dataclass, a union, a literal, ``list[...]``, ``dict[str, ...]``, a plain type or ``Any``.
        where: path of the value, for messages.

    Raises:
        ConfigError: it is not of that type.
    """
    if wanted is Any:
        return value
    if dataclasses.is_dataclass(wanted):
        return _dataclass(value, typing.cast(type, wanted), where)
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None  # not the settings of a dataclass with all of them left out
        for option in arguments:
            try:
                return converted(value, option, where)
            except ConfigError:
                continue
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin is list:
        if isinstance(value, list):
            return [converted(item, arguments[0], f"{where}[{index}]") for index, item in enumerate(value)]
    elif origin is dict:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: converted(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    elif wanted is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    told = wanted.__name__ if origin is None else str(wanted).replace("typing.", "")
    raise ConfigError(f"{where or 'the study'} should be {told}, not {value!r}")


def _dataclass(value: Any, wanted: type, where: str) -> Any:
    value = {} if value is None else value
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where or 'the study'} should hold settings by name, not {value!r}")
    fields = {field.name: field for field in dataclasses.fields(wanted)}
    prefix = f"{where}." if where else ""
    for name in value:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(fields)}"
            raise ConfigError(f"there is no setting '{prefix}{name}'{hint}")
    for name, field in fields.items():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and name not in value:
            raise ConfigError(f"'{prefix}{name}' is missing")
    hints = typing.get_type_hints(wanted)
    return wanted(**{name: converted(item, hints[name], f"{prefix}{name}") for name, item in value.items()})
