"""Sizes of a Depth Anything 3, and the published ones."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

from lorasub.backbones.model_config import ModelConfig
from lorasub.errors import ConfigError

Head = Literal["camera", "depth"]
ALL_HEADS: tuple[Head, ...] = typing.get_args(Head)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthAnything3Config(ModelConfig):
    """Architecture of a Depth Anything 3. The defaults are those of ``da3-base``.

    Attributes:
        image_size: pixels, the square size whose patch grid the position embedding is stored for. Other sizes are
            interpolated.
        patch_size: pixels.
        embed_dim: width C of the tokens; the heads see 2 C.
        num_heads: attention heads.
        depth: blocks.
        alternate_from: the first block in which views are told apart by a camera token, and queries and keys are
            normalised and rotated. From here on, blocks with odd indices attend across all views; all others, and all
            blocks before, within each view.
        taps: the four blocks (counted from 0) whose output the heads read; the last must be the last block.
        mlp_ratio: hidden width of the MLPs over their width.
        gated: the MLPs are gated (SwiGLU), as in the giant size.
        rope_frequency: base frequency of the rotary position embedding.
        heads: which heads exist. One that is left away has no parameters and is not run.
        dense_features: channels in which the depth head fuses its pyramid.
        dense_channels: channels of the pyramid's four levels, fine to coarse.
    """

    image_size: int = 518
    patch_size: int = 14
    embed_dim: int = 768
    num_heads: int = 12
    depth: int = 12
    alternate_from: int = 4
    taps: tuple[int, int, int, int] = (5, 7, 9, 11)
    mlp_ratio: float = 4.0
    gated: bool = False
    rope_frequency: float = 100.0
    heads: tuple[Head, ...] = ALL_HEADS
    dense_features: int = 128
    dense_channels: tuple[int, int, int, int] = (96, 192, 384, 768)

    def __post_init__(self) -> None:
        for name in ("taps", "heads", "dense_channels"):  # lists from YAML and JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise ConfigError(f"DepthAnything3Config.{field.name} is {value}; it must be positive")
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
        increasing = len(self.taps) == 4 and self.taps == tuple(sorted(set(self.taps)))
        if not increasing or self.taps[0] < self.alternate_from or self.taps[-1] != self.depth - 1:
            raise ConfigError(
                f"taps {list(self.taps)} must be four increasing block indices, none before alternate_from "
                f"{self.alternate_from}, that end with the last, {self.depth - 1} (depth is {self.depth})"
            )
        if not self.heads or set(self.heads) - set(ALL_HEADS) or len(set(self.heads)) < len(self.heads):
            raise ConfigError(f"heads {list(self.heads)} must be one or more of {list(ALL_HEADS)}, each at most once")

    def attends_globally(self, index: int) -> bool:
        """Whether block ``index`` attends across all views."""
        return index >= self.alternate_from and index % 2 == 1

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Also reads the ``config.json`` of the published weights, by its model's name.

        Raises:
            ConfigError: unknown fields, an unknown model, or impossible values.
        """
        if "model_name" in values:
            name = str(values["model_name"])
            if name not in PRESETS:
                raise ConfigError(f"{name} is no any-view Depth Anything 3; there are {', '.join(PRESETS)}")
            return cls(**dataclasses.asdict(PRESETS[name].config))
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"unknown Depth Anything 3 setting(s) {unknown}; there are {sorted(known)}")
        return cls(**values)


class Preset(NamedTuple):
    """A published size.

    Attributes:
        config: the architecture.
        hub_id: where its weights are; they are not ours to ship.
        license: of those weights.
    """

    config: DepthAnything3Config
    hub_id: str
    license: str


PresetName = Literal["da3-small", "da3-base", "da3-large", "da3-giant"]
#: Side of the images that the authors run their models on.
PRESET_IMAGE_SIZE = 504
PRESETS: dict[str, Preset] = {
    "da3-small": Preset(
        DepthAnything3Config(embed_dim=384, num_heads=6, dense_features=64, dense_channels=(48, 96, 192, 384)),
        "depth-anything/DA3-SMALL",
        "Apache-2.0",
    ),
    "da3-base": Preset(DepthAnything3Config(), "depth-anything/DA3-BASE", "Apache-2.0"),
    "da3-large": Preset(
        DepthAnything3Config(
            embed_dim=1024,
            num_heads=16,
            depth=24,
            alternate_from=8,
            taps=(11, 15, 19, 23),
            dense_features=256,
            dense_channels=(256, 512, 1024, 1024),
        ),
        "depth-anything/DA3-LARGE-1.1",
        "CC-BY-NC-4.0",
    ),
    "da3-giant": Preset(
        DepthAnything3Config(
            embed_dim=1536,
            num_heads=24,
            depth=40,
            alternate_from=13,
            taps=(19, 27, 33, 39),
            gated=True,
            dense_features=256,
            dense_channels=(256, 512, 1024, 1024),
        ),
        "depth-anything/DA3-GIANT-1.1",
        "CC-BY-NC-4.0",
    ),
}


def find_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown Depth Anything 3 preset '{name}'; there are {', '.join(PRESETS)}")
    return PRESETS[name]
