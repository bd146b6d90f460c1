"""Chooses the frames of a capture that make up one scene of a batch.

What has to be decoded to choose among them is decoded once, and kept as small depth maps.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from lorasub.data.decoding import View
from lorasub.data.frames import Frame
from lorasub.errors import ConfigError
from lorasub.geometry import camera_centers, world_points_from_depth

Array = npt.NDArray[np.float64]

#: Overlaps are measured on about this many pixels along the longer side: enough for steps of a percent.
SKETCH_SIZE = 32
#: A point is hidden if it lies this much (relative) behind what the other view sees there. Generous, since depth is
#: taken from a neighbouring pixel, and sensors are noisy.
HIDDEN_BEHIND = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class _Sketch:
    """A view's geometry at low resolution: a few kilobytes, kept when the view itself has left the cache.

    Attributes:
        points: ``[N, 3]`` known points in the world.
        depth: ``[h, w]``, 0 where unknown.
        camera: ``[3, 4]`` maps homogeneous world points to (x z, y z, z) with (x, y) in pixels of ``depth``.
        median_depth: 0 if no depth is known.
    """

    points: Array
    depth: npt.NDArray[np.float32]
    camera: Array
    median_depth: float


class Candidates:
    """The frames of a capture that views are drawn from.

    What has to be decoded to choose among them is decoded once and kept in a small form.

    Args:
        frames: the frames.
        load: decodes one of them; None if it is damaged and such frames are skipped.
    """

    def __init__(self, frames: Sequence[Frame], load: Callable[[int], View | None]) -> None:
        self.frames = frames
        self._load = load
        self._sketches: dict[int, _Sketch | None] = {}
        self._overlaps: dict[tuple[int, int], float | None] = {}

    def median_depth(self, index: int) -> float:
        """Median of the known depth of a frame, in world units; 0 if there is none."""
        sketch = self._sketch(index)
        return 0.0 if sketch is None else sketch.median_depth

    def overlap(self, reference: int, index: int) -> float | None:
        """Share of the reference's known depth that another frame sees too; 1 for the same view.

        A point of the reference counts if it falls inside the other image and is not more than 10 % behind the depth
        there. Where the other frame's depth is unknown, nothing is taken to be in the way.

        Returns:
            Between 0 and 1; None if a pose, or all depth of the reference, is missing.
        """
        key = reference, index
        if key not in self._overlaps:
            self._overlaps[key] = self._measure(reference, index)
        return self._overlaps[key]

    def _measure(self, reference: int, index: int) -> float | None:
        if self.frames[reference].cam_from_world is None or self.frames[index].cam_from_world is None:
            return None
        seen_from = self._sketch(reference)
        if seen_from is None or not len(seen_from.points):
            return None
        if self._same_lens(reference, index):
            # most frames of a long video look elsewhere, which their cameras alone tell: no need to decode them
            pose = self.frames[index].cam_from_world
            assert pose is not None
            camera = _camera(seen_from, self.frames[reference], pose.double().numpy())
            if not _inside(seen_from.points, camera, seen_from.depth.shape)[0].any():
                return 0.0
        other = self._sketch(index)
        if other is None:
            return None
        inside, column, row, depth = _inside(seen_from.points, other.camera, other.depth.shape)
        there = other.depth[row[inside], column[inside]]
        visible = (there == 0) | (depth[inside] <= there * (1 + HIDDEN_BEHIND))
        return float(visible.sum() / len(seen_from.points))

    def _same_lens(self, a: int, b: int) -> bool:
        first, second = self.frames[a].intrinsics, self.frames[b].intrinsics
        return first is not None and second is not None and torch.equal(first, second)

    def _sketch(self, index: int) -> _Sketch | None:
        if index not in self._sketches:
            view = self._load(index)
            self._sketches[index] = None if view is None else _draw(view)
        return self._sketches[index]


def _draw(view: View) -> _Sketch:
    pose = torch.eye(3, 4, dtype=torch.float64) if view.cam_from_world is None else view.cam_from_world.double()
    step = -(-max(view.depth.shape) // SKETCH_SIZE)
    first = step // 2  # the pixel nearest to the middle of each cell
    points = world_points_from_depth(view.depth.double(), view.intrinsics, pose)[first::step, first::step]
    depth = view.depth[first::step, first::step]
    intrinsics = view.intrinsics.double().clone()
    intrinsics[:2] /= step
    known = view.depth[view.depth > 0]
    return _Sketch(
        points=points[depth > 0].numpy(),
        depth=depth.numpy().copy(),
        camera=(intrinsics @ pose).numpy(),
        median_depth=float(known.median()) if known.numel() else 0.0,
    )


def _camera(sketch: _Sketch, frame: Frame, other_pose: Array) -> Array:
    """The camera matrix of another frame that shares this one's lens and format."""
    assert frame.cam_from_world is not None
    pose = frame.cam_from_world.double().numpy()
    intrinsics = sketch.camera[:, :3] @ pose[:, :3].T
    camera: Array = intrinsics @ other_pose
    return camera


def _inside(
    points: Array, camera: Array, size: tuple[int, ...]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.int64], Array]:
    """Mask of the points that fall into an image of ``size``; their column, row and depth."""
    projected = points @ camera[:, :3].T + camera[:, 3]
    depth = projected[:, 2]
    front = depth > 0
    scale = np.where(front, depth, 1.0)
    # far outside is outside, however far: keeps the integers below from overflowing
    x, y = (np.clip(projected[:, axis] / scale, -1e6, 1e6) for axis in (0, 1))
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    inside = front & (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
    return inside, column, row, depth


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
    and is not hidden there (:meth:`Candidates.overlap`). Unlike the baseline it knows of walls and of cameras that turn
    away. It needs poses, and depth of the reference; references without them take their neighbours in time.

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
