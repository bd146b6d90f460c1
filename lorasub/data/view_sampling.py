"""Chooses the frames of a capture that make up one scene of a batch."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from lorasub.data.candidates import Candidates
from lorasub.errors import ConfigError
from lorasub.geometry import camera_centers


class ViewSampling(ABC):
    """Base of the rules that choose the views of a scene around its first one, the reference."""

    @abstractmethod
    def rank(self, candidates: Candidates, reference: int, rng: np.random.Generator) -> Iterator[int]:
        """Yield all frames, the reference first, then by how well they go with it; a scene takes as many as it needs.

        Args:
            candidates: the frames of one capture.
            reference: index of the first view.
            rng: source of randomness.
        """


@dataclass(frozen=True, kw_only=True)
class BaselineSampling(ViewSampling):
    """Views around a reference frame, chosen by how far their cameras are from its camera.

    The baseline decides what multi-view geometry can be seen: too short and depth is not observable, too long and the
    views share nothing.

    Attributes:
        baseline: shortest and longest distance between the reference camera and another one.
        unit: ``"median_depth"``: in units of the reference frame's median depth, which suits any scale of scene;
            ``"world"``: in world units (metres, for metric captures).
        max_angle: largest angle between the viewing directions, in degrees.
    """

    baseline: tuple[float, float] = (0.02, 0.4)
    unit: Literal["median_depth", "world"] = "median_depth"
    max_angle: float = 45.0

    def __post_init__(self) -> None:
        low, high = self.baseline
        if not 0 <= low < high:
            raise ConfigError(f"baseline must be an increasing pair of distances, got {self.baseline}")
        if not 0 < self.max_angle <= 180:
            raise ConfigError(f"max_angle is in degrees between 0 and 180, got {self.max_angle}")

    def rank(self, candidates: Candidates, reference: int, rng: np.random.Generator) -> Iterator[int]:
        """See :class:`ViewSampling`.

        Cameras within the range come in random order, then the others, the least far outside first, and last those
        without a pose. If the reference itself has none, its neighbours in time come first.
        """
        frames = candidates.frames
        pose = frames[reference].cam_from_world
        posed = [(i, p) for i, frame in enumerate(frames) if i != reference and (p := frame.cam_from_world) is not None]
        if pose is None or not posed:
            return _nearest_in_time(len(frames), reference)
        poses = torch.stack([other for _, other in posed])
        distance = torch.linalg.norm(camera_centers(poses) - camera_centers(pose), dim=-1).numpy()
        cosine = (poses[:, 2, :3] @ pose[2, :3]).clamp(-1, 1).numpy()
        low, high = self.baseline
        if self.unit == "median_depth":
            depth = candidates.median_depth(reference)
            # without depth, the spread of the cameras is the only length there is
            scale = depth if depth > 0 else max(float(np.median(distance)), 1e-9)
            low, high = low * scale, high * scale
        # how far outside the wanted range a camera is: 0 inside, then relative to the range, angles counting likewise
        outside = np.maximum(low - distance, 0) / high + np.maximum(distance - high, 0) / high
        outside = outside + np.maximum(np.degrees(np.arccos(cosine)) - self.max_angle, 0) / self.max_angle
        shuffled = rng.permutation(len(posed))
        best_first = shuffled[np.argsort(outside[shuffled], kind="stable")]
        ranked = [reference, *(posed[int(i)][0] for i in best_first)]
        return itertools.chain(ranked, sorted(set(range(len(frames))) - set(ranked)))


@dataclass(frozen=True, kw_only=True)
class OverlapSampling(ViewSampling):
    """Views around a reference frame, chosen by how much of what it sees they see too.

    The overlap of a view is the share of the reference's known depth that, moved into the view, falls inside its image
    and is not hidden there (:meth:`lorasub.data.candidates.Candidates.overlap`). Unlike the baseline it knows of walls
    and of cameras that turn away. It needs poses, and depth of the reference; references without them take their
    neighbours in time.

    Attributes:
        overlap: smallest and largest share, between 0 and 1.
    """

    overlap: tuple[float, float] = (0.3, 0.9)

    def __post_init__(self) -> None:
        low, high = self.overlap
        if not 0 <= low < high <= 1:
            raise ConfigError(f"overlap must be an increasing pair of shares between 0 and 1, got {self.overlap}")

    def rank(self, candidates: Candidates, reference: int, rng: np.random.Generator) -> Iterator[int]:
        """See :class:`ViewSampling`.

        Views within the range come in random order, then the others, the least far outside first, and last those whose
        overlap is not known. Overlaps are measured only until the scene has its views.
        """
        frames = candidates.frames
        if frames[reference].cam_from_world is None or not candidates.median_depth(reference) > 0:
            yield from _nearest_in_time(len(frames), reference)
            return
        yield reference
        low, high = self.overlap
        outside: list[tuple[float, int]] = []
        unknown: list[int] = []
        for index in map(int, rng.permutation(len(frames))):
            if index == reference:
                continue
            overlap = candidates.overlap(reference, index)
            if overlap is None:
                unknown.append(index)
            elif low <= overlap <= high:
                yield index
            else:
                outside.append((max(low - overlap, overlap - high), index))
        yield from (index for _, index in sorted(outside, key=lambda entry: entry[0]))
        yield from sorted(unknown)


def _nearest_in_time(count: int, reference: int) -> Iterator[int]:
    return iter(sorted(range(count), key=lambda index: (abs(index - reference), index)))
