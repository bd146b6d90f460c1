"""Sizes of a VGGT: one dataclass describes any of them."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from lorasub.backbones.stored import ModelConfig
from lorasub.errors import ConfigError

Head = Literal["camera", "depth", "points"]
ALL_HEADS: tuple[Head, ...] = typing.get_args(Head)


@dataclass(frozen=True, slots=True, kw_only=True)
class VGGTConfig(ModelConfig):
    """Architecture of a VGGT. The defaults are the published VGGT-1B's.

    Attributes:
        embed_dim: width C of the tokens; taps and heads see 2 C.
        num_heads: attention heads of the encoder and of the aggregator.
        encoder_depth: blocks of the image encoder.
        num_pairs: pairs of a frame block and a global block in the aggregator.
        taps: the four pairs (counted from 0) whose output the heads read; the last must be the last pair.
        num_registers: register tokens, in the encoder and for each view in the aggregator.
        camera_heads: attention heads of the camera head's trunk.
        camera_depth: blocks of the camera head's trunk.
        camera_iterations: refinements of the pose, each with a prediction of its own.
    """

    embed_dim: int = 1024
    num_heads: int = 16
    encoder_depth: int = 24
    num_pairs: int = 24
    taps: tuple[int, int, int, int] = (4, 11, 17, 23)
    num_registers: int = 4
    heads: tuple[Head, ...] = ALL_HEADS
    camera_heads: int = 16
    camera_depth: int = 4
    camera_iterations: int = 4
    dense_features: int = 256
    dense_channels: tuple[int, int, int, int] = (256, 512, 1024, 1024)

    def __post_init__(self) -> None:
        self.check(ALL_HEADS)
        if (2 * self.embed_dim) % self.camera_heads:
            raise ConfigError(
                f"2 x embed_dim = {2 * self.embed_dim} is not a multiple of camera_heads {self.camera_heads}"
            )
        if not self.taps_end_with(self.num_pairs - 1):
            raise ConfigError(
                f"taps {list(self.taps)} must be four increasing pair indices that end with the last, "
                f"{self.num_pairs - 1} (num_pairs is {self.num_pairs})"
            )

    @property
    def num_special_tokens(self) -> int:
        """Tokens of each view that are not patches: one camera token and the registers."""
        return 1 + self.num_registers

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Also reads the ``config.json`` of the published checkpoint.

        Raises:
            ConfigError: unknown fields or impossible values.
        """
        # the published file names three of the fields, one of them otherwise
        renamed = {{"img_size": "image_size"}.get(name, name): value for name, value in values.items()}
        return cls.from_values(renamed, "VGGT")
