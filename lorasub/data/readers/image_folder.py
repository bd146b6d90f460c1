"""A plain folder of images: no cameras, no poses, no depth. What `lorasub predict` is given by most people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lorasub.data.frames import Capture, Frame
from lorasub.data.images import IMAGE_SUFFIXES
from lorasub.data.paths import files_in
from lorasub.data.readers.base import Reader


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Reader):
    """Reader of the images in one folder, in natural order of their names."""

    format: ClassVar[str] = "images"

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return bool(files_in(root, IMAGE_SUFFIXES))

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        frames = tuple(Frame(name=path.name, image=path) for path in files_in(root, IMAGE_SUFFIXES))
        return Capture(name=root.name, root=root, frames=frames, metric=False, format=self.format)
