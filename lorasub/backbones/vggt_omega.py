"""VGGT-Omega (Wang et al. 2026, arXiv 2605.15195) behind the contract, by its authors' own package.

The package and its weights are under the FAIR Noncommercial Research License. lorasub contains nothing of it and calls
what the user has installed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lorasub.backbones.base import Backbone
from lorasub.backbones.loading import assign_weights, find_weights, read_weights
from lorasub.backbones.stored import preset_of, without_weights
from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import write_tensors
from lorasub.precision import without_autocast
from lorasub.structures import Predictions

LICENSE = "FAIR Noncommercial Research License"
PresetName = Literal["vggt-omega-1b-512", "vggt-omega-1b-256"]


class Preset(NamedTuple):
    """A published checkpoint.

    Attributes:
        image_size: side of the images that it was made for.
        file: its name in the hub repository.
    """

    image_size: int
    file: str


PRESETS: dict[str, Preset] = {
    "vggt-omega-1b-512": Preset(512, "vggt_omega_1b_512.pt"),
    "vggt-omega-1b-256": Preset(256, "vggt_omega_1b_256_text.pt"),
}
_TEXT_HEAD = ("text_alignment_head.*",)


class VGGTOmega(Backbone):
    """VGGT-Omega: cameras and depth of the views of a scene, without point maps.

    Needs the package ``vggt_omega``, which is not on PyPI. On a GPU the package chooses its own precision (encoder and
    blocks in bfloat16, heads in float32), whatever the trainer's is. Elsewhere it runs in float32.

    Make one with :meth:`from_preset` or :meth:`from_pretrained`.

    Args:
        model: the package's model, with weights.
        model_id: short name of the weights.

    Raises:
        ConfigError: the model has no weights yet: the package leaves some buffers NaN until a checkpoint is loaded.
    """

    weights_license = LICENSE

    def __init__(self, model: nn.Module, *, model_id: str = "vggt-omega") -> None:
        super().__init__()
        empty = [name for name, buffer in model.named_buffers() if not buffer.is_meta and bool(buffer.isnan().any())]
        if empty:
            raise ConfigError(
                f"this VGGT-Omega has no weights yet ({empty[0]} is NaN): load a checkpoint into it first"
            )
        self.model = model
        self.model_id = model_id
        aggregator: Any = model.aggregator
        self.patch_size: int = aggregator.patch_size
        self.groups = _groups(aggregator.inter_frame_attention_types)

    @classmethod
    def from_preset(cls, name: PresetName, weights: str | os.PathLike[str] | None = None) -> VGGTOmega:
        """A published checkpoint.

        Args:
            name: ``vggt-omega-1b-512`` (images of 512 x 512), or ``vggt-omega-1b-256`` (256 x 256), whose head for text
                is left in the file.
            weights: the ``.pt`` file of the hub repository ``facebook/VGGT-Omega``, or the folder that it lies in.

        Raises:
            ConfigError: unknown name, the package is missing, or no weights were passed or found.
            ArtefactError: weights that are damaged or of something else.
        """
        preset = preset_of(PRESETS, name, "VGGT-Omega")
        if without_weights():
            return cls(_package()(), model_id=name)
        if weights is None:
            raise ConfigError(
                f"the weights of '{name}' do not come with lorasub: they are under the {LICENSE}. Ask for access at "
                f"the hub repository facebook/VGGT-Omega, download {preset.file} and pass weights=<file>"
            )
        beside = Path(weights) / preset.file
        model = cls.from_pretrained(beside if beside.is_file() else weights)
        model.model_id = name
        return model

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str]) -> VGGTOmega:
        """A model from a checkpoint of the package, or from what :meth:`save_pretrained` wrote; of whatever width.

        Args:
            source: a ``.pt`` or ``.safetensors`` file, or a folder with one of the usual names.

        Raises:
            ConfigError: nothing is there, or the package is missing.
            ArtefactError: the file is damaged or holds something else.
        """
        make = _package()
        path = find_weights(source)
        tensors = read_weights(path)
        try:
            sizes = {
                "patch_size": tensors["aggregator.patch_embed.patch_embed.proj.weight"].shape[-1],
                "embed_dim": tensors["aggregator.camera_token"].shape[-1],
                "enable_camera": any(name.startswith("camera_head.") for name in tensors),
                "enable_depth": any(name.startswith("dense_head.") for name in tensors),
            }
        except KeyError as error:
            raise ArtefactError(f"{path} holds no VGGT-Omega: there is no tensor {error}") from error
        model = make(**sizes)
        if not without_weights():
            assign_weights(model, tensors, source=path, ignore=_TEXT_HEAD)
        return cls(model, model_id=path.stem if path.stem != "model" else path.parent.name)

    def forward(self, images: Tensor) -> Predictions:
        """Predict cameras and depth.

        Args:
            images: ``[B, S, 3, H, W]`` in [0, 1].

        Raises:
            ConfigError: the shape does not fit.
        """
        self.check_images(images)
        output = self._run(images)
        depth = output.get("depth")
        return Predictions(
            pose_encodings=(output["pose_enc"],) if "pose_enc" in output else (),
            depth=None if depth is None else depth.squeeze(-1),
            depth_conf=output.get("depth_conf"),
        )

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        if images.device.type == "cuda":
            return self.model(images)  # type: ignore[no-any-return]
        # the package's autocast is for CUDA only: it does not keep another one from its heads, and warns
        with without_autocast(images.device.type), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*CUDA is not available.*Disabling")
            return self.model(images)  # type: ignore[no-any-return]

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """The transformer blocks of encoder and aggregator."""
        aggregator: Any = self.model.aggregator
        return (*aggregator.patch_embed.blocks, *aggregator.frame_blocks, *aggregator.inter_frame_blocks)

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: torch.dtype | None = None) -> Path:
        """Write ``model.safetensors`` with the package's own names into ``folder``, for :meth:`from_pretrained`.

        Args:
            folder: made if missing.
            dtype: of the tensors in the file; their own by default.

        Returns:
            The file. It is under the licence of the weights that it was made from.
        """
        path = Path(folder) / "model.safetensors"
        tensors = {name: tensor.to(dtype or tensor.dtype) for name, tensor in self.model.state_dict().items()}
        write_tensors(path, tensors, metadata={"license": LICENSE})
        return path


def _package() -> Any:
    """The package's model class.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        from vggt_omega.models import VGGTOmega as Model
    except ImportError as error:
        raise ConfigError(
            f"VGGTOmega needs the package vggt_omega ({error}), which is not on PyPI: git clone "
            "https://github.com/facebookresearch/vggt-omega, then pip install --no-deps -e vggt-omega, and pip install "
            f"einops. Its code and weights are under the {LICENSE}"
        ) from error
    return Model


def _groups(attention_types: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    frame, across = "model.aggregator.frame_blocks.*", "model.aggregator.inter_frame_blocks.*"
    registers = [index for index, kind in enumerate(attention_types) if kind == "register"]
    return {
        "encoder": ("model.aggregator.patch_embed.*",),
        "blocks": (frame, across),
        "frame_blocks": (frame,),
        "global_blocks": (across,),
        # those of the global blocks that attend among registers only
        "register_blocks": tuple(f"model.aggregator.inter_frame_blocks.{index}.*" for index in registers),
        "camera_head": ("model.camera_head.*",),
        "depth_head": ("model.dense_head.*",),
        "heads": ("model.camera_head.*", "model.dense_head.*"),
    }
