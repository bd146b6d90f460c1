"""Small depth maps and poses of a capture's frames, made once, from which views are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lorasub.data.decoding import View
from lorasub.data.frames import Frame
from lorasub.geometry import world_points_from_depth

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
