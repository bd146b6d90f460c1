"""What the built-in architectures share in being made, saved and read: a folder or a file that knows its own sizes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from lorasub.backbones.loading import WEIGHT_FILES
from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import read_json, read_metadata, write_json, write_tensors

_Config = TypeVar("_Config")


def without_weights() -> bool:
    """Whether tensors are made on the meta device now, where weights would be read for nothing."""
    return torch.empty(0).is_meta


@contextlib.contextmanager
def random_numbers_from(seed: int) -> Iterator[None]:
    """Numbers drawn inside depend on nothing but the seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # not torch.manual_seed: that would also seed the accelerators, whose state is not saved here
        torch.default_generator.manual_seed(seed)
        yield


def stored_config(path: Path, key: str, parse: Callable[[Mapping[str, Any]], _Config]) -> _Config | None:
    """The architecture that lies in or beside a weights file.

    Args:
        path: of the weights file.
        key: of the architecture in a safetensors file's metadata.
        parse: makes an architecture from plain values; refuses others with a ValueError or TypeError.

    Returns:
        None if there is neither metadata nor a ``config.json`` beside a file with a standard name.

    Raises:
        ArtefactError: what is there does not make an architecture.
    """
    text = read_metadata(path).get(key) if path.suffix == ".safetensors" else None
    beside = path.with_name("config.json")
    try:
        if text is not None:
            return parse(json.loads(text))
        if path.name in WEIGHT_FILES and beside.is_file():
            return parse(read_json(beside))
    except (ValueError, TypeError) as error:  # not JSON, not a mapping, unknown settings, impossible sizes
        raise ArtefactError(f"what is said about the sizes of {path} does not make a model: {error}") from error
    return None


def write_pretrained(
    folder: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    *,
    expected: Mapping[str, Tensor],
    key: str,
    config: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> Path:
    """Write ``model.safetensors`` and ``config.json``.

    Args:
        folder: made if missing.
        tensors: the state of the model.
        expected: that of a plain model of its size; only the names are read.
        key: of the architecture in the file's metadata.
        config: the architecture in plain values.
        dtype: of the tensors in the file; their own by default.

    Returns:
        The safetensors file. It carries the architecture in its metadata, so it is enough on its own.

    Raises:
        ConfigError: the names are not those of a plain model.
    """
    strange = sorted(tensors.keys() ^ expected.keys())
    if strange:
        raise ConfigError(
            f"this is not a plain model ({len(strange)} tensors differ in name, such as {strange[0]}): "
            "merge its adapters first, or save the adapters alone"
        )
    path = Path(folder) / "model.safetensors"
    kept = {name: tensor.to(dtype or tensor.dtype) for name, tensor in tensors.items()}
    write_tensors(path, kept, metadata={key: json.dumps(config)})
    write_json(Path(folder) / "config.json", config)
    return path


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The settings in which two architectures differ, in words."""
    return ", ".join(
        f"{name} {found[name]} instead of {wanted[name]}" for name in wanted if found[name] != wanted[name]
    )
