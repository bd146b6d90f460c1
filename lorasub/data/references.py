"""Around which frame each scene of an epoch is built, when captures are mixed with weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lorasub.errors import ConfigError

#: The golden ratio's fraction: the multiples of it, modulo 1, fill the unit interval evenly however many are taken.
GOLDEN = (math.sqrt(5) - 1) / 2


class References:
    """Scene ``index`` of epoch ``epoch`` is built around one frame of one capture.

    Every epoch has the same number of scenes of each capture, evenly spaced over its frames. Where these are fewer than
    its frames, other epochs take others, so that all frames come in the long run; where they are as many, each frame
    comes once.

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
        self._ends = np.cumsum(apportion(shares, sum(frames) if length is None else length))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def of(self, epoch: int, index: int) -> tuple[int, int]:
        """(capture, frame) of a scene."""
        capture = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[capture - 1]) if capture else 0
        scenes, frames = int(self._ends[capture]) - first, self._frames[capture]
        if scenes < frames:
            return capture, int((index - first + epoch * GOLDEN % 1) * frames / scenes) % frames
        return capture, (index - first) * frames // scenes


def apportion(shares: Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float64]], total: int) -> list[int]:
    """Whole numbers in these proportions that add up to ``total`` (method of the largest remainders)."""
    exact = np.asarray(shares, dtype=np.float64) / np.sum(shares) * total
    counts = np.floor(exact + 1e-9).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]:
        counts[index] += 1
    return [int(count) for count in counts]
