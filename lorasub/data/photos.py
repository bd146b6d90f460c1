"""Photos of a place, without cameras, for ``lorasub predict``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NoReturn

from torch.utils.data import ConcatDataset, DataLoader

from lorasub.console import some_of
from lorasub.data.base import SceneDataModule
from lorasub.data.decoding import frame_size
from lorasub.data.frames import Capture
from lorasub.data.loading import evaluation_loader
from lorasub.data.readers.discovery import find_captures
from lorasub.data.readers.unrecognised import signs_of_geometry
from lorasub.data.real_scenes import SuccessiveScenes, ViewFormat
from lorasub.data.resizing import largest_window
from lorasub.errors import ConfigError, DataError
from lorasub.structures import SceneBatch

log = logging.getLogger(__name__)

#: A photo that loses less than this part of its pixels is not worth a word: sides are rounded.
NOTICEABLE_CROP = 0.02


class Photos(SceneDataModule):
    """All photos of a folder as one scene, for ``predict``: nothing is known of their cameras, and nothing is needed.

    Photos are turned upright (EXIF), sorted as people count, cut to one aspect ratio around their middle, and resized.
    A folder without photos but with folders of photos gives a scene for each of these. HEIC needs
    ``pip install 'lorasub[heic]'``.

    Args:
        root: the folder.
        image_size: the longer side, the other following the photos' usual aspect ratio; or (H, W).
        multiple: sides become multiples of this, the backbone's patch size.
        num_views: photos of a scene; None takes all. Memory grows with it.
        num_workers: processes that decode.
        skip_damaged: leave out photos that cannot be read, with a warning for each, instead of stopping.
    """

    def __init__(
        self,
        root: str,
        image_size: int | tuple[int, int] = 112,
        multiple: int = 14,
        num_views: int | None = None,
        num_workers: int = 0,
        skip_damaged: bool = True,
    ) -> None:
        super().__init__()
        sides = (image_size,) if isinstance(image_size, int) else tuple(image_size)
        if multiple < 1 or any(side < multiple for side in sides):
            raise ConfigError(f"image_size must be at least multiple ({multiple}), got {image_size}")
        if num_views is not None and num_views < 1:
            raise ConfigError(f"num_views must be at least 1, got {num_views}")
        self.root = root
        self.image_size = image_size
        self.multiple = multiple
        self.num_views = num_views
        self.num_workers = num_workers
        self.skip_damaged = skip_damaged

    def predict_dataloader(self) -> DataLoader[SceneBatch]:
        """A scene for each folder of photos."""
        folder = Path(self.root).expanduser()
        captures = find_captures(folder, "images")
        if signs := signs_of_geometry(folder):
            names = [name for found in signs.values() for name in found]
            log.warning(
                "%s: photos alone are read, not %s: --data PosedRGBD reads captures", folder, ", ".join(names[:4])
            )
        for note in dict.fromkeys(note for capture in captures for note in capture.notes):
            log.warning("%s: %s", folder, note)
        scenes: ConcatDataset[SceneBatch] = ConcatDataset([self._scenes(capture) for capture in captures])
        return evaluation_loader(
            scenes,
            batch_size=1,
            trainer=self.trainer,
            num_workers=self.num_workers,
            collate_fn=SceneBatch.concatenate,
        )

    def train_dataloader(self) -> NoReturn:
        """Refuses: photos alone have nothing to learn from.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("Photos have neither depth nor poses to learn from or to compare with; they are for predict")

    test_dataloader = train_dataloader

    def _scenes(self, capture: Capture) -> SuccessiveScenes:
        sizes = {}
        for frame in capture.frames:
            try:
                sizes[frame.name] = frame_size(frame)
            except DataError:
                if not self.skip_damaged:
                    raise
        if not sizes:
            raise DataError(f"{capture.root}: none of its {len(capture)} photos is readable")
        size = self._size(list(sizes.values()))
        _tell_crops(capture, sizes, size)
        view_format = ViewFormat(size=size, crop="center")
        return SuccessiveScenes(
            [capture], num_views=self.num_views, view_format=view_format, skip_damaged=self.skip_damaged
        )

    def _size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """(H, W) to which photos of these (width, height) are brought."""
        if not isinstance(self.image_size, int):
            return self.image_size[0], self.image_size[1]
        aspect = median(width / height for width, height in sizes)
        narrow, most = min(aspect, 1 / aspect), self.image_size // self.multiple

        def price(sides: tuple[int, int]) -> float:
            """Part that is cut off, and a tenth of what the resolution loses."""
            ratio = sides[0] / sides[1] / narrow
            return 1 - min(ratio, 1 / ratio) + 0.1 * (1 - sides[1] / most)

        longer_sides = range(max(3 * most // 4, 1), most + 1)
        shorter, longer = min(((max(round(side * narrow), 1), side) for side in longer_sides), key=price)
        sides = shorter * self.multiple, longer * self.multiple
        return sides if aspect >= 1 else (sides[1], sides[0])


def _tell_crops(capture: Capture, sizes: dict[str, tuple[int, int]], size: tuple[int, int]) -> None:
    """Log which photos lose part of what they show, and how much."""
    lost = {}
    for name, (width, height) in sizes.items():
        window = largest_window((height, width), size)
        lost[name] = 1 - window.width * window.height / (width * height)
    cut = sorted((name for name in lost if lost[name] > NOTICEABLE_CROP), key=lambda name: -lost[name])
    log.info("%s: %d photos, resized to %d x %d", capture.root, len(sizes), size[1], size[0])
    if cut:
        worst = some_of([f"{name} loses {lost[name]:.0%}" for name in cut])
        log.warning(
            "%d of %d photos are cut around their middle to the aspect ratio of %d x %d (%s)",
            *(len(cut), len(sizes), size[1], size[0], worst),
        )
