"""Sizes of a VGGT: one dataclass describes any of them."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from lorasub.backbones.model_config import ModelConfig
from lorasub.errors import ConfigError

Head = Literal["camera", "depth", "points"]
ALL_HEADS: tuple[Head, ...] = typing.get_args(Head)


@dataclass(frozen=True, slots=True, kw_only=True)
class VGGTConfig(ModelConfig):
    """Architecture of a VGGT. The defaults are the published VGGT-1B's.

    Attributes:
        image_size: pixels, the square size whose patch grid the position embedding is stored for. Other sizes are
            interpolated.
        patch_size: pixels.
        embed_dim: width C of the tokens; taps and heads see 2 C.
        num_heads: attention heads of the encoder and of the aggregator.
        encoder_depth: blocks of the image encoder.
        num_pairs: pairs of a frame block and a global block in the aggregator.
        taps: the four pairs (counted from 0) whose output the heads read; the last must be the last pair.
        num_registers: register tokens, in the encoder and for each view in the aggregator.
        mlp_ratio: hidden width of the MLPs over their width.
        rope_frequency: base frequency of the rotary position embedding.
        heads: which heads exist. One that is left away has no parameters and is not run.
        camera_heads: attention heads of the camera head's trunk.
        camera_depth: blocks of the camera head's trunk.
        camera_iterations: refinements of the pose, each with a prediction of its own.
        dense_features: channels in which the dense heads fuse their pyramid.
        dense_channels: channels of the pyramid's four levels, fine to coarse.
    """

    image_size: int = 518
    patch_size: int = 14
    embed_dim: int = 1024
    num_heads: int = 16
    encoder_depth: int = 24
    num_pairs: int = 24
    taps: tuple[int, int, int, int] = (4, 11, 17, 23)
    num_registers: int = 4
    mlp_ratio: float = 4.0
    rope_frequency: float = 100.0
    heads: tuple[Head, ...] = ALL_HEADS
    camera_heads: int = 16
    camera_depth: int = 4
    camera_iterations: int = 4
    dense_features: int = 256
    dense_channels: tuple[int, int, int, int] = (256, 512, 1024, 1024)

    def __post_init__(self) -> None:
        for name in ("taps", "heads", "dense_channels"):  # lists from YAML and JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value <= 0:
                raise ConfigError(f"VGGTConfig.{field.name} is {value}; it must be positive")
        if self.image_size % self.patch_size:
            raise ConfigError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.embed_dim % (4 * self.num_heads):
            raise ConfigError(
                f"embed_dim {self.embed_dim} must be a multiple of 4 x num_heads = {4 * self.num_heads}: "
                "the rotary embedding needs heads whose width is a multiple of 4"
            )
        if (2 * self.embed_dim) % self.camera_heads:
            raise ConfigError(
                f"2 x embed_dim = {2 * self.embed_dim} is not a multiple of camera_heads {self.camera_heads}"
            )
        if self.dense_features % 8 or any(channels % 4 for channels in self.dense_channels):
            raise ConfigError(
                f"dense_features {self.dense_features} must be a multiple of 8, dense_channels "
                f"{list(self.dense_channels)} of 4: half the channels embed x, half y, each by sine and cosine"
            )
        self._check_taps()
        unknown = [head for head in self.heads if head not in ALL_HEADS]
        if unknown or not self.heads or len(set(self.heads)) < len(self.heads):
            raise ConfigError(f"heads {list(self.heads)} must be one or more of {list(ALL_HEADS)}, each at most once")

    def _check_taps(self) -> None:
        increasing = len(self.taps) == 4 and self.taps == tuple(sorted(set(self.taps)))
        if not increasing or self.taps[0] < 0 or self.taps[-1] != self.num_pairs - 1:
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
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(renamed) - known)
        if unknown:
            raise ConfigError(f"unknown VGGT setting(s) {unknown}; there are {sorted(known)}")
        return cls(**renamed)
