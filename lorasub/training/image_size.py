"""A preset brings its image size to the data, unless a size was given."""

from __future__ import annotations

import logging

from jsonargparse import Namespace

from lorasub.backbones.opening import preset_image_size

log = logging.getLogger("lorasub")


def give_image_size(settings: Namespace) -> None:
    """Set the data's image size to that of the backbone's preset, and say so; other backbones change nothing.

    Args:
        settings: of a run, in which nobody gave ``data.image_size``.
    """
    backbone = settings.get("model.init_args.backbone")
    if not isinstance(backbone, Namespace) or not str(backbone.get("class_path")).endswith(".from_preset"):
        return
    given = settings.get("data.init_args.image_size")
    size = preset_image_size(backbone.init_args.name)
    if given is not None and given not in (size, (size, size), [size, size]):
        settings["data.init_args.image_size"] = size
        log.info(
            "images are %d x %d, the size of the preset %s; --data.image_size sets another",
            size,
            size,
            backbone.init_args.name,
        )
