"""Sizes of a Depth Anything 3, and the published ones."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

from lorasub.backbones.stored import ModelConfig
from lorasub.errors import ConfigError

Head = Literal["camera", "depth"]
ALL_HEADS: tuple[Head, ...] = typing.get_args(Head)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthAnything3Config(ModelConfig):
    """Architecture of a Depth Anything 3. The defaults are those of ``da3-base``.

    Attributes:
        depth: blocks.
        alternate_from: the first block in which views are told apart by a camera token, and queries and keys are
            normalised and rotated. From here on, blocks with odd indices attend across all views; all others, and all
            blocks before, within each view.
        taps: the four blocks (counted from 0) whose output the heads read; the last must be the last block.
        gated: the MLPs are gated (SwiGLU), as in the giant size.
    """

    embed_dim: int = 768
    num_heads: int = 12
    depth: int = 12
    alternate_from: int = 4
    taps: tuple[int, int, int, int] = (5, 7, 9, 11)
    gated: bool = False
    heads: tuple[Head, ...] = ALL_HEADS
    dense_features: int = 128
    dense_channels: tuple[int, int, int, int] = (96, 192, 384, 768)

    def __post_init__(self) -> None:
        self.check(ALL_HEADS)
        if not self.taps_end_with(self.depth - 1, first=self.alternate_from):
            raise ConfigError(
                f"taps {list(self.taps)} must be four increasing block indices, none before alternate_from "
                f"{self.alternate_from}, that end with the last, {self.depth - 1} (depth is {self.depth})"
            )

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
        return cls.from_values(values, "Depth Anything 3")


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
