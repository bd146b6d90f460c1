"""Where there is no depth: matched image points must lie on each other's epipolar lines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.data.decoding import View
from lorasub.data.readings import Reading
from lorasub.geometry import relative_pose

FEATURES = 1500
#: Lowe's ratio test.
RATIO = 0.8
#: Pairs with fewer matches say nothing.
LEAST_MATCHES = 30


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Points ``[N, 2]`` (x, y) in pixels, centres at half integers, and their descriptors ``[N, 128]``."""

    points: Tensor
    descriptors: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Points of two views that look alike: ``[N, 2]`` (x, y) in pixels, centres at half integers."""

    a: Tensor
    b: Tensor


def find_features(view: View) -> Features:
    """SIFT points of a view (kornia)."""
    from kornia.feature import SIFTFeature, get_laf_center

    gray = view.image.float().mean(0)[None, None] / 255
    with torch.inference_mode():
        frames, _, descriptors = SIFTFeature(FEATURES, upright=True)(gray)
    # kornia counts pixel centres from 0
    return Features(get_laf_center(frames)[0] + 0.5, descriptors[0])


def match_features(a: Features, b: Features) -> Matches:
    """Points that are each other's best match and clearly better than the second best (kornia)."""
    from kornia.feature import match_smnn

    _, index = match_smnn(a.descriptors, b.descriptors, RATIO)
    return Matches(a.points[index[:, 0]], b.points[index[:, 1]])


def epipolar_lines(a: View, b: View, matches: Matches, reading: Reading = Reading()) -> tuple[Tensor, Tensor] | None:  # noqa: B008
    """Lines on which the matched points must lie, as ``[N, 3]`` in a and in b; None if they cannot be told.

    A line (l, m, n) holds the points with l x + m y + n = 0.
    """
    if a.cam_from_world is None or b.cam_from_world is None:
        return None
    motion = relative_pose(reading.apply_to_pose(a.cam_from_world), reading.apply_to_pose(b.cam_from_world)).double()
    if float(motion[:, 3].norm()) < 1e-9:
        return None
    tx, ty, tz = motion[:, 3].tolist()
    cross = motion.new_tensor([[0, -tz, ty], [tz, 0, -tx], [-ty, tx, 0]])
    to_rays_a = torch.linalg.inv(reading.apply_to_intrinsics(a.intrinsics).double())
    to_rays_b = torch.linalg.inv(reading.apply_to_intrinsics(b.intrinsics).double())
    fundamental = to_rays_b.mT @ cross @ motion[:, :3] @ to_rays_a
    return _homogeneous(matches.b.double()) @ fundamental, _homogeneous(matches.a.double()) @ fundamental.mT


def epipolar_distances(a: View, b: View, matches: Matches, reading: Reading = Reading()) -> Tensor | None:  # noqa: B008
    """``[N]`` mean distance of each matched pair from its two epipolar lines, in pixels; None as for the lines."""
    lines = epipolar_lines(a, b, matches, reading)
    if lines is None:
        return None
    residual = (_homogeneous(matches.b.double()) * lines[1]).sum(-1).abs()
    distances: Tensor = 0.5 * residual * (1 / lines[0][:, :2].norm(dim=-1) + 1 / lines[1][:, :2].norm(dim=-1))
    return distances


def epipolar_error(a: View, b: View, matches: Matches, reading: Reading = Reading()) -> float:  # noqa: B008
    """Median distance of matched points from their epipolar lines, in pixels; NaN if nothing can be said.

    Under a wrong motion a part of the matches still fits by chance, so the median over all is taken, without any choice
    of inliers.
    """
    distances = epipolar_distances(a, b, matches, reading) if len(matches.a) >= LEAST_MATCHES else None
    return math.nan if distances is None else float(distances.median())


def neighbour_pairs(views: Sequence[View], count: int) -> list[tuple[int, int]]:
    """Neighbouring views with poses, evenly spaced."""
    usable = [i for i, view in enumerate(views) if view.cam_from_world is not None]
    pairs = list(itertools.pairwise(usable))
    return pairs if len(pairs) <= count else [pairs[i * len(pairs) // count] for i in range(count)]


def _homogeneous(points: Tensor) -> Tensor:
    return torch.cat([points, torch.ones_like(points[:, :1])], dim=-1)
