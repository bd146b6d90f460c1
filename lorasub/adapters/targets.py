"""Which modules of a model a name means: a group of the backbone, a pattern over module paths, or several of those."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterable, Mapping

from torch import nn

from lorasub.adapters.layer import AdapterLayer
from lorasub.errors import ConfigError

#: The target that means every module.
ALL = "all"


def base_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Every module of ``model`` by its path, as if no adapters were there: wrappers and what is in them are left out.

    A module that stands at several places is listed once, under its first path.
    """
    found: dict[str, nn.Module] = {}
    wrapper = "."  # the wrapper met last, with a dot; what is in it follows directly
    for path, module in model.named_modules():
        if path.startswith(wrapper):
            continue
        if isinstance(module, AdapterLayer):
            wrapper = f"{path}."
            module = module.base_layer
        found[path] = module
    return found


def base_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter of ``model`` by its name, as if no adapters were there; shared ones once."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for path, module in base_modules(model).items():
        for name, parameter in module.named_parameters(prefix=path, recurse=False):
            found.setdefault(id(parameter), (name, parameter))
    return dict(found.values())


def model_groups(model: nn.Module) -> Mapping[str, tuple[str, ...]]:
    """The model's own groups of modules (``model.groups``: name -> patterns), empty where it names none."""
    groups = getattr(model, "groups", None)
    return groups if isinstance(groups, Mapping) else {}


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
                f"{what} '{target}' matches nothing in {type(model).__name__}. Groups: "
                f"{', '.join(groups) or '(none)'}. Module paths: {shorten(path for path in paths if path)}"
            )
        chosen |= matched
    return chosen


def shorten(names: Iterable[str], limit: int = 5) -> str:
    """The first names of a list and how many more there are, for messages."""
    names = list(names)
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
