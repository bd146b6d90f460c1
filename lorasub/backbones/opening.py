"""A backbone from whatever stands for one: a preset's name, a file, a folder, a hub id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

from lorasub.backbones import depth_anything3, vggt, vggt_omega
from lorasub.backbones.base import Backbone
from lorasub.backbones.depth_anything3.config import PRESET_IMAGE_SIZE
from lorasub.backbones.depth_anything3.config import PRESETS as DEPTH_ANYTHING_3
from lorasub.backbones.loading import find_weights, read_weights
from lorasub.backbones.transformers_depth import TransformersDepth
from lorasub.backbones.vggt import presets as vggt_presets
from lorasub.errors import ConfigError
from lorasub.files import read_json

#: Part of a tensor's name -> whose it is, the first that occurs in a file.
_SIGNS: dict[str, Any] = {
    "aggregator.inter_frame_blocks.": vggt_omega.VGGTOmega,
    "backbone.pretrained.": depth_anything3.DepthAnything3,
    "aggregator.global_blocks.": vggt.VGGT,
}


def open_backbone(source: str | os.PathLike[str]) -> Backbone:
    """Load a backbone, of whatever built-in kind it is.

    Args:
        source: ``nano``; or a file, folder or hub id of weights of VGGT, Depth Anything 3, VGGT-Omega, or of a depth
            model of ``transformers``.

    Raises:
        ConfigError: nothing is there, or it is none of them.
        ArtefactError: the weights are damaged.
    """
    if source in get_args(vggt_presets.PresetName):
        return vggt.VGGT.from_preset(source)  # type: ignore[arg-type]
    folder = Path(source).expanduser()
    config = folder / "config.json"
    if config.is_file() and "model_type" in read_json(config):
        return TransformersDepth.from_pretrained(folder)
    names = read_weights(find_weights(source)).keys()
    for sign, kind in _SIGNS.items():
        if any(sign in name for name in names):
            opened: Backbone = kind.from_pretrained(source)
            return opened
    raise ConfigError(
        f"{source} holds no weights of VGGT, Depth Anything 3, VGGT-Omega or a depth model of transformers"
    )


def preset_image_size(name: str) -> int:
    """Side of the images that a preset of any built-in backbone is made for.

    Raises:
        ConfigError: there is no such preset.
    """
    if name in DEPTH_ANYTHING_3:
        return PRESET_IMAGE_SIZE
    if name in vggt_omega.PRESETS:
        return vggt_omega.PRESETS[name].image_size
    return vggt_presets.find_preset(name).config.image_size
