"""Observations of the check: chosen frames, decoded, with matched points. Nothing here depends on the poses' values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.data.check.matching import STATIC, Features, Matches, find_features, match_features, without_static
from lorasub.data.check.residuals import DepthPairs, MatchedPairs
from lorasub.data.decoding import View, frame_size, load_view
from lorasub.data.depth import SparseDepth, StereoDepth
from lorasub.data.frames import Capture, Frame

#: Views are compared at about this many pixels along the longer side; smaller images are enlarged for features.
SIZE = 480
#: Enlarging by more than this makes no new features.
LARGEST_ENLARGEMENT = 3.0
#: Images with a shorter side, after that, have no features.
SMALLEST = 40
#: Frames that are matched.
MAX_VIEWS = 12
#: Pairs of views that are compared, those with the most matches first.
MAX_PAIRS = 24
#: Pairs with fewer matches say nothing.
LEAST_MATCHES = 20
#: More matches of a pair do not make its error more certain: what they share dominates.
MAX_MATCHES = 200

#: Finds the features of a frame's view; replaced where features are known already.
FeatureFinder = Callable[[Frame, View], Features]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observations:
    """Frames of a capture as they are compared.

    Attributes:
        views: decoded, small.
        frames: which frame of the capture each view is.
        poses: ``[N, 3, 4]`` float64 extrinsics of all frames of the capture as read, NaN where there is none.
        matched: all matches of every pair of views.
        pairs: pairs with enough matches, without what stays in place.
        depth_pairs: pairs (either order) whose depth is compared.
        sparse: whether depth was made from these poses, by structure from motion or multi-view stereo.
    """

    views: Sequence[View]
    frames: Sequence[int]
    poses: Tensor
    matched: Mapping[tuple[int, int], Matches]
    pairs: MatchedPairs
    depth_pairs: DepthPairs
    sparse: bool

    @classmethod
    def of(
        cls,
        *,
        views: Sequence[View],
        frames: Sequence[int],
        poses: Tensor,
        matched: Mapping[tuple[int, int], Matches],
        sparse: bool,
    ) -> Observations:
        """From decoded and matched views; attributes as of the class."""
        return cls(
            views=views,
            frames=frames,
            poses=poses,
            matched=matched,
            pairs=MatchedPairs.of(_moving_matches(matched), views),
            depth_pairs=DepthPairs.of(_depth_pairs(views, matched), views),
            sparse=sparse,
        )

    @property
    def posed(self) -> list[int]:
        """The views that have a pose."""
        return [i for i, frame in enumerate(self.frames) if bool(torch.isfinite(self.poses[frame]).all())]


def features_of(frame: Frame, view: View) -> Features:
    """SIFT points of a view, whatever its frame; none in images too small for them."""
    del frame
    factor = min(LARGEST_ENLARGEMENT, max(1.0, SIZE / max(view.image.shape[-2:])))
    if min(view.image.shape[-2:]) * factor < SMALLEST:
        return Features(torch.zeros(0, 2, dtype=torch.float64), torch.zeros(0, 128))
    return find_features(view.image, factor)


def observe(
    capture: Capture,
    decoded: Mapping[int, View],
    find: FeatureFinder = features_of,
    on_step: Callable[[], object] | None = None,
) -> Observations:
    """Match the decoded frames of a capture.

    Args:
        capture: what a reader made.
        decoded: views by the number of their frame.
        find: finds features.
        on_step: called after each view, for a progress bar.
    """
    frames = sorted(decoded)
    views = [decoded[index] for index in frames]
    features: list[Features] = []
    for index, view in zip(frames, views, strict=True):
        features.append(find(capture.frames[index], view))
        if on_step is not None:
            on_step()
    matched = {
        (i, j): match_features(features[i], features[j])
        for i, j in itertools.combinations(range(len(views)), 2)
        if len(features[i].points) > 1 and len(features[j].points) > 1
    }
    return Observations.of(
        views=views,
        frames=frames,
        poses=poses_of(capture),
        matched=matched,
        sparse=any(isinstance(frame.depth, SparseDepth | StereoDepth) for frame in capture.frames),
    )


def poses_of(capture: Capture) -> Tensor:
    """``[N, 3, 4]`` float64 extrinsics of all frames, NaN where there is none."""
    unknown = torch.full((3, 4), math.nan, dtype=torch.float64)
    return torch.stack(
        [unknown if frame.cam_from_world is None else frame.cam_from_world.double() for frame in capture.frames]
    )


def chosen_frames(count: int, most: int) -> list[int]:
    """Indices of frames in groups of four: neighbours, and some further apart, spread over the capture.

    Neighbours tell frames from the next ones, and those further apart see a scene from different places.
    """
    if count <= most:
        return list(range(count))
    offsets = (0, 1, math.ceil(count / 60) + 1, math.ceil(count / 20) + 2)
    groups = most // 4
    last = count - 1 - offsets[-1]
    starts = [round(group * last / (groups - 1)) for group in range(groups)]
    return sorted({start + offset for start in starts for offset in offsets})


def decode(frame: Frame, longer_side: int) -> View:
    """A frame at a small size, never enlarged."""
    width, height = frame_size(frame)
    scale = min(1.0, longer_side / max(height, width))
    return load_view(frame, (max(round(height * scale), 1), max(round(width * scale), 1)), crop="center")


def _moving_matches(matched: Mapping[tuple[int, int], Matches]) -> dict[tuple[int, int], Matches]:
    """The pairs with the most matches, without what stays in place.

    Where some pairs move clearly, those that do not are left out as a whole: what they share is on the lens, on the
    camera's mount or a copy, and would outvote the rest.
    """
    moving = {pair: without_static(found) for pair, found in matched.items()}
    moving = {pair: found for pair, found in moving.items() if len(found) >= LEAST_MATCHES}
    motion = {pair: float(found.motion.median()) for pair, found in moving.items()}
    if any(pixels >= 5 * STATIC for pixels in motion.values()):
        moving = {pair: found for pair, found in moving.items() if motion[pair] >= STATIC}
    best = sorted(moving, key=lambda pair: -len(moving[pair]))
    return {pair: _some(moving[pair]) for pair in sorted(best[:MAX_PAIRS])}


def _some(matches: Matches) -> Matches:
    return matches.where(torch.linspace(0, len(matches) - 1, min(len(matches), MAX_MATCHES)).round().long())


def _depth_pairs(views: Sequence[View], matched: Mapping[tuple[int, int], Matches]) -> list[tuple[int, int]]:
    """Pairs with depth: neighbours in the order of frames, and those whose images match best."""
    known = [i for i, view in enumerate(views) if bool((view.depth > 0).any())]
    neighbours = [(i, j) for i, j in itertools.combinations(known, 2) if known.index(j) - known.index(i) <= 2]
    best = sorted(
        ((i, j) for i, j in itertools.combinations(known, 2) if (i, j) not in neighbours and (i, j) in matched),
        key=lambda pair: -len(matched[pair]),
    )
    return sorted([*neighbours, *best][:MAX_PAIRS])
