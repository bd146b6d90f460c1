"""lorasub's own layout: a ``capture.json`` that says everything, beside the images and depth files that it names.

:func:`lorasub.exports.scene_folders.write_capture` writes it; ``docs/data.md`` describes it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorasub.data.depth import DepthFile
from lorasub.data.frames import Capture, Frame
from lorasub.data.masks import MaskFile
from lorasub.data.paths import inside
from lorasub.data.readers.base import Reader, keys_not_read, without_lost
from lorasub.data.text import read_json_object
from lorasub.errors import DataError

FILE = "capture.json"
VERSION = 1
_KEYS = ("version", "metric", "label", "frames", "source")
_FRAME_KEYS = ("name", "image", "depth", "depth_unit", "object_mask", "intrinsics", "cam_from_world")


@dataclass(frozen=True, kw_only=True)
class CaptureJson(Reader):
    """Reader of lorasub's own layout."""

    format: ClassVar[str] = "lorasub"
    layout: ClassVar[tuple[str, ...]] = (FILE,)

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return (root / FILE).is_file()

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        path = root / FILE
        content = read_json_object(path)
        if content.get("version") != VERSION:
            raise DataError(f"{path}: expected an object with version {VERSION}; was it written by a newer lorasub?")
        try:
            frames = tuple(_frame(root, entry) for entry in content["frames"])
            metric = bool(content["metric"])
            label = None if content.get("label") is None else operator.index(content["label"])
            notes = keys_not_read([content], _KEYS, path) + keys_not_read(content["frames"], _FRAME_KEYS, path)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: an entry lacks or garbles {error}") from error
        return Capture(
            name=root.name, root=root, frames=frames, metric=metric, format=self.format, label=label, notes=notes
        )


def _frame(root: Path, entry: Mapping[str, Any]) -> Frame:
    depth, pose = None, _matrix(entry.get("cam_from_world"))
    if entry.get("depth"):
        depth = DepthFile(path=inside(root, str(entry["depth"])), unit=float(entry["depth_unit"]))
    return Frame(
        name=str(entry["name"]),
        image=inside(root, str(entry["image"])),
        intrinsics=_matrix(entry.get("intrinsics")),
        cam_from_world=None if pose is None else without_lost(pose),
        depth=depth,
        object_mask=MaskFile(path=inside(root, str(entry["object_mask"]))) if entry.get("object_mask") else None,
    )


def _matrix(rows: Any) -> Tensor | None:
    if rows is None:
        return None
    # NaN and infinity are null in JSON
    return torch.tensor([[math.nan if x is None else x for x in row] for row in rows], dtype=torch.float64)
