"""Putting adapters into a model."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from lorasub.adapters.adapter_bank import AdapterBank
from lorasub.adapters.adapter_set import AdapterSet, attached_adapters
from lorasub.adapters.attention import in_projection, is_fused_attention, put_adapter
from lorasub.adapters.config import AdapterSpec, LayerSpec, ParameterSpec, as_tuple
from lorasub.adapters.folder import AdapterInfo, load_adapter_updates, read_info, read_native
from lorasub.adapters.layer import AdapterLayer
from lorasub.adapters.lora import LoRA
from lorasub.adapters.lora_bank import LoRABank
from lorasub.adapters.peft_format import common_and_patterns, lora_state
from lorasub.adapters.projected import ProjectedLoRA
from lorasub.adapters.saving import adapter_info
from lorasub.adapters.targets import (
    base_modules,
    base_parameters,
    own_prefix,
    resolve,
    select,
    shorten,
    unwrapped,
    without_private_parts,
)
from lorasub.artefacts import check_same
from lorasub.contracts import HashedModel
from lorasub.errors import ArtefactError, ConfigError, LorasubError
from lorasub.files import hash_tensors
from lorasub.subspaces.basis import SubspaceBasis
from lorasub.subspaces.layers import LowRankUpdate

logger = logging.getLogger(__name__)


def inject_adapters(model: nn.Module, specs: AdapterSpec | Sequence[AdapterSpec]) -> AdapterSet:
    """Adapt a model in place: wrap the layers that the specs mean, and freeze everything else.

    Works on any module and on the meta device. Either all specs are in place afterwards or the model is unchanged.

    Args:
        model: the model. Where it has ``groups`` (name -> patterns over module paths), specs may name them.
        specs: what to adapt and how; several must not meet in one layer. None at all freezes the whole model.

    Returns:
        the adapters, which also hang on the model (:func:`attached_adapters`); an :class:`AdapterBank` for a LoRABank.

    Raises:
        ConfigError: a target matches nothing, two specs meet, a layer cannot be adapted, or the model already carries
            adapters.
        ArtefactError: a basis belongs to another base model, or does not fit.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Linear(32, 4))
        >>> adapters = inject_adapters(model, [ls.LoRA(r=2, targets="0"), ls.RandomBasis(dim=3, targets="1")])
        >>> sorted(adapters.trainable_parameters())
        ['0.lora_A.weight', '0.lora_B.weight', '1.M']
    """
    specs = [specs] if isinstance(specs, AdapterSpec) else list(specs)
    if not all(isinstance(spec, AdapterSpec) for spec in specs):
        raise ConfigError(f"inject_adapters needs adapters such as LoRA(r=16), not {specs!r}")
    if attached_adapters(model) is not None:
        raise ConfigError(f"{type(unwrapped(model)).__name__} already carries adapters; unload() them first")
    if len(specs) > 1 and any(isinstance(spec, LoRABank) for spec in specs):
        raise ConfigError(
            "a LoRABank must be the only adapter of a model: what is trained beside it would be shared by its adapters"
        )
    base_model_hash = _base_model_hash(model)
    modules, parameters = base_modules(model), base_parameters(model)
    taken: dict[str, AdapterSpec] = {}
    layers: dict[str, AdapterLayer] = {}
    full: dict[str, nn.Parameter] = {}
    for spec in specs:
        names = modules if isinstance(spec, LayerSpec) else parameters
        chosen = resolve(model, names, as_tuple(spec.targets), what=f"{type(spec).__name__}: the target")
        if exclude := as_tuple(spec.exclude):
            chosen -= resolve(model, names, exclude, what=f"{type(spec).__name__}: exclude")
        if isinstance(spec, LayerSpec):
            paths = _adaptable(model, [path for path in modules if path in chosen])
            spec.check_layers(paths, base_model_hash)
            wrapped = {path: _wrap(spec, path, modules) for path in paths}
            spec.initialize(wrapped)
            for layer in wrapped.values():
                layer.record_start()
            layers |= wrapped
        else:
            trained = [
                name for name in parameters if name in chosen and isinstance(spec, ParameterSpec) and spec.trains(name)
            ]
            full |= {name: parameters[name] for name in trained}
            paths = list(dict.fromkeys(name.rpartition(".")[0] for name in trained))
        if not paths:
            raise ConfigError(
                f"{type(spec).__name__}: targets={spec.targets!r} mean {len(chosen)} names "
                f"({shorten(sorted(chosen))}), none of which can be adapted like this, or all are excluded"
            )
        for path in paths:
            if path in taken:
                raise ConfigError(
                    f"{type(taken[path]).__name__} and {type(spec).__name__} both target layer '{path}'; "
                    "exclude it in one"
                )
            taken[path] = spec
    trained_before = frozenset(name for name, parameter in parameters.items() if parameter.requires_grad)
    _put_in_place(model, layers, full)
    kind = AdapterBank if any(isinstance(spec, LoRABank) for spec in specs) else AdapterSet
    adapters = kind(model, layers, full, base_model_hash=base_model_hash, trained_before=trained_before)
    for spec in specs:
        if isinstance(spec, LayerSpec):
            adapters.bases |= spec.carried_bases()
    return adapters


def load_adapters(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    basis: SubspaceBasis | str | Path | None = None,
    skip: Sequence[str] = (),
) -> AdapterSet:
    """Put the adapter of a folder, saved by lorasub or by PEFT, into a plain model.

    Args:
        model: the base model.
        folder: the adapter.
        basis: the basis of a projected adapter, to go on training M in it. Without one its layers, like those with a
            PiSSA start, become ordinary LoRA of the same function.
        skip: patterns of layers to leave away, such as ``track_head.*``: those that this model was built without.

    Raises:
        ArtefactError: the folder is damaged, or it does not fit the model or the basis.
        ConfigError: it holds fully fine-tuned parameters (inject FullFineTuning and use :meth:`AdapterSet.load`); or a
            basis is given, and the adapter rests on none.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4))
        >>> folder = ls.inject_adapters(model, ls.LoRA(r=2, targets="all")).save("adapter")
        >>> plain = torch.nn.Sequential(torch.nn.Linear(8, 4))
        >>> plain[0].load_state_dict(model[0].base_layer.state_dict())
        <All keys matched successfully>
        >>> load_adapters(plain, folder).layers.keys() == {"0"}
        True
    """
    known = read_info(folder)
    if known is not None and known.full_parameters:
        raise ConfigError(
            f"{folder} holds fully fine-tuned parameters: inject the adapters it was made with, FullFineTuning among "
            "them, and call load() on the result"
        )
    updates, info = load_adapter_updates(folder)
    modules = base_modules(model)
    shift = own_prefix(updates, modules)
    updates = {f"{shift}{path}": update for path, update in updates.items()}
    info = replace(info, layers={f"{shift}{path}": layer for path, layer in info.layers.items()})
    if skip:
        left = select(updates, skip)
        if not left or left == updates.keys():
            what = "nothing" if not left else "every layer"
            raise ConfigError(f"skip={list(skip)} matches {what} of {folder}, which adapts {shorten(updates)}")
        logger.info("%s: %d layers are left away, as asked: %s", folder, len(left), shorten(sorted(left)))
        updates = {path: update for path, update in updates.items() if path not in left}
        info = replace(info, layers={path: layer for path, layer in info.layers.items() if path not in left})
        info = replace(
            info, starts={path: start for path, start in info.starts.items() if f"{shift}{path}" not in left}
        )
    if lacking := sorted(path for path in updates if not _is_adaptable(modules.get(path))):
        part = lacking[0].partition(".")[0]
        raise ArtefactError(
            f"{folder} adapts layers that {type(model).__name__} does not have: {shorten(lacking)}. If it should do "
            f"without them: skip=('{part}.*',)"
        )
    bound = {path for path, layer in info.layers.items() if layer.kind == "projected" and layer.basis_hash is not None}
    if basis is not None and not bound:
        kinds = ", ".join(sorted({layer.kind for layer in info.layers.values()}))
        raise ConfigError(f"{folder} rests on no basis of a folder, its layers are of kind {kinds}; leave basis away")
    projected = bound if basis else set()
    adapters = inject_adapters(model, _specs_for(updates, info, projected, basis))
    try:
        check_same(f"the adapter {folder}", "base model", info.base_model_hash, adapters.base_model_hash)
        for path in projected:
            here = adapter_info(adapters).layers[path].basis_hash
            check_same(f"layer '{path}' of {folder}", "basis", info.layers[path].basis_hash, here)
        native = {f"{shift}{name}": tensor for name, tensor in read_native(folder, info).items()}
        state = {name: native[name] for path in projected if (name := f"{path}.M") in native}
        plain = {path: update for path, update in updates.items() if path not in projected}
        shapes = {path: tuple(adapters.layers[path].base_layer.weight.shape) for path in plain}
        adapters.load_state_dict(state | lora_state(plain, shapes))
        adapters.set_starts({f"{shift}{path}": start for path, start in info.starts.items()})
    except ArtefactError as error:
        adapters.unload()
        raise ArtefactError(f"{folder}: {error}") from error
    return adapters


def _adaptable(model: nn.Module, paths: list[str]) -> list[str]:
    """Those of the paths that hold a weight which can be adapted."""
    modules = base_modules(model)
    return [path for path in paths if path and _is_adaptable(modules[path])]


def _is_adaptable(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Linear | nn.Conv2d) or (module is not None and is_fused_attention(module))


def _wrap(spec: LayerSpec, path: str, modules: Mapping[str, nn.Module]) -> AdapterLayer:
    module = modules[path]
    base = module if isinstance(module, nn.Linear | nn.Conv2d) else in_projection(module)
    try:
        layer = spec.wrap(path, base)
    except LorasubError as error:
        raise type(error)(f"{type(spec).__name__}, layer '{path}': {error}") from error
    of_attention = base is not module or isinstance(modules.get(path.rpartition(".")[0]), nn.MultiheadAttention)
    if of_attention and (layer.lora_dropout is not None or not layer.readable):
        raise ConfigError(
            f"{type(spec).__name__}: '{path}' belongs to a torch.nn.MultiheadAttention, which reads its weights "
            "without calling a layer; there an adapter can have no dropout, and can be no bank and none of PEFT's. "
            "Exclude it"
        )
    return layer.train(module.training)


def _put_in_place(model: nn.Module, layers: dict[str, AdapterLayer], full: dict[str, nn.Parameter]) -> None:
    wrapper_of = {id(layer.base_layer): layer for layer in layers.values()}
    modules = base_modules(model)
    model.requires_grad_(False)
    for parent in list(model.modules()):
        # a module that stands at several places gets the same wrapper at each
        for name, child in list(parent._modules.items()):
            if id(child) in wrapper_of:
                setattr(parent, name, wrapper_of[id(child)])
    for path, layer in layers.items():
        if is_fused_attention(modules[path]):
            put_adapter(modules[path], layer)
    for parameter in full.values():
        parameter.requires_grad_(True)


def _base_model_hash(model: nn.Module) -> str | None:
    model = unwrapped(model)
    state = model.state_dict().items()
    tensors = {without_private_parts(name): tensor for name, tensor in state if isinstance(tensor, Tensor)}
    if any(tensor.is_meta for tensor in tensors.values()):
        return None
    return model.weights_hash() if isinstance(model, HashedModel) else hash_tensors(tensors)


def _specs_for(
    updates: dict[str, LowRankUpdate], info: AdapterInfo, projected: set[str], basis: SubspaceBasis | str | Path | None
) -> list[AdapterSpec]:
    """Specs of layers that can hold these updates."""
    specs: list[AdapterSpec] = []
    plain = [path for path in updates if path not in projected]
    if plain:
        r, ranks = common_and_patterns({path: updates[path].r for path in plain})
        alpha, alphas = common_and_patterns({path: updates[path].scale * updates[path].r for path in plain})
        targets = [glob.escape(path) for path in plain]
        specs.append(LoRA(r=r, lora_alpha=alpha, targets=targets, rank_pattern=ranks, alpha_pattern=alphas))
    if basis is not None:
        for scale in {info.layers[path].scale for path in projected}:
            paths = [glob.escape(path) for path in projected if info.layers[path].scale == scale]
            specs.append(ProjectedLoRA(basis=basis, targets=paths, scale=scale))
    return specs
