"""Move the depth of one view into another and compare: the test of poses, depth unit and focal length at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

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


def reprojection_error(a: View, b: View, reading: Reading = Reading()) -> float:  # noqa: B008 - immutable
    """Median of ``|z - z_b| / z_b`` over the pixels of ``a`` that fall on known depth of ``b``.

    The median is not moved by occlusions as long as they are fewer than half. NaN if too little overlaps.
    """
    if a.cam_from_world is None or b.cam_from_world is None:
        return math.nan
    pose_a, pose_b = reading.apply_to_pose(a.cam_from_world), reading.apply_to_pose(b.cam_from_world)
    depth_a, depth_b = a.depth * reading.depth_factor, b.depth * reading.depth_factor
    points = unproject_depth(depth_a, reading.apply_to_intrinsics(a.intrinsics).float())[depth_a > 0]
    points = points[:: max(len(points) // MAX_POINTS, 1)]
    known = len(points)
    # between cameras that may both be far from the world's origin: in double precision
    points = transform_points(relative_pose(pose_a, pose_b).float(), points)
    points = points[points[:, 2] > 0]
    pixels = project_points(points, reading.apply_to_intrinsics(b.intrinsics).float()).floor()
    height, width = depth_b.shape
    seen = (pixels[:, 0] >= 0) & (pixels[:, 0] < width) & (pixels[:, 1] >= 0) & (pixels[:, 1] < height)
    column, row = pixels[seen].long().unbind(-1)
    found, expected = points[seen, 2], depth_b[row, column]
    found, expected = found[expected > 0], expected[expected > 0]
    if len(found) < max(LEAST_POINTS, LEAST_OVERLAP * known):
        return math.nan
    return float(((found - expected).abs() / expected).median())


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
