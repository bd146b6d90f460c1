"""Writing a set of adapters to a folder, and reading one into a set."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from lorasub.adapters.folder import AdapterInfo, LayerInfo, load_adapter_updates, read_info, read_native, write_folder
from lorasub.adapters.lora import LoRALayer
from lorasub.adapters.lora_bank import LoRABankLinear
from lorasub.adapters.peft_format import WEIGHTS_FILE, lora_state, peft_config, peft_tensors
from lorasub.adapters.table import ParameterTable
from lorasub.adapters.targets import base_modules, own_prefix, shorten, unwrapped
from lorasub.artefacts import check_same
from lorasub.contracts import LicensedModel
from lorasub.errors import ArtefactError

if TYPE_CHECKING:
    from lorasub.adapters.adapter_set import AdapterSet


def adapter_info(adapters: AdapterSet) -> AdapterInfo:
    """The description of a folder of these adapters."""
    return AdapterInfo(
        layers={
            path: LayerInfo(kind=layer.kind, scale=layer.scale, basis_hash=layer.basis_hash)
            for path, layer in adapters.layers.items()
        },
        full_parameters=tuple(adapters.full_parameters),
        base_model_id=adapters.base_model_id,
        base_model_hash=adapters.base_model_hash,
        starts=adapters.starts,
    )


def save_adapters(adapters: AdapterSet, folder: str | os.PathLike[str]) -> Path:
    """See :meth:`AdapterSet.save`."""
    info = adapter_info(adapters)
    state = adapters.state_dict()
    plain = None
    if not adapters.full_parameters and all(layer.low_rank for layer in adapters.layers.values()):
        updates = adapters.updates()
        config = peft_config(updates, base_modules(adapters.model), adapters.base_model_id)
        plain = peft_tensors(updates, _weight_shapes(adapters)), config
        stored = _stored_as_peft(adapters)
        state = {name: tensor for name, tensor in state.items() if name not in stored}
        _warn_of_convolutions(adapters)
    model = unwrapped(adapters.model)
    weights_license = model.weights_license if isinstance(model, LicensedModel) else None
    card = adapter_card(info, adapters.table(), for_peft=plain is not None, weights_license=weights_license)
    return write_folder(folder, info, card=card, native=state, plain=plain)


def load_into(adapters: AdapterSet, folder: str | os.PathLike[str]) -> None:
    """See :meth:`AdapterSet.load`."""
    folder = Path(folder)
    info = read_info(folder)
    state = {} if info is None else read_native(folder, info)
    if info is None or WEIGHTS_FILE in info.files:
        updates, info = load_adapter_updates(folder)
        if prefix := own_prefix(updates, adapters.layers):
            updates = {f"{prefix}{path}": update for path, update in updates.items()}
            info = replace(info, layers={f"{prefix}{path}": layer for path, layer in info.layers.items()})
            info = replace(info, starts={f"{prefix}{path}": start for path, start in info.starts.items()})
            state = {f"{prefix}{name}": tensor for name, tensor in state.items()}
        _check_layers(folder, info, adapters)
        stored = _stored_as_peft(adapters)
        factors = lora_state(updates, _weight_shapes(adapters))
        state |= {name: tensor for name, tensor in factors.items() if name in stored}
    else:
        _check_layers(folder, info, adapters)
    try:
        adapters.load_state_dict(state)
        adapters.set_starts(info.starts)
    except ArtefactError as error:
        raise ArtefactError(f"{folder}: {error}") from error


def _check_layers(folder: Path, found: AdapterInfo, adapters: AdapterSet) -> None:
    """Raises ArtefactError where base model, bases, layers, kinds or scales differ."""
    own = adapter_info(adapters)
    check_same(f"the adapter {folder}", "base model", found.base_model_hash, own.base_model_hash)
    problems = []
    if missing := sorted(own.layers.keys() - found.layers.keys()):
        problems.append(f"missing layers {shorten(missing)}")
    if unexpected := sorted(found.layers.keys() - own.layers.keys()):
        problems.append(f"unexpected layers {shorten(unexpected)}")
    for path in sorted(own.layers.keys() & found.layers.keys()):
        there, here = found.layers[path], own.layers[path]
        if there.kind != here.kind:
            problems.append(f"'{path}' is {there.kind} there and {here.kind} here")
        elif abs(there.scale - here.scale) > 1e-6 * abs(here.scale):
            problems.append(f"'{path}' has scale {there.scale:g} there and {here.scale:g} here")
        check_same(f"layer '{path}' of {folder}", "basis", there.basis_hash, here.basis_hash)
    if problems:
        raise ArtefactError(f"{folder} does not fit these adapters: {shorten(problems)}")


def _weight_shapes(adapters: AdapterSet) -> dict[str, tuple[int, ...]]:
    return {path: tuple(layer.base_layer.weight.shape) for path, layer in adapters.layers.items()}


def _stored_as_peft(adapters: AdapterSet) -> set[str]:
    """Names of the tensors that PEFT's file holds as they are."""
    return {
        f"{path}.{name}"
        for path, layer in adapters.layers.items()
        if isinstance(layer, LoRALayer | LoRABankLinear) and not layer.frozen_state()
        for name in layer.adapter_parameters()
    }


def _warn_of_convolutions(adapters: AdapterSet) -> None:
    unlike = [
        path
        for path, layer in adapters.layers.items()
        if isinstance(base := layer.base_layer, nn.Conv2d)
        and (base.padding_mode != "zeros" or tuple(base.dilation) != (1, 1))
    ]
    if unlike:
        warnings.warn(
            "PEFT ignores dilation and padding mode in its LoRA, so in PEFT this adapter will not work, or will give "
            f"other outputs, at {shorten(unlike)}; in lorasub it is right",
            stacklevel=4,
        )


def adapter_card(
    info: AdapterInfo, table: ParameterTable, *, for_peft: bool, weights_license: str | None = None
) -> str:
    """Markdown with the front matter of model cards.

    Args:
        info: what the adapter is.
        table: its parameter counts.
        for_peft: whether PEFT can load the folder.
        weights_license: licence of the base model's weights; None if it is not known.
    """
    front = ["---", "library_name: peft" if for_peft else "library_name: lorasub", "pipeline_tag: image-to-3d"]
    if info.base_model_id:
        front.append(f"base_model: {json.dumps(info.base_model_id)}")
    front += ["tags:", "- lorasub", *(["- lora"] if for_peft else []), "---"]
    load = ["import lorasub", "", 'adapters = lorasub.load_adapters(model, "THIS_FOLDER")']
    if for_peft:
        load += [
            "",
            "# or, with PEFT:",
            "from peft import PeftModel",
            "",
            'model = PeftModel.from_pretrained(model, "THIS_FOLDER")',
        ]
    facts = [
        f"- base model: {info.base_model_id or 'unnamed'}, weights hash `{info.base_model_hash or 'unknown'}`",
        *([f"- licence of the base model's weights: {weights_license}"] if weights_license else []),
        *(f"- frozen matrices that are not in this folder: hash `{basis}`" for basis in sorted(info.basis_hashes)),
        f"- adapted layers: {len(info.layers)}; fully fine-tuned parameters: {len(info.full_parameters)}",
    ]
    return "\n".join(
        [
            *front,
            "",
            "# Adapter",
            "",
            *facts,
            "",
            "The adapter works on these very weights of the base model, whose own licence also covers what is derived",
            "from them.",
            "",
            "```",
            str(table),
            "```",
            "",
            "```python",
            *load,
            "```",
            "",
        ]
    )
