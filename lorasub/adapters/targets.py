"""Finds the modules that a target means: a group of the backbone, a pattern over module paths, or several of those."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Iterable, Iterator, Mapping

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lorasub.adapters.attention import CHILD, AdaptedAttention
from lorasub.adapters.layer import AdapterLayer
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


#: Under which private name a wrapper holds its module. Nobody's own module is called so.
_PRIVATE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
#: Wrappers that hold it under a name that may also be somebody's own.
_PARALLEL = (nn.DataParallel, DistributedDataParallel)
_PRIVATE_PART = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(_PRIVATE)})\.")
#: What tools put before every name of a file; DataParallel and DDP the second.
_LEADING = ("base_model.model.", "module.")


def unwrapped(module: nn.Module) -> nn.Module:
    """Returns the module within all wrappers around it; itself where there are none."""
    while True:
        held = next((module._modules[name] for name in _PRIVATE if name in module._modules), None)
        if held is None and isinstance(module, _PARALLEL):
            held = module.module
        if held is None:
            return module
        module = held


def plain_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Goes through all modules in the order of ``named_modules``, with their paths in the plain model.

    Wrappers are left out, and so is what lies within an adapter layer. A module that stands at several places comes
    once, under its first path.
    """
    seen: set[int] = set()

    def walk(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
        module = unwrapped(module)
        if id(module) in seen:
            return
        seen.add(id(module))
        yield path, module
        if isinstance(module, AdapterLayer):
            seen.add(id(module.base_layer))
            return
        for name, child in module._modules.items():
            if child is not None and not (isinstance(module, AdaptedAttention) and name == CHILD):
                yield from walk(child, f"{path}.{name}" if path else name)

    return walk(model, "")


def adapter_layers(model: nn.Module) -> Iterator[tuple[str, AdapterLayer]]:
    """Goes through all adapter layers, with their paths in the plain model."""
    for path, module in plain_modules(model):
        if isinstance(module, AdapterLayer):
            yield path, module
        elif isinstance(module, AdaptedAttention):
            yield path, module.in_proj


def without_private_parts(name: str) -> str:
    """Returns a name without the words that wrappers of torch put into it."""
    return _PRIVATE_PART.sub("", f"{name}.")[:-1]


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Returns name in a file -> name in the plain model.

    A leading ``module.`` or ``base_model.model.`` goes only where all names have it, as often as that is so.
    """
    found = {name: without_private_parts(name) for name in names}
    while prefix := next((p for p in _LEADING if found and all(name.startswith(p) for name in found.values())), None):
        found = {name: plain.removeprefix(prefix) for name, plain in found.items()}
    return found


def own_prefix(names: Iterable[str], known: Iterable[str]) -> str:
    """Returns ``module.`` where the model itself has all names under it, so that it was no wrapper's; else nothing.

    Args:
        names: as :func:`plain_names` gives them.
        known: names in the model.
    """
    names, known = set(names), set(known)
    moved = {f"module.{name}" for name in names}
    return "module." if names and not names & known and moved <= known else ""
