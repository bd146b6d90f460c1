"""Turns pieces into the solids that the renderer knows."""

from __future__ import annotations

import numpy as np
import torch

from lorasub.scenes.description import FIRST_OBJECT, Geometry, Primitive
from lorasub.scenes.indoor.catalogue import CATALOGUE
from lorasub.scenes.indoor.interior import MAX_SOLIDS, Objects
from lorasub.scenes.streams import Array, BoolArray


def solids_of(objects: Objects, half: Array, height: Array, outdoors: BoolArray) -> tuple[Geometry, Array, Array]:
    """The solids of all objects, and the boxes around them."""
    batch = len(objects.kind)
    rows = np.arange(batch)[:, None]
    each = np.where(objects.present[..., None], CATALOGUE.kind[objects.kind], int(Primitive.NONE))
    pieces = each.shape[-1]
    kind = each.reshape(batch, -1)
    front = np.argsort(kind == int(Primitive.NONE), axis=-1, kind="stable")[:, :MAX_SOLIDS]  # used places first
    kind = kind[rows, front]
    owner, piece = front // pieces, front % pieces
    what, yaw, wide = objects.kind[rows, owner], objects.yaw[rows, owner], objects.half[rows, owner]
    inside = CATALOGUE.center_a[what, piece] * wide + CATALOGUE.center_b[what, piece]
    size = CATALOGUE.size_a[what, piece] * wide + CATALOGUE.size_b[what, piece]
    up = CATALOGUE.up[what, piece]
    size = np.maximum((np.abs(up).swapaxes(-1, -2) @ size[..., None])[..., 0], 5e-4)  # along the primitive's axes
    cos, sin, zero = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)
    turn = np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1.0], -1).reshape(*yaw.shape, 3, 3)
    center = objects.center[rows, owner] + (turn @ inside[..., None])[..., 0]
    rotation = turn @ up
    extent = (np.abs(rotation) @ size[..., None])[..., 0]
    used = (kind != int(Primitive.NONE))[..., None]
    low, high = np.where(used, center - extent, 1e3), np.where(used, center + extent, -1e3)

    def tensor(values: Array) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32)

    geometry = Geometry(
        kind=torch.as_tensor(kind, dtype=torch.int32),
        center=tensor(center),
        rotation=tensor(rotation),
        size=tensor(size),
        shape=tensor(CATALOGUE.shape[what, piece]),
        surface=torch.as_tensor(FIRST_OBJECT + 2 * owner + CATALOGUE.accent[what, piece], dtype=torch.int32),
        room=tensor(np.concatenate([half, height[:, None]], axis=-1)),
        open=torch.as_tensor(outdoors),
    )
    return geometry, low, high
