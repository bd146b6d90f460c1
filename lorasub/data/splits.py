"""Divides frames into training and validation, and deals training frames out epoch by epoch."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from lorasub.data.frames import Capture
from lorasub.data.text import read_json_object
from lorasub.errors import ConfigError, DataError
from lorasub.rng import GOLDEN

SplitName = Literal["train", "val"]


def split_by_fraction(capture: Capture, val_fraction: float) -> dict[SplitName, Capture | None]:
    """Cut a capture in two: the last frames are for validation.

    One cut, rather than every n-th frame: neighbours in a video are nearly equal, and a validation frame between two
    training frames would measure memory.

    Args:
        capture: the capture.
        val_fraction: part of the frames, between 0 (all for training) and 1 (all for validation).

    Returns:
        The two parts; None where a part is empty.
    """
    if not 0 <= val_fraction <= 1:
        raise ConfigError(f"val_fraction is between 0 and 1, got {val_fraction}")
    cut = len(capture) - math.ceil(val_fraction * len(capture) - 1e-9)
    return {"train": _part(capture, range(cut)), "val": _part(capture, range(cut, len(capture)))}


def split_by_capture(capture: Capture, val_captures: Sequence[str]) -> dict[SplitName, Capture | None]:
    """Keep captures whole: those with one of these names are for validation, all others for training.

    Args:
        capture: the capture.
        val_captures: names, or patterns as in ``fnmatch`` (``*/seq-03``).
    """
    chosen: SplitName = "val" if any(fnmatch.fnmatchcase(capture.name, name) for name in val_captures) else "train"
    parts: dict[SplitName, Capture | None] = {"train": None, "val": None}
    return parts | {chosen: capture}


def split_by_file(capture: Capture, path: str | Path) -> dict[SplitName, Capture | None]:
    """Split by a frozen list: a JSON object ``{"train": [...], "val": [...]}`` of frame names.

    Names are those of the capture's frames, with the capture's name in front where a file serves several captures:
    ``"frame-000000"`` or ``"kitchen/seq-01/frame-000000"``. Frames that are not listed are used in neither part.

    Raises:
        DataError: the file is damaged, or lists a frame twice or (with the capture's name) one that is not there.
    """
    content = read_json_object(Path(path))
    if not set(content) <= {"train", "val"}:
        raise DataError(f'{path}: a split file is a JSON object {{"train": [names], "val": [names]}}')
    index = {frame.name: i for i, frame in enumerate(capture.frames)}
    index |= {f"{capture.name}/{frame.name}": i for i, frame in enumerate(capture.frames)}
    parts: dict[SplitName, list[int]] = {"train": [], "val": []}
    for name, chosen in parts.items():
        for entry in content.get(name, []):
            if entry in index:
                chosen.append(index[entry])
            elif str(entry).startswith(f"{capture.name}/"):
                raise DataError(f"{path}: '{entry}' is not a frame of {capture.root}")
    both = sorted(parts["train"] + parts["val"])
    if len(set(both)) != len(both):
        twice = next(i for i, j in itertools.pairwise(both) if i == j)
        raise DataError(f"{path}: '{capture.frames[twice].name}' is listed twice; training and validation must not mix")
    return {name: _part(capture, chosen) for name, chosen in parts.items()}


def _part(capture: Capture, indices: Sequence[int]) -> Capture | None:
    if not indices:
        return None
    return dataclasses.replace(capture, frames=tuple(capture.frames[i] for i in indices))


class References:
    """Scene ``index`` of epoch ``epoch`` is built around one frame of one capture.

    Every epoch has the same number of scenes of each capture, evenly spaced over its frames. Where these are fewer than
    its frames, other epochs take others, so that all frames come in the long run; where they are as many, each frame
    comes once. Where a capture's share of an epoch is less than a scene, captures take turns from epoch to epoch.

    Args:
        frames: number of frames of each capture.
        weights: share of each capture in an epoch, in any unit; None makes all frames count alike.
        length: scenes of an epoch; None for as many as there are frames.

    Raises:
        ConfigError: weights are not positive.
    """

    def __init__(
        self, frames: Sequence[int], weights: Sequence[float] | None = None, length: int | None = None
    ) -> None:
        shares = np.asarray(frames if weights is None else weights, dtype=np.float64)
        if not (np.isfinite(shares).all() and (shares > 0).all()):
            raise ConfigError(f"weights of captures must be positive, got {list(shares)}")
        self._frames = tuple(frames)
        counts = apportion(shares, sum(frames) if length is None else length)
        self._ends = np.cumsum(counts)
        self._edges = None if all(counts) else np.append(0.0, np.cumsum(shares) / shares.sum())

    def __len__(self) -> int:
        return int(self._ends[-1])

    def of(self, epoch: int, index: int) -> tuple[int, int]:
        """(capture, frame) of a scene."""
        if self._edges is not None:
            return self._in_turn(epoch, index, self._edges * len(self))
        capture = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[capture - 1]) if capture else 0
        scenes, frames = int(self._ends[capture]) - first, self._frames[capture]
        if scenes < frames:
            return capture, int((index - first + epoch * GOLDEN % 1) * frames / scenes) % frames
        return capture, (index - first) * frames // scenes

    def _in_turn(
        self, epoch: int, index: int, edges: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    ) -> tuple[int, int]:
        """Scenes evenly spaced over all captures, moved on by a part of their distance from one epoch to the next.

        Args:
            epoch: of the scene.
            index: of the scene.
            edges: where each capture begins and the last one ends, in scenes.
        """
        offset = epoch * GOLDEN % 1
        firsts = np.ceil(edges - offset).astype(int)
        firsts[-1] = len(self)
        capture = int(np.searchsorted(firsts[1:], index, side="right"))
        scenes, frames = int(firsts[capture + 1] - firsts[capture]), self._frames[capture]
        if scenes >= frames:
            return capture, (index - int(firsts[capture])) * frames // scenes
        part = (index + offset - edges[capture]) / (edges[capture + 1] - edges[capture])
        return capture, min(int(part * frames), frames - 1)


def apportion(shares: Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float64]], total: int) -> list[int]:
    """Whole numbers in these proportions that add up to ``total`` (method of the largest remainders)."""
    exact = np.asarray(shares, dtype=np.float64) / np.sum(shares) * total
    counts = np.floor(exact + 1e-9).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]:
        counts[index] += 1
    return [int(count) for count in counts]
