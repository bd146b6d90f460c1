"""Paths of modules as in the plain model, whatever stands around it: compiled, parallel, sharded, checkpointed.

``torch.compile``, ``DataParallel``, DDP, FSDP and activation checkpointing put a module around a model or its parts,
and with it a word into every name below. An adapter that is saved under such names fits no other model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lorasub.adapters.attention import CHILD, AdaptedAttention
from lorasub.adapters.layer import AdapterLayer

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
