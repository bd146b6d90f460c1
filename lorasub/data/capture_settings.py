"""Groups of settings for data modules that read captures: what is held out, and how frames are decoded."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

from lorasub.data.decoding import Crop
from lorasub.data.frames import Capture
from lorasub.data.splits import SplitName, split_by_capture, split_by_file, split_by_fraction
from lorasub.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Settings of the frames for validation and test.

    Attributes:
        fraction: the last part of each capture's frames. 1 holds out all of them.
        captures: captures as a whole, by name or pattern (``*/seq-03``), all others being for training. Instead of
            ``fraction``.
        file: JSON file with frozen lists of frames, instead of either.
    """

    fraction: float = 0.2
    captures: list[str] | None = None
    file: str | None = None

    def split(self, capture: Capture) -> dict[SplitName, Capture | None]:
        """Return the two parts of a capture; None where a part is empty."""
        if self.file is not None:
            return split_by_file(capture, self.file)
        if self.captures is not None:
            return split_by_capture(capture, self.captures)
        return split_by_fraction(capture, self.fraction)


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Settings of how frames are cut, decoded and kept.

    Attributes:
        crop: ``"principal_point"`` or ``"center"``, see :func:`~lorasub.data.decoding.load_view`.
        num_workers: processes that decode. 0 decodes in the training process, which is fine once the cache is warm.
        cache_mb: memory for decoded and resized frames, in each of these processes.
        skip_damaged: leave out frames and captures that cannot be read, with a warning for each, instead of stopping.
    """

    crop: Crop = "principal_point"
    num_workers: int = 0
    cache_mb: float = 1024.0
    skip_damaged: bool = False

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise ConfigError(f"num_workers must not be negative, got {self.num_workers}")


@dataclass(frozen=True, kw_only=True)
class FlatSettings:
    """Settings of :class:`HeldOut` and :class:`Decoding` by the names that they had outside of these groups.

    Attributes:
        val_fraction: ``held_out.fraction``.
        val_captures: ``held_out.captures``.
        split_file: ``held_out.file``.
        crop: ``decoding.crop``.
        num_workers: ``decoding.num_workers``.
        cache_mb: ``decoding.cache_mb``.
        skip_damaged: ``decoding.skip_damaged``.
    """

    val_fraction: float | None = None
    val_captures: list[str] | None = None
    split_file: str | None = None
    crop: Crop | None = None
    num_workers: int | None = None
    cache_mb: float | None = None
    skip_damaged: bool | None = None

    def merge(self, held_out: HeldOut, decoding: Decoding) -> tuple[HeldOut, Decoding]:
        """Return both groups with these settings put in, and note their new names in the log."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        if given:
            words = ", ".join(f"{name} is now {_GROUPED[name]}" for name in given)
            log.info("settings of PosedRGBD have moved, their old names still work: %s", words)
        for name, value in given.items():
            group, _, field = _GROUPED[name].partition(".")
            if group == "held_out":
                held_out = dataclasses.replace(held_out, **{field: value})
            else:
                decoding = dataclasses.replace(decoding, **{field: value})
        return held_out, decoding


_GROUPED = {
    "val_fraction": "held_out.fraction",
    "val_captures": "held_out.captures",
    "split_file": "held_out.file",
    "crop": "decoding.crop",
    "num_workers": "decoding.num_workers",
    "cache_mb": "decoding.cache_mb",
    "skip_damaged": "decoding.skip_damaged",
}
