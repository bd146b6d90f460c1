"""Depth Anything 3 (Lin et al. 2025, arXiv 2511.10647), any size, with the published checkpoints' parameter names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from lorasub.backbones.depth_anything3.config import (
    ALL_HEADS,
    PRESETS,
    DepthAnything3Config,
    Head,
    PresetName,
)
from lorasub.backbones.depth_anything3.transformer import MultiViewTransformer
from lorasub.backbones.loading import assign_weights, find_weights, read_weights
from lorasub.backbones.stored import StoredBackbone, preset_of, stored_config, without_weights
from lorasub.backbones.token_cache import TokenCache, attached_cache
from lorasub.backbones.vggt.dense_head import DenseHead
from lorasub.errors import ArtefactError, ConfigError
from lorasub.geometry import quaternion_to_matrix
from lorasub.precision import without_autocast
from lorasub.structures import Predictions

#: What stands before every name in a published file; the first in files of a nested model, whose any-view part counts.
_PREFIXES = ("model.da3.", "model.")
#: Parts of published models that are not built here: rays, Gaussians, given cameras, the metric part of nested ones.
_NOT_BUILT = ("head.scratch.*_aux.*", "gs_head.*", "gs_adapter.*", "cam_enc.*", "model.da3_metric.*")


class Transformer(nn.Module):
    """Holds the transformer under the published checkpoints' name for it."""

    def __init__(self, config: DepthAnything3Config) -> None:
        super().__init__()
        self.pretrained = MultiViewTransformer(config)


class DepthAnything3(StoredBackbone):
    """Depth Anything 3: cameras and depth of any number of views.

    Make one with :meth:`from_preset` or :meth:`from_pretrained`; the constructor gives random weights. Under
    ``torch.device("meta")`` all three give a model without weights, and read, download or check none.

    The first view is always the reference. (The authors' own code chooses another where there are three views or more;
    its choice is not made here, since results belong into the first view's frame.) Rays, Gaussians and given cameras
    are not built; their tensors are left in the file. The heads run in the precision of their own weights whatever the
    autocast.

    Args:
        config: the architecture.
        gradient_checkpointing: recompute the activations of each block, and of each chunk of the depth head, in the
            backward pass. May be changed at any time.
        frames_per_chunk: views that the depth head works on at once, as in :class:`lorasub.VGGT`.
    """

    config: DepthAnything3Config
    config_key = "lorasub_depth_anything_3_config"

    def __init__(
        self,
        config: DepthAnything3Config,
        *,
        gradient_checkpointing: bool = False,
        frames_per_chunk: int | None = None,
    ) -> None:
        super().__init__()
        if frames_per_chunk is not None and frames_per_chunk < 1:
            raise ConfigError(f"frames_per_chunk is {frames_per_chunk}; it must be at least 1")
        self.config = config
        self.model_id = "depth-anything-3"
        self.patch_size = config.patch_size
        self.gradient_checkpointing = gradient_checkpointing
        self.frames_per_chunk = frames_per_chunk
        self.groups = _groups(config)
        self.backbone = Transformer(config)
        dim = 2 * config.embed_dim
        self.cam_dec = CameraDecoder(dim) if "camera" in config.heads else None
        self.head: DenseHead | None = None
        if "depth" in config.heads:
            self.head = DenseHead(
                dim,
                1,
                torch.exp,
                levels=config.dense_channels,
                features=config.dense_features,
                skip_rectified=False,
            )

    def forward(self, images: Tensor) -> Predictions:
        """Predict what the existing heads know.

        Args:
            images: ``[B, S, 3, H, W]`` in [0, 1]; any B and S, H and W multiples of the patch size.

        Raises:
            ConfigError: images of a shape that does not fit.
        """
        self.check_images(images)
        height, width = images.shape[-2:]
        taps, camera = self.backbone.pretrained(images, checkpointing=self.gradient_checkpointing)
        poses: tuple[Tensor, ...] = ()
        depth = confidence = None
        with without_autocast(images.device.type):
            if self.cam_dec is not None:
                poses = (inverted_pose_encoding(self.cam_dec(camera)),)
            if self.head is not None:
                depth, confidence = self.head(
                    taps,
                    (height, width),
                    (height // self.patch_size, width // self.patch_size),
                    frames_per_chunk=self.frames_per_chunk,
                    checkpointing=self.gradient_checkpointing,
                )
                depth = depth.squeeze(-1)
        return Predictions(pose_encodings=poses, depth=depth, depth_conf=confidence)

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """The transformer's blocks."""
        return tuple(self.backbone.pretrained.blocks)

    @property
    def encoder_trains(self) -> bool:
        """Whether anything in the blocks before alternation requires gradients."""
        return self.backbone.pretrained.encoder_trains

    def cached_encoder(
        self, *, memory_mb: float = 1024.0, folder: str | os.PathLike[str] | None = None, disk_mb: float = 10240.0
    ) -> contextlib.AbstractContextManager[TokenCache]:
        """Within the block, the tokens of images that the frozen encoder has seen before are taken from a cache.

        As :meth:`lorasub.VGGT.cached_encoder`; the encoder is what lies before alternation.

        Args:
            memory_mb: see :class:`~lorasub.backbones.token_cache.TokenCache`.
            folder: likewise.
            disk_mb: likewise.
        """
        transformer = self.backbone.pretrained
        encoder = {name: tensor.detach() for name, tensor in transformer.encoder_parameters().items()}
        return attached_cache(transformer, encoder, memory_mb=memory_mb, folder=folder, disk_mb=disk_mb)

    @classmethod
    def from_preset(
        cls,
        name: PresetName,
        weights: str | os.PathLike[str] | None = None,
        *,
        heads: tuple[Head, ...] = ALL_HEADS,
        gradient_checkpointing: bool = False,
        frames_per_chunk: int | None = None,
    ) -> DepthAnything3:
        """A model of a published size.

        Args:
            name: ``da3-small``, ``da3-base`` (weights under Apache-2.0), ``da3-large`` or ``da3-giant`` (CC BY-NC 4.0:
                not for commercial use).
            weights: a ``.safetensors`` or ``.pt`` file, a folder, or a hub id such as ``depth-anything/DA3-BASE``.
            heads: those that shall exist; weights of others are left in the file.
            gradient_checkpointing: see the class.
            frames_per_chunk: see the class.

        Raises:
            ConfigError: unknown name, or weights that were not passed or cannot be found.
            ArtefactError: weights that are damaged or of another size.
        """
        preset = preset_of(PRESETS, name, "Depth Anything 3")
        options: dict[str, Any] = {
            "gradient_checkpointing": gradient_checkpointing,
            "frames_per_chunk": frames_per_chunk,
        }
        config = preset.config.replace(heads=heads)
        if without_weights():
            model = cls(config, **options)
        elif weights is None:
            raise ConfigError(
                f"the weights of '{name}' do not come with lorasub: they are under {preset.license}. Download "
                f"model.safetensors from the hub repository {preset.hub_id} and pass weights=<file or folder>; or pass "
                f"weights='{preset.hub_id}' (needs a network and pip install 'lorasub[hub]')"
            )
        else:
            model = cls._load(find_weights(weights), config, options)
        model.model_id = name
        model.weights_license = preset.license
        return model

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        heads: tuple[Head, ...] | None = None,
        gradient_checkpointing: bool = False,
        frames_per_chunk: int | None = None,
    ) -> DepthAnything3:
        """A model from a file or a folder, of whatever size it was saved with.

        The size comes from the metadata of a file written by :meth:`save_pretrained`, or from a ``config.json`` beside
        the weights, the published ones included.

        Args:
            source: a ``.safetensors`` or ``.pt`` file, a folder, or a hub id.
            heads: those that shall exist; all that the file has by default.
            gradient_checkpointing: see the class.
            frames_per_chunk: see the class.

        Raises:
            ConfigError: nothing is there, the hub cannot be reached, or the size is not stated.
            ArtefactError: the file is damaged or does not fit its own size.
        """
        path = find_weights(source)
        config = stored_config(path, cls.config_key, DepthAnything3Config.from_dict)
        if config is None:
            raise ConfigError(
                f"{source} does not say of which size it is; use DepthAnything3.from_preset with the name of a "
                f"published one ({', '.join(PRESETS)})"
            )
        config = config.with_heads(heads, source)
        options: dict[str, Any] = {
            "gradient_checkpointing": gradient_checkpointing,
            "frames_per_chunk": frames_per_chunk,
        }
        model = cls(config, **options) if without_weights() else cls._load(path, config, options)
        local = Path(source).expanduser()
        model.model_id = local.resolve().name if local.exists() else str(source)
        return model

    @classmethod
    def _load(cls, path: Path, config: DepthAnything3Config, options: dict[str, Any]) -> Self:
        tensors = read_weights(path)
        prefix = next((p for p in _PREFIXES if any(name.startswith(f"{p}backbone.") for name in tensors)), "")
        named = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        if not any(name.startswith("backbone.pretrained.") for name in named):
            raise ArtefactError(f"{path} holds no Depth Anything 3: no tensor lies under 'backbone.pretrained.'")
        with torch.device("meta"):
            model = cls(config, **options)
        absent = {"camera": "cam_dec.*", "depth": "head.*"}
        ignore = [*_NOT_BUILT, *(absent[head] for head in ALL_HEADS if head not in config.heads)]
        assign_weights(model, named, source=path, ignore=ignore)
        model.backbone.pretrained.reset_buffers()
        return model


def _groups(config: DepthAnything3Config) -> Mapping[str, tuple[str, ...]]:
    blocks = [f"backbone.pretrained.blocks.{index}.*" for index in range(config.depth)]
    alternating = range(config.alternate_from, config.depth)
    within = tuple(blocks[index] for index in alternating if not config.attends_globally(index))
    across = tuple(blocks[index] for index in alternating if config.attends_globally(index))
    return {
        "encoder": ("backbone.pretrained.patch_embed.*", *blocks[: config.alternate_from]),
        "blocks": tuple(blocks[config.alternate_from :]),
        "frame_blocks": within,
        "global_blocks": across,
        "camera_head": ("cam_dec.*",),
        "depth_head": ("head.*",),
        "heads": ("cam_dec.*", "head.*"),
    }


class CameraDecoder(nn.Module):
    """Predicts each view's camera from its camera token. Names are the published checkpoints'.

    Args:
        dim: width of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.fc_t = nn.Linear(dim, 3)
        self.fc_qvec = nn.Linear(dim, 4)
        self.fc_fov = nn.Sequential(nn.Linear(dim, 2), nn.ReLU())

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, S, dim]`` to ``[B, S, 9]``: translation and quaternion xyzw of world-from-camera, fields of view."""
        features = self.backbone(tokens.to(self.fc_t.weight.dtype))
        return torch.cat((self.fc_t(features), self.fc_qvec(features), self.fc_fov(features)), dim=-1)


def inverted_pose_encoding(encoding: Tensor) -> Tensor:
    """Turn the encoding of world-from-camera into that of camera-from-world, or back; ``[..., 9]``.

    The quaternion keeps its length, which is the network's own.
    """
    translation, quaternion, fov = torch.split(encoding, [3, 4, 2], dim=-1)
    conjugate = torch.cat((-quaternion[..., :3], quaternion[..., 3:]), dim=-1)
    moved = -(quaternion_to_matrix(conjugate) @ translation[..., None])[..., 0]
    return torch.cat((moved, conjugate, fov), dim=-1)
