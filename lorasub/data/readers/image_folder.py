"""A plain folder of images: no cameras, no poses, no depth. What `lorasub predict` is given by most people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lorasub.data.decoding import IMAGE_SUFFIXES
from lorasub.data.frames import Capture, Frame
from lorasub.data.paths import numbered
from lorasub.data.readers.base import Reader


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Reader):
    """Reader of the images in one folder, in natural order of their names."""

    format: ClassVar[str] = "images"

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return any(path.suffix.lower() in IMAGE_SUFFIXES for path in root.iterdir())

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        images = [path for path in numbered(root, "*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
        frames = tuple(Frame(name=path.name, image=path) for path in images)
        return Capture(name=root.name, root=root, frames=frames, metric=False, format=self.format)
