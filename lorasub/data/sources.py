"""Settings of `PosedRGBD`: folders that it mixes or scores, what is held out, how files are decoded."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from lorasub.data.decoding import Crop
from lorasub.data.frames import Capture
from lorasub.data.readers.base import Reader
from lorasub.data.readers.discovery import find_captures
from lorasub.data.splits import SplitName, split_by_capture, split_by_file, split_by_fraction
from lorasub.data.view_sampling import ViewSampling
from lorasub.errors import ConfigError, DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CaptureSource:
    """One of several folders that are mixed for training.

    Attributes:
        root: the folder; captures are looked for in and below it.
        format: ``"auto"``, the name of a format, or a reader with options.
        weight: its share of the training scenes, relative to the other sources'.
    """

    root: str
    format: str | Reader = "auto"
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ConfigError(f"{self.root}: the weight of a source must be positive, got {self.weight}")


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """A folder that is only for testing, all of it, with results under a name of its own.

    Attributes:
        root: the folder; captures are looked for in and below it.
        format: ``"auto"``, the name of a format, or a reader with options.
        num_views: views of a scene; None for as many as in training. 1 where the frames do not show one scene.
        scenes: how many, evenly spaced over the frames; None makes every frame the reference of one.
        sampling: which frames go together; None for the same as in training.
    """

    root: str
    format: str | Reader = "auto"
    num_views: int | None = None
    scenes: int | None = None
    sampling: ViewSampling | None = None


def weights_of_captures(groups: Sequence[Sequence[Capture]], weights: Sequence[float] | None) -> list[float] | None:
    """Weights of single captures from those of the sources that hold them: a source's frames count alike.

    Args:
        groups: the captures of each source.
        weights: of the sources; None makes all frames of all sources count alike.

    Returns:
        One for each capture, in order; None if ``weights`` is.
    """
    if weights is None:
        return None
    return [
        weight * len(capture) / sum(map(len, group))
        for group, weight in zip(groups, weights, strict=True)
        for capture in group
    ]


def find_below(base_folder: str, root: str, format: str | Reader, *, skip_damaged: bool = False) -> list[Capture]:
    """:func:`find_captures` of a path that may be relative to ``base_folder``.

    Args:
        base_folder: where a relative ``root`` starts.
        root: the folder.
        format: as for :func:`find_captures`.
        skip_damaged: leave out captures that cannot be read, with a warning for each, as long as one can.
    """
    folder, errors = Path(base_folder).expanduser() / Path(root).expanduser(), []

    def skip(where: Path, error: DataError) -> None:
        errors.append(error)
        warnings.warn(f"skipping the capture {where}: {error}", stacklevel=2)

    captures = find_captures(folder, format, skip if skip_damaged else None)
    if not captures:
        raise errors[0]
    return captures


def with_own_names(captures: Sequence[Capture]) -> list[Capture]:
    """Captures that are told apart by their names, which name scenes, results and files of predictions.

    A capture is called by the folder that was asked for; several folders may have one name, and those get the folders
    above put before it.
    """
    names, roots = [capture.name for capture in captures], [capture.root.resolve() for capture in captures]
    above = [list(root.parents)[len(Path(name).parts) - 1 :] for name, root in zip(names, roots, strict=True)]
    for _ in range(max(map(len, above), default=0)):
        folders_of = Counter(name for name, _ in set(zip(names, roots, strict=True)))
        names = [
            f"{folders.pop(0).name}/{name}" if folders_of[name] > 1 and folders else name
            for name, folders in zip(names, above, strict=True)
        ]
    return [dataclasses.replace(capture, name=name) for capture, name in zip(captures, names, strict=True)]


@rank_zero_only
def announce(captures: Sequence[Capture]) -> None:
    """Log what was found, and what readers noted about it; a camera that was assumed is a warning."""
    for capture in captures:
        log.info("%s: %d frames, format %s", capture.root, len(capture), capture.format)
        for note in capture.notes:
            log.log(logging.WARNING if note.startswith("assumed") else logging.INFO, "%s: %s", capture.root, note)


def refuse_plain_images(captures: Sequence[Capture], where: str) -> None:
    """Stop before an evaluation or a fit that could say nothing.

    Raises:
        DataError: no frame has a pose or depth.
    """
    if not any(capture.has_poses or capture.has_depth for capture in captures):
        raise DataError(
            f"{where}: none of the {sum(map(len, captures))} images has a pose or depth, so there is nothing to learn "
            "from or to compare with (predict needs neither). docs/data.md describes the layouts that are recognised"
        )


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
