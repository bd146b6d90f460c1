"""VGGT (Wang et al., CVPR 2025), any size, with the published checkpoint's parameter names."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from lorasub.backbones.loading import assign_weights, find_weights, read_weights
from lorasub.backbones.stored import StoredBackbone, differences, random_numbers_from, stored_config, without_weights
from lorasub.backbones.token_cache import TokenCache, attached_cache
from lorasub.backbones.vggt.aggregator import Aggregator
from lorasub.backbones.vggt.camera_head import CameraHead
from lorasub.backbones.vggt.config import ALL_HEADS, Head, VGGTConfig
from lorasub.backbones.vggt.dense_head import DenseHead, inverse_log
from lorasub.backbones.vggt.presets import PresetName, find_preset
from lorasub.errors import ArtefactError, ConfigError
from lorasub.precision import without_autocast
from lorasub.structures import Predictions

logger = logging.getLogger(__name__)


class VGGT(StoredBackbone):
    """Visual Geometry Grounded Transformer.

    Make one with :meth:`from_preset` or :meth:`from_pretrained`; the constructor gives random weights. Under
    ``torch.device("meta")`` all three give a model without weights, and read, download or check none.

    The heads run in the precision of their own weights whatever the autocast (float32, unless the model was cast), the
    dense ones unless ``dense_autocast`` is set.

    Args:
        config: the architecture.
        gradient_checkpointing: recompute the activations of each block, and of each chunk of the dense heads, in the
            backward pass: less memory, about a third more time, the same result. May be changed at any time.
        frames_per_chunk: views that a dense head works on at once; bounds its memory. None chooses: all of them in
            training, where chunks would save nothing; as many as fit where a chunk's memory is free again before the
            next (evaluation, and training with checkpointing). May be changed at any time.
        dense_autocast: let autocast reach the dense heads. Faster, and less exact: see docs/precision.md. May be
            changed at any time.
    """

    config: VGGTConfig
    config_key = "lorasub_vggt_config"
    groups: Mapping[str, tuple[str, ...]] = {
        "encoder": ("aggregator.patch_embed.*",),
        "blocks": ("aggregator.frame_blocks.*", "aggregator.global_blocks.*"),
        "frame_blocks": ("aggregator.frame_blocks.*",),
        "global_blocks": ("aggregator.global_blocks.*",),
        "camera_head": ("camera_head.*",),
        "depth_head": ("depth_head.*",),
        "point_head": ("point_head.*",),
        "heads": ("camera_head.*", "depth_head.*", "point_head.*"),
    }

    def __init__(
        self,
        config: VGGTConfig,
        *,
        gradient_checkpointing: bool = False,
        frames_per_chunk: int | None = None,
        dense_autocast: bool = False,
    ) -> None:
        super().__init__()
        if frames_per_chunk is not None and frames_per_chunk < 1:
            raise ConfigError(f"frames_per_chunk is {frames_per_chunk}; it must be at least 1")
        self.config = config
        self.model_id = "vggt"
        self.patch_size = config.patch_size
        self.gradient_checkpointing = gradient_checkpointing
        self.frames_per_chunk = frames_per_chunk
        self.dense_autocast = dense_autocast
        dense = "depth" in config.heads or "points" in config.heads
        # the camera head alone reads the last tap only
        self.aggregator = Aggregator(config, taps=config.taps if dense else config.taps[-1:])
        self.camera_head = CameraHead(config) if "camera" in config.heads else None
        self.depth_head = self._dense_head(1, torch.exp) if "depth" in config.heads else None
        self.point_head = self._dense_head(3, inverse_log) if "points" in config.heads else None

    def _dense_head(self, channels: int, activation: Callable[[Tensor], Tensor]) -> DenseHead:
        return DenseHead(
            2 * self.config.embed_dim,
            channels,
            activation,
            levels=self.config.dense_channels,
            features=self.config.dense_features,
            num_special_tokens=self.config.num_special_tokens,
        )

    def forward(self, images: Tensor, *, dense_views: list[int] | None = None) -> Predictions:
        """Predict what the existing heads know.

        Args:
            images: ``[B, S, 3, H, W]`` in [0, 1]; any B and S, H and W multiples of the patch size. They are cast to
                the dtype of the weights.
            dense_views: depth and points are made for these views only, in this order; None for all of them.

        Returns:
            Everything in the first view's frame. ``pose_encodings`` has one entry per refinement iteration.

        Raises:
            ConfigError: images of a shape that does not fit.
        """
        self.check_images(images)
        checkpointing = self.gradient_checkpointing
        taps = self.aggregator(images, checkpointing=checkpointing)
        dense_taps = taps if dense_views is None else tuple(tap[:, dense_views] for tap in taps)
        poses: tuple[Tensor, ...] = ()
        depth = depth_conf = points = points_conf = None
        with without_autocast(images.device.type):
            if self.camera_head is not None:
                poses = self.camera_head(taps[-1][:, :, 0], checkpointing=checkpointing)
        with contextlib.nullcontext() if self.dense_autocast else without_autocast(images.device.type):
            if self.depth_head is not None:
                depth, depth_conf = self._dense(self.depth_head, dense_taps, images)
                depth = depth.squeeze(-1)
            if self.point_head is not None:
                points, points_conf = self._dense(self.point_head, dense_taps, images)
        return Predictions(
            pose_encodings=poses,
            depth=depth,
            depth_conf=depth_conf,
            world_points=points,
            world_points_conf=points_conf,
        )

    def _dense(self, head: DenseHead, taps: tuple[Tensor, ...], images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        output: tuple[Tensor, Tensor] = head(
            taps,
            (height, width),
            (height // self.patch_size, width // self.patch_size),
            frames_per_chunk=self.frames_per_chunk,
            checkpointing=self.gradient_checkpointing,
        )
        return output

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """The transformer blocks of encoder and aggregator; those of the camera head are small and few."""
        return (*self.aggregator.patch_embed.blocks, *self.aggregator.frame_blocks, *self.aggregator.global_blocks)

    @property
    def encoder_trains(self) -> bool:
        """Whether anything in the encoder requires gradients."""
        return self.aggregator.encoder_trains

    def cached_encoder(
        self, *, memory_mb: float = 1024.0, folder: str | os.PathLike[str] | None = None, disk_mb: float = 10240.0
    ) -> contextlib.AbstractContextManager[TokenCache]:
        """Within the block, the tokens of images that the frozen encoder has seen before are taken from a cache.

        They go through half precision, so that predictions change by its rounding. An encoder that trains is never
        cached.

        Args:
            memory_mb: see :class:`~lorasub.backbones.token_cache.TokenCache`.
            folder: likewise.
            disk_mb: likewise.
        """
        encoder = self.aggregator.patch_embed.state_dict()
        return attached_cache(self.aggregator, encoder, memory_mb=memory_mb, folder=folder, disk_mb=disk_mb)

    @classmethod
    def from_preset(
        cls,
        name: PresetName,
        weights: str | os.PathLike[str] | None = None,
        *,
        heads: tuple[Head, ...] = ALL_HEADS,
        gradient_checkpointing: bool = False,
        frames_per_chunk: int | None = None,
        dense_autocast: bool = False,
    ) -> VGGT:
        """A model of a named size.

        Args:
            name: ``nano`` (112 x 112, for a laptop; weights come with the package) or ``vggt-1b`` (518 x 518, the
                published model; its weights have a licence of their own and must be passed).
            weights: a ``.safetensors`` or ``.pt`` file, a folder, or a hub id; replaces the package's weights.
            heads: those that shall exist; weights of others are left in the file.
            gradient_checkpointing: see the class.
            frames_per_chunk: see the class.
            dense_autocast: see the class.

        Raises:
            ConfigError: unknown name, or weights that must be passed and were not, or cannot be found.
            ArtefactError: weights that are damaged or of another size.
        """
        options: dict[str, Any] = {
            "gradient_checkpointing": gradient_checkpointing,
            "frames_per_chunk": frames_per_chunk,
            "dense_autocast": dense_autocast,
        }
        preset = find_preset(name)
        config = preset.config.replace(heads=heads)
        if without_weights():
            model = cls(config, **options)
            model.model_id = name
            return model
        source = weights if weights is not None else preset.packaged_weights()
        if source is not None:
            model = cls._load(find_weights(source), config, options)
        elif preset.packaged is None:
            raise ConfigError(f"the weights of '{name}' do not come with lorasub: {preset.obtain}")
        else:
            warnings.warn(
                f"VGGT preset '{name}' is UNTRAINED: this version of lorasub ships no weights for it, so it starts "
                f"from random ones (seed {preset.seed}). Its predictions mean nothing.",
                UserWarning,
                stacklevel=2,
            )
            with random_numbers_from(preset.seed):
                model = cls(config, **options)
        model.model_id = name
        return model

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        heads: tuple[Head, ...] | None = None,
        gradient_checkpointing: bool = False,
        frames_per_chunk: int | None = None,
        dense_autocast: bool = False,
    ) -> VGGT:
        """A model from a file, a folder or a hub id, of whatever size it was saved with.

        The size comes from the metadata of a file written by :meth:`save_pretrained`, or from a ``config.json`` beside
        the weights; without either the file is taken for VGGT-1B.

        Args:
            source: a ``.safetensors`` or ``.pt`` file, a folder, or a hub id such as ``facebook/VGGT-1B``.
            heads: those that shall exist; all that the file has by default.
            gradient_checkpointing: see the class.
            frames_per_chunk: see the class.
            dense_autocast: see the class.

        Raises:
            ConfigError: nothing is there, or the hub cannot be reached.
            ArtefactError: the file is damaged or does not fit its own size.
        """
        options: dict[str, Any] = {
            "gradient_checkpointing": gradient_checkpointing,
            "frames_per_chunk": frames_per_chunk,
            "dense_autocast": dense_autocast,
        }
        hub_id = isinstance(source, str) and not Path(source).expanduser().exists()
        skeleton = without_weights()
        path = None if skeleton and hub_id else find_weights(source)
        config = (
            stored_config(path, cls.config_key, VGGTConfig.from_dict) if path is not None else None
        ) or VGGTConfig()
        config = config.with_heads(heads, source)
        model = cls(config, **options) if skeleton or path is None else cls._load(path, config, options)
        model.model_id = str(source) if hub_id else Path(source).resolve().name
        return model

    @classmethod
    def _load(cls, path: Path, config: VGGTConfig, options: dict[str, Any]) -> Self:
        stored = stored_config(path, cls.config_key, VGGTConfig.from_dict)
        if stored is not None and stored.replace(heads=config.heads) != config:
            raise ArtefactError(
                f"{path} holds a VGGT of another size: {differences(stored.to_dict(), config.to_dict())}"
            )
        with torch.device("meta"):
            model = cls(config, **options)
        absent = {"camera": "camera_head.*", "depth": "depth_head.*", "points": "point_head.*"}
        ignore = ["track_head.*", *(absent[head] for head in ALL_HEADS if head not in config.heads)]
        tensors = read_weights(path)
        assign_weights(model, tensors, source=path, ignore=ignore)
        if tracking := sum(name.startswith("track_head.") for name in tensors):
            logger.info("%s has a track head (%d tensors), which is not built; it stays in the file", path, tracking)
        model.aggregator.reset_buffers()
        return model
