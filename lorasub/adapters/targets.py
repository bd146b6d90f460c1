"""Finds the modules that a target means: a group of the backbone, a pattern over module paths, or several of those."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterable, Mapping

from torch import nn

from lorasub.adapters.layer import AdapterLayer
from lorasub.adapters.wrappers import plain_modules, unwrapped
from lorasub.contracts import GroupedModel
from lorasub.errors import ConfigError

#: The target that means every module.
ALL = "all"


def base_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Every module of ``model`` by its path in the plain model: as if no adapters and no wrappers were there.

    A module that stands at several places is listed once, under its first path.
    """
    return {
        path: module.base_layer if isinstance(module, AdapterLayer) else module for path, module in plain_modules(model)
    }


def base_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter of ``model`` by its name in the plain model; shared ones once."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for path, module in base_modules(model).items():
        for name, parameter in module.named_parameters(prefix=path, recurse=False):
            found.setdefault(id(parameter), (name, parameter))
    return dict(found.values())


def model_groups(model: nn.Module) -> Mapping[str, tuple[str, ...]]:
    """The model's own groups of modules (``model.groups``: name -> patterns), empty where it names none."""
    inner = unwrapped(model)
    return inner.groups if isinstance(inner, GroupedModel) and isinstance(inner.groups, Mapping) else {}


def select(paths: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """The paths that match a pattern or lie below a path that does.

    Patterns are shell-like (``*`` also crosses dots) and case-sensitive; one that names a container means everything
    in it.
    """
    patterns = list(patterns)
    names = {pattern for pattern in patterns if not glob.has_magic(pattern)}
    inside = tuple(f"{name}." for name in names)
    shells = [shell for pattern in patterns if pattern not in names for shell in (pattern, f"{pattern}.*")]
    return {
        path
        for path in paths
        if path in names or path.startswith(inside) or any(fnmatch.fnmatchcase(path, shell) for shell in shells)
    }


def resolve(model: nn.Module, paths: Iterable[str], targets: tuple[str, ...], *, what: str) -> set[str]:
    """The paths that ``targets`` mean.

    Args:
        model: asked for its groups.
        paths: the module paths to choose from.
        targets: names of groups, ``"all"``, or patterns.
        what: for messages, where the targets stand.

    Raises:
        ConfigError: one of the targets is no group and matches nothing.
    """
    paths = list(paths)
    groups = model_groups(model)
    chosen: set[str] = set()
    for target in targets:
        patterns = groups.get(target, ("*",) if target == ALL else (target,))
        matched = select(paths, patterns)
        if not matched:
            raise ConfigError(
                f"{what} '{target}' matches nothing in {type(unwrapped(model)).__name__}. Groups: "
                f"{', '.join(groups) or '(none)'}. Module paths: {shorten(path for path in paths if path)}"
            )
        chosen |= matched
    return chosen


def shorten(names: Iterable[str], limit: int = 5) -> str:
    """The first names of a list and how many more there are, for messages."""
    names = list(names)
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
