"""Move the depth of one view into another and compare: the test of poses, depth unit and focal length at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.data.decoding import View
from lorasub.data.readings import FINE_FACTORS, Reading, coarse_readings
from lorasub.geometry import camera_centers, project_points, relative_pose, transform_points, unproject_depth

#: Pairs that share less than this part of a view's known pixels say nothing.
LEAST_OVERLAP = 0.02
LEAST_POINTS = 50
#: More points of a view do not make a median more certain.
MAX_POINTS = 2000
#: Another reading is better if its error is smaller by this factor: correct captures stay below 1.25.
CLEARLY = 1.35


@dataclass(frozen=True, slots=True, eq=False)
class MovedDepth:
    """Known pixels of one view, moved into another.

    Attributes:
        pixels: ``[N, 2]`` (x, y) of those that fall on known depth of the other view, in its pixels.
        depth: ``[N]`` their depth there.
        expected: ``[N]`` what the other view says.
        asked: how many pixels were moved.
    """

    pixels: Tensor
    depth: Tensor
    expected: Tensor
    asked: int

    @property
    def error(self) -> Tensor:
        """``[N]`` relative difference."""
        return (self.depth - self.expected).abs() / self.expected


def move_depth(a: View, b: View, reading: Reading = Reading()) -> MovedDepth | None:  # noqa: B008 - immutable
    """Move the depth of ``a`` into ``b``; None if one of them has no pose."""
    if a.cam_from_world is None or b.cam_from_world is None:
        return None
    pose_a, pose_b = reading.apply_to_pose(a.cam_from_world), reading.apply_to_pose(b.cam_from_world)
    depth_a, depth_b = a.depth * reading.depth_factor, b.depth * reading.depth_factor
    points = unproject_depth(depth_a, reading.apply_to_intrinsics(a.intrinsics).float())[depth_a > 0]
    points = points[:: max(len(points) // MAX_POINTS, 1)]
    asked = len(points)
    # between cameras that may both be far from the world's origin: in double precision
    points = transform_points(relative_pose(pose_a, pose_b).float(), points)
    points = points[points[:, 2] > 0]
    pixels = project_points(points, reading.apply_to_intrinsics(b.intrinsics).float())
    height, width = depth_b.shape
    cells = pixels.floor()
    seen = (cells[:, 0] >= 0) & (cells[:, 0] < width) & (cells[:, 1] >= 0) & (cells[:, 1] < height)
    column, row = cells[seen].long().unbind(-1)
    expected = depth_b[row, column]
    known = expected > 0
    return MovedDepth(pixels[seen][known], points[seen, 2][known], expected[known], asked)


def reprojection_error(a: View, b: View, reading: Reading = Reading()) -> float:  # noqa: B008 - immutable
    """Median of ``|z - z_b| / z_b`` over the pixels of ``a`` that fall on known depth of ``b``.

    The median is not moved by occlusions as long as they are fewer than half. NaN if too little overlaps.
    """
    moved = move_depth(a, b, reading)
    if moved is None or len(moved.depth) < max(LEAST_POINTS, LEAST_OVERLAP * moved.asked):
        return math.nan
    return float(moved.error.median())


def choose_pairs(views: Sequence[View], count: int) -> list[tuple[int, int]]:
    """Pairs of views with poses and depth: neighbours first, then ever further apart, in both directions by turns."""
    usable = [i for i, view in enumerate(views) if view.cam_from_world is not None and bool((view.depth > 0).any())]
    pairs: list[tuple[int, int]] = []
    for step in (1, 2, 3, 5, 8):
        starts = range(0, len(usable) - step, max(1, len(usable) * 5 // count))
        pairs += [
            (usable[i], usable[i + step]) if n % 2 == 0 else (usable[i + step], usable[i]) for n, i in enumerate(starts)
        ]
    return pairs[:count] if len(pairs) <= count else [pairs[i * len(pairs) // count] for i in range(count)]


def typical_error(views: Sequence[View], pairs: Sequence[tuple[int, int]], reading: Reading) -> float:
    """Median of the pairs' errors, where a pair without overlap counts as infinitely wrong.

    A wrong reading can scatter the cameras so that hardly any views overlap; what is left must not count for it.
    """
    return median_or_infinity([reprojection_error(views[i], views[j], reading) for i, j in pairs])


def median_or_infinity(errors: Sequence[float]) -> float:
    """Median, NaN counting as infinity; infinite for an empty list."""
    ranked = sorted(math.inf if math.isnan(error) else error for error in errors)
    return ranked[(len(ranked) - 1) // 2] if ranked else math.inf


def search_readings(error_of: Callable[[Reading], float], *, with_depth: bool = True) -> dict[Reading, float]:
    """Errors of the alternative readings: all coarse ones, then finer ones around the best.

    Args:
        error_of: the error of a reading, infinite if it explains nothing.
        with_depth: whether the depth unit matters to the error.
    """
    errors: dict[Reading, float] = {}

    def measure(readings: Sequence[Reading]) -> Reading:
        errors.update({reading: error_of(reading) for reading in readings if reading not in errors})
        return min(errors, key=errors.__getitem__)

    best = measure([reading for reading in coarse_readings() if with_depth or reading.depth_factor == 1])
    best = measure([Reading(best.poses, best.depth_factor, factor) for factor in FINE_FACTORS])
    if with_depth and best.focal_factor == 1:
        measure([Reading(best.poses, best.depth_factor * factor) for factor in FINE_FACTORS])
    return errors


def relative_baseline(views: Sequence[View]) -> float:
    """Largest distance between two cameras, in median depths; 0 without poses or depth."""
    centers = [camera_centers(view.cam_from_world) for view in views if view.cam_from_world is not None]
    depths = [view.depth[view.depth > 0] for view in views]
    known: Tensor = torch.cat(depths) if depths else torch.zeros(0)
    if len(centers) < 2 or not known.numel():
        return 0.0
    farthest = max(float((a - b).norm()) for a, b in itertools.combinations(centers, 2))
    return farthest / float(known.median())
