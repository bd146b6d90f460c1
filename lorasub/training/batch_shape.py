"""What ``fit --estimate`` reads from the settings: the size of a batch, and the precision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from lorasub.errors import ConfigError

#: Lightning's names of precisions -> dtype of autocast (None: no autocast), dtype of the weights.
PRECISIONS: dict[str, tuple[torch.dtype | None, torch.dtype]] = {
    "16-mixed": (torch.float16, torch.float32),
    "bf16-mixed": (torch.bfloat16, torch.float32),
    "16-true": (None, torch.float16),
    "bf16-true": (None, torch.bfloat16),
    "32-true": (None, torch.float32),
    "64-true": (None, torch.float64),
}
#: Lightning's short forms of these.
SHORT = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}


def precision_dtypes(precision: str | int) -> tuple[torch.dtype | None, torch.dtype]:
    """The dtype of autocast, None without it, and that of the weights.

    Args:
        precision: as given to Lightning's Trainer.

    Raises:
        ConfigError: one whose memory is not counted here.
    """
    name = SHORT.get(str(precision), str(precision))
    if name not in PRECISIONS:
        raise ConfigError(f"--estimate knows the precisions {', '.join(PRECISIONS)}, not '{precision}'")
    return PRECISIONS[name]


def batch_shape(data: Any) -> tuple[int, int, tuple[int, int]]:
    """Scenes, views and image size (H, W) of the largest training batch that a data module's settings mean.

    Args:
        data: the settings, ``{"class_path": ..., "init_args": {...}}``. Those of a module with ``stages`` may hold
            sizes for each of them; one with ``members`` joins a batch of each; one with ``parts`` has scenes of all.

    Raises:
        ConfigError: the settings do not tell.
    """
    settings = data.get("init_args", {}) if isinstance(data, Mapping) else {}
    if members := settings.get("members"):
        shapes = [batch_shape(member) for member in members]
        return (sum(scenes for scenes, _, _ in shapes), *shapes[0][1:])
    if mixed := settings.get("parts"):
        return (settings["batch_size"], *batch_shape(next(iter(mixed.values())))[1:])
    shapes = []
    for stage in settings.get("stages") or [{}]:
        scenes, views, size = ({**settings, **stage}.get(name) for name in ("batch_size", "num_views", "image_size"))
        views = stage["views"][1] if "views" in stage else views  # least and most
        if scenes is None or views is None or size is None:
            name = data.get("class_path") if isinstance(data, Mapping) else None
            raise ConfigError(
                f"--estimate reads the settings batch_size, num_views and image_size of the data, but {name or 'it'} "
                "does not have them all; call lorasub.estimate_memory with the numbers"
            )
        shapes.append((scenes, views, (size, size) if isinstance(size, int) else (size[0], size[1])))
    return max(shapes, key=lambda shape: shape[0] * shape[1] * math.prod(shape[2]))
