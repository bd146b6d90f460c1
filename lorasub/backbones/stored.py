"""Built-in architectures: common sizes, presets by name, and models in files that state their own sizes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch

from lorasub.backbones.base import Backbone
from lorasub.backbones.loading import WEIGHT_FILES
from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import read_json, read_metadata, write_json, write_tensors

_Config = TypeVar("_Config")
_Preset = TypeVar("_Preset")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Sizes of a network of patch tokens with dense heads; they cannot be changed, only exchanged.

    Attributes:
        image_size: pixels, the square size whose patch grid the position embedding is stored for. Other sizes are
            interpolated.
        patch_size: pixels.
        embed_dim: width C of the tokens; the heads see 2 C.
        num_heads: attention heads.
        taps: the four blocks (counted from 0) whose output the heads read; the last must be the last block.
        mlp_ratio: hidden width of the MLPs over their width.
        rope_frequency: base frequency of the rotary position embedding.
        heads: which heads exist. One that is left away has no parameters and is not run.
        dense_features: channels in which the dense heads fuse their pyramid.
        dense_channels: channels of the pyramid's four levels, fine to coarse.
    """

    image_size: int = 518
    patch_size: int = 14
    embed_dim: int
    num_heads: int
    taps: tuple[int, int, int, int]
    mlp_ratio: float = 4.0
    rope_frequency: float = 100.0
    heads: tuple[str, ...]
    dense_features: int
    dense_channels: tuple[int, int, int, int]

    def check(self, heads: Sequence[str]) -> None:
        """Turns lists, as YAML and JSON have them, into tuples, and refuses what no network can have.

        Args:
            heads: all that there are.

        Raises:
            ConfigError: a size is impossible.
        """
        for name in ("taps", "heads", "dense_channels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise ConfigError(f"{type(self).__name__}.{field.name} is {value}; it must be positive")
        if self.image_size % self.patch_size:
            raise ConfigError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.embed_dim % (4 * self.num_heads):
            raise ConfigError(
                f"embed_dim {self.embed_dim} must be a multiple of 4 x num_heads = {4 * self.num_heads}: "
                "the rotary embedding needs heads whose width is a multiple of 4"
            )
        if self.dense_features % 8 or any(channels % 4 for channels in self.dense_channels):
            raise ConfigError(
                f"dense_features {self.dense_features} must be a multiple of 8, dense_channels "
                f"{list(self.dense_channels)} of 4: half the channels embed x, half y, each by sine and cosine"
            )
        if not self.heads or set(self.heads) - set(heads) or len(set(self.heads)) < len(self.heads):
            raise ConfigError(f"heads {list(self.heads)} must be one or more of {list(heads)}, each at most once")

    def taps_end_with(self, last: int, *, first: int = 0) -> bool:
        """Whether taps are four increasing indices from ``first`` on, the last of which is ``last``."""
        increasing = len(self.taps) == 4 and self.taps == tuple(sorted(set(self.taps)))
        return increasing and self.taps[0] >= first and self.taps[-1] == last

    def with_heads(self, heads: Sequence[str] | None, source: object) -> Self:
        """A copy with some of the heads only; itself for None.

        Args:
            heads: those that shall exist.
            source: where the weights are from, for messages.

        Raises:
            ConfigError: one of them was not saved.
        """
        if heads is None:
            return self
        if absent := [head for head in heads if head not in self.heads]:
            raise ConfigError(f"{source} was saved without the head(s) {absent}; it has {list(self.heads)}")
        return self.replace(heads=tuple(heads))

    @classmethod
    def from_values(cls, values: Mapping[str, Any], model: str) -> Self:
        """The inverse of :meth:`to_dict`.

        Args:
            values: by field.
            model: name of the architecture, for messages.

        Raises:
            ConfigError: unknown fields or impossible values.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"unknown {model} setting(s) {unknown}; there are {sorted(known)}")
        return cls(**values)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields exchanged; it is checked again."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}


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


def preset_of(presets: Mapping[str, _Preset], name: str, model: str) -> _Preset:
    """Returns the preset of a name.

    Args:
        presets: those of one architecture.
        name: of one of them.
        model: name of the architecture, for messages.

    Raises:
        ConfigError: there is none.
    """
    if name not in presets:
        raise ConfigError(f"unknown {model} preset '{name}'; there are {', '.join(presets)}")
    return presets[name]


class StoredBackbone(Backbone):
    """A backbone whose files state their sizes, so that each is enough on its own.

    Attributes:
        config: the architecture.
        config_key: of the architecture in a safetensors file's metadata.
    """

    config: ModelConfig
    config_key: ClassVar[str]

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: torch.dtype | None = None) -> Path:
        """Write ``model.safetensors`` and ``config.json`` into ``folder``, for ``from_pretrained``.

        Args:
            folder: made if missing.
            dtype: of the tensors in the file, such as ``torch.float16`` for half the size; their own by default.

        Returns:
            The safetensors file. It carries the architecture in its metadata, so it is enough on its own.

        Raises:
            ConfigError: layers are wrapped by adapters, so that names are no longer the model's own.
        """
        make: Any = type(self)
        with torch.device("meta"):
            expected = make(self.config).state_dict()
        tensors = self.state_dict()
        if strange := sorted(tensors.keys() ^ expected.keys()):
            raise ConfigError(
                f"this is not a plain model ({len(strange)} tensors differ in name, such as {strange[0]}): "
                "merge its adapters first, or save the adapters alone"
            )
        path, config = Path(folder) / "model.safetensors", self.config.to_dict()
        kept = {name: tensor.to(dtype or tensor.dtype) for name, tensor in tensors.items()}
        write_tensors(path, kept, metadata={self.config_key: json.dumps(config)})
        write_json(Path(folder) / "config.json", config)
        return path


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The settings in which two architectures differ, in words."""
    return ", ".join(
        f"{name} {found[name]} instead of {wanted[name]}" for name in wanted if found[name] != wanted[name]
    )
