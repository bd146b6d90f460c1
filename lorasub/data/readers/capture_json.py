"""lorasub's own layout: a ``capture.json`` that says everything, beside the images and depth files that it names.

:func:`lorasub.exports.capture.write_capture` writes it; ``docs/data.md`` describes it.
"""

from __future__ import annotations

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
from lorasub.data.readers.base import Reader
from lorasub.errors import ArtefactError, DataError
from lorasub.files import read_json

FILE = "capture.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class CaptureJson(Reader):
    """Reader of lorasub's own layout."""

    format: ClassVar[str] = "lorasub"

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return (root / FILE).is_file()

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        path = root / FILE
        try:
            content = read_json(path)
            if not isinstance(content, dict) or content.get("version") != VERSION:
                raise DataError(
                    f"{path}: expected an object with version {VERSION}; was it written by a newer lorasub?"
                )
            frames = tuple(_frame(root, entry) for entry in content["frames"])
            metric = bool(content["metric"])
            label = None if content.get("label") is None else operator.index(content["label"])
        except ArtefactError as error:
            raise DataError(str(error)) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: an entry lacks or garbles {error}") from error
        return Capture(name=root.name, root=root, frames=frames, metric=metric, format=self.format, label=label)


def _frame(root: Path, entry: Mapping[str, Any]) -> Frame:
    depth = None
    if entry.get("depth"):
        depth = DepthFile(path=inside(root, str(entry["depth"])), unit=float(entry["depth_unit"]))
    return Frame(
        name=str(entry["name"]),
        image=inside(root, str(entry["image"])),
        intrinsics=_matrix(entry.get("intrinsics")),
        cam_from_world=_matrix(entry.get("cam_from_world")),
        depth=depth,
        object_mask=MaskFile(path=inside(root, str(entry["object_mask"]))) if entry.get("object_mask") else None,
    )


def _matrix(rows: Any) -> Tensor | None:
    return None if rows is None else torch.tensor(rows, dtype=torch.float64)
