"""Folders of captures: those that `PosedRGBD` mixes for training, and those that it scores beside."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from lorasub.data.frames import Capture
from lorasub.data.readers.base import Reader
from lorasub.data.readers.discovery import find_captures
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
