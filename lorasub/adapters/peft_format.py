"""PEFT's adapter format: ``adapter_model.safetensors`` and ``adapter_config.json``, read and written without PEFT."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from lorasub.adapters.targets import plain_names, without_private_parts
from lorasub.errors import ArtefactError
from lorasub.files import read_json, read_tensors
from lorasub.subspaces.layers import LowRankUpdate

WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"
Value = TypeVar("Value", int, float)
_PREFIX = "base_model.model."
#: PEFT (0.21) merges the update of an attention's output projection twice in every forward pass: it sets the sum as the
#: weight and then merges again. Its files mean that, and so do those that are written for it.
_OUT_PROJ_COUNTS = 2.0
_KEY = re.compile(r"(?P<path>.+)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.weight")  # between them a name of the adapter

#: Settings of PEFT under which the tensors mean something else than ``W + scale * B A``.
_FOREIGN = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
    "alora_invocation_tokens",
)
#: Starts of PEFT that change the base weights, so that the saved factors are relative to weights that nobody saved.
_RESIDUAL_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")


def match_pattern(patterns: Iterable[str], path: str) -> str | None:
    """The first of PEFT's rank or alpha patterns (regular expressions for the end of a path) that means ``path``."""
    return next((pattern for pattern in patterns if re.match(rf"(.*\.)?({pattern})$", path)), None)


def common_and_patterns(values: Mapping[str, Value]) -> tuple[Value, dict[str, Value]]:
    """The most frequent of the layers' ranks or alphas, and exact patterns for the layers that have another."""
    common = Counter(values.values()).most_common(1)[0][0]
    return common, {"^" + re.escape(path): value for path, value in values.items() if value != common}


def lora_state(updates: Mapping[str, LowRankUpdate], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The factors of updates by the names and in the shapes that LoRA layers give them.

    Args:
        updates: layer path -> its update.
        shapes: layer path -> shape of the layer's weight; four numbers for a convolution.
    """
    tensors = {}
    for path, update in updates.items():
        kernel = shapes[path][1:]  # (in,) or (channels, kernel height, kernel width)
        tensors[f"{path}.lora_A.weight"] = _reshape(update.A, update.r, *kernel)
        tensors[f"{path}.lora_B.weight"] = _reshape(update.B, shapes[path][0], update.r, *(1 for _ in kernel[1:]))
    return tensors


def peft_tensors(updates: Mapping[str, LowRankUpdate], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of ``adapter_model.safetensors``; arguments as for :func:`lora_state`."""
    tensors = {}
    for name, tensor in lora_state(updates, shapes).items():
        path, _, factor = name.rpartition(".lora_")
        parent, _, leaf = path.rpartition(".")
        if parent in updates:  # the output projection of an attention that is adapted itself
            path = f"{parent}.base_layer.{leaf}"
            tensor = tensor / _OUT_PROJ_COUNTS if factor.startswith("B") else tensor
        tensors[f"{_PREFIX}{path}.lora_{factor}"] = tensor
    return tensors


def peft_config(
    updates: Mapping[str, LowRankUpdate], module_paths: Iterable[str], model_id: str | None
) -> dict[str, Any]:
    """The content of ``adapter_config.json``.

    Args:
        updates: layer path -> its update.
        module_paths: every module path of the model. PEFT takes a name in ``target_modules`` for the end of a path;
            where that would hit further modules, a regular expression is written in place of the list.
        model_id: name of the base model.
    """
    r, rank_pattern = common_and_patterns({path: update.r for path, update in updates.items()})
    alpha, alpha_pattern = common_and_patterns({path: _whole(u.scale * u.r) for path, u in updates.items()})
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": model_id,
        "r": r,
        "lora_alpha": alpha,
        "rank_pattern": rank_pattern,
        "alpha_pattern": alpha_pattern,
        # PEFT adapts the output projection of an attention together with the attention
        "target_modules": _target_modules(
            {path for path in updates if path.rpartition(".")[0] not in updates}, module_paths
        ),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }


def read_peft(folder: Path) -> tuple[dict[str, LowRankUpdate], dict[str, Any]]:
    """Read a LoRA adapter that PEFT, or lorasub, saved.

    Returns:
        layer path -> its update (per-layer ranks, alphas and rank-stabilised scales honoured), and the config.

    Raises:
        ArtefactError: a file is missing or damaged, the adapter is of another kind, or its tensors do not fit the
            config.
    """
    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config, dict):
        raise ArtefactError(f"{folder / CONFIG_FILE} is no adapter configuration")
    _check_plain_lora(config, folder)
    if not (folder / WEIGHTS_FILE).exists() and (folder / "adapter_model.bin").exists():
        raise ArtefactError(
            f"{folder} holds adapter_model.bin, a pickle, which is not opened; save the adapter with safetensors"
        )
    factors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in read_tensors(folder / WEIGHTS_FILE).items():
        match = _KEY.fullmatch(key.removeprefix(_PREFIX))
        if match is None:
            raise ArtefactError(f"{folder / WEIGHTS_FILE}: '{key}' is not the lora_A or lora_B of a layer")
        pair = factors.setdefault(match["path"], {})
        if match["side"] in pair:
            raise ArtefactError(f"{folder / WEIGHTS_FILE} holds several adapters, '{key}' among them; save one alone")
        if tensor.ndim not in (2, 4) or not tensor.is_floating_point() or tensor.itemsize == 1:
            raise ArtefactError(
                f"{folder / WEIGHTS_FILE}: '{key}' is {tensor.dtype} of shape {tuple(tensor.shape)}; factors are "
                "floats of 16, 32 or 64 bits with two dimensions, four for a convolution; quantised ones are not read"
            )
        pair[match["side"]] = tensor.flatten(1)
    if not factors:
        raise ArtefactError(f"{folder / WEIGHTS_FILE} holds no layer")
    # the config's patterns are for the names of the file
    updates = {path: _update(path, pair, config, folder) for path, pair in factors.items()}
    found = {path: updates[name] for name, path in plain_names(updates).items()}
    for path in list(found):
        parent, base, leaf = path.rpartition(".base_layer.")
        if base and parent in found:
            update = found.pop(path)
            found[f"{parent}.{leaf}"] = replace(update, B=update.B * _OUT_PROJ_COUNTS)
    return found, config


def _reshape(factor: Tensor, *shape: int) -> Tensor:
    """``factor`` in ``shape``; as it is where it does not fit, for whoever loads it to name it."""
    return factor.reshape(shape) if factor.numel() == math.prod(shape) else factor


def _check_plain_lora(config: dict[str, Any], folder: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ArtefactError(
            f"{folder} holds a PEFT adapter of type {kind}; only LORA can be read (see PEFT's convert_to_lora)"
        )
    foreign = [name for name in _FOREIGN if config.get(name)]
    if config.get("bias", "none") != "none":
        foreign.append("bias")
    if foreign:
        raise ArtefactError(
            f"{folder} is more than a plain LoRA ({', '.join(f'{name}={config[name]!r}' for name in foreign)}); "
            "convert it with PEFT first"
        )
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.startswith(_RESIDUAL_STARTS):
        raise ArtefactError(
            f"{folder} was started with init_lora_weights='{start}', which changes the base weights, so it does not "
            "fit the plain base model; save it with PEFT's path_initial_model_for_weight_conversion"
        )


def _update(path: str, pair: dict[str, Tensor], config: dict[str, Any], folder: Path) -> LowRankUpdate:
    if set(pair) != {"A", "B"}:
        lacking = "B" if "A" in pair else "A"
        raise ArtefactError(f"{folder / WEIGHTS_FILE} lacks lora_{lacking} of layer '{path}'")
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    if not isinstance(ranks, dict) or not isinstance(alphas, dict):
        raise ArtefactError(f"{folder / CONFIG_FILE}: rank_pattern and alpha_pattern are objects, pattern -> number")
    plain = without_private_parts(path)
    try:
        r = int(ranks.get(match_pattern(ranks, path) or match_pattern(ranks, plain), config["r"]))
        alpha = float(alphas.get(match_pattern(alphas, path) or match_pattern(alphas, plain), config["lora_alpha"]))
    except (KeyError, TypeError, ValueError, OverflowError, re.error) as error:
        raise ArtefactError(f"{folder / CONFIG_FILE}: no usable r and lora_alpha for layer '{path}'") from error
    if not math.isfinite(alpha):
        raise ArtefactError(f"{folder / CONFIG_FILE}: lora_alpha of layer '{path}' is {alpha}")
    A, B = pair["A"], pair["B"]
    if A.shape[0] != r or B.shape[1] != r:
        raise ArtefactError(
            f"{folder}: layer '{path}' has lora_A {tuple(A.shape)} and lora_B {tuple(B.shape)}, but its rank in "
            f"{CONFIG_FILE} is {r}"
        )
    return LowRankUpdate(B=B, A=A, scale=alpha / (math.sqrt(r) if config.get("use_rslora") else r))


def _target_modules(targets: set[str], module_paths: Iterable[str]) -> list[str] | str:
    for path in set(module_paths) - targets:
        steps = path.split(".")
        if any(".".join(steps[start:]) in targets for start in range(1, len(steps))):
            return "|".join(re.escape(target) for target in sorted(targets))
    return sorted(targets)


def _whole(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value
