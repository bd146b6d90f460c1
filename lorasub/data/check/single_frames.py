"""Does every single frame belong to its pose? One wrong frame among many hardly changes a mean over all pairs of views.

Matched points of one view with all others are pooled: those of a pair count by their number, so that the few wrong
matches with views that show something else are outvoted. A view is *tied* to its pose if the pooled points lie near
their epipolar lines, as parts of the motion between the images. A view that is not tied is either one that the others
have too little in common with (nothing is proved of it), or its matches agree with each other and not with the pose.

Depth of one view is *strange* if it agrees with that of no other view, where the others agree with each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.data.check.claims import Claim
from lorasub.data.check.comparisons import LEAST_OVERLAP, LEAST_POINTS
from lorasub.data.check.hypotheses import Interpretation
from lorasub.data.check.matching import without_static
from lorasub.data.check.observations import LEAST_MATCHES, Observations
from lorasub.data.check.residuals import Cameras, MatchedPairs, cameras_of

#: Views that nothing ties to their pose are named, at most so many.
NAMED = 3
#: Matches of two images agree with each other if this part of them, and so many, lie on common epipolar lines,
AGREE, AGREEING = 0.5, 30
#: within so many pixels.
ON_LINE = 1.5
#: Depth of a view is strange if it is off by more than this part, and by so many times more than that of others.
STRANGE, TIMES = 0.1, 5.0
#: Images that move by less (pixels) are copies, or nearly: they say nothing about where their cameras are.
STILL = 1.0


@dataclass(frozen=True, slots=True)
class Loose:
    """A view that nothing ties to its pose.

    Attributes:
        view: its number among the views.
        matches: points that it shares with other views.
        left: median distance of them from their epipolar lines, as a part of the images' motion.
        agrees: whether these matches agree with each other, in two pairs of views at least, so that the pose is wrong.
    """

    view: int
    matches: int
    left: float
    agrees: bool


def loose_views(seen: Observations, tolerance: float) -> list[Loose]:
    """The views with a pose that nothing ties to it.

    Args:
        seen: observations of the capture.
        tolerance: the part of the images' motion that may be left unexplained.
    """
    posed = seen.posed
    if len(posed) < 2:
        return []
    cameras = cameras_of(seen.views, seen.frames, seen.poses)
    moving = {pair: without_static(found) for pair, found in seen.matched.items() if set(pair) <= set(posed)}
    pairs = MatchedPairs.of({pair: found for pair, found in moving.items() if len(found) >= LEAST_MATCHES}, seen.views)
    left = _left(pairs, cameras)
    loose: dict[int, Loose] = {}
    for view in posed:
        own = (pairs.views == view).any(dim=1)
        pooled = left[own][left[own].isfinite()]
        part = float(pooled.median()) if len(pooled) else float("inf")
        if len(pooled) < LEAST_MATCHES or part > tolerance:
            # among the pairs only now: finding out whether matches agree costs a second
            agreeing = sum(_agree(pairs.a[p], pairs.b[p]) for p in own.nonzero()[:, 0].tolist())
            loose[view] = Loose(view, len(pooled), part, agreeing > 1)
    return [found for view, found in loose.items() if not _copies_one_that_is_tied(view, set(loose), pairs, cameras)]


@dataclass(frozen=True, slots=True)
class Strange:
    """A view whose depth agrees with that of no other view.

    Attributes:
        view: its number among the views.
        error: median relative error of the pair of views that agrees best.
        usual: median of those of all pairs without this view.
    """

    view: int
    error: float
    usual: float


def strange_depth(seen: Observations) -> list[Strange]:
    """The views whose depth agrees with that of no other view; none if that holds for most of them."""
    pairs = seen.depth_pairs
    if seen.sparse or not len(pairs):
        return []
    errors = pairs.errors(cameras_of(seen.views, seen.frames, seen.poses))
    overlap = errors.isfinite().sum(dim=1)
    known = overlap >= (LEAST_OVERLAP * pairs.depth.isfinite().sum(dim=1)).clamp(min=LEAST_POINTS)
    medians = errors.nanmedian(dim=1).values
    found = []
    for view in seen.posed:
        own = (pairs.views == view).any(dim=1)
        if not (own & known).any() or not (~own & known).any():
            continue
        error, usual = float(medians[own & known].min()), float(medians[~own & known].median())
        if error > max(STRANGE, TIMES * usual):
            found.append(Strange(view, error, usual))
    return found if 2 * len(found) < len(seen.posed) else []


def swaps(seen: Observations, loose: Sequence[Loose]) -> Iterator[Interpretation]:
    """Interpretations in which two images have each other's pose: neighbours, and those that nothing ties to theirs."""
    compared = [seen.frames[view] for view in seen.posed]
    pairs = list(itertools.pairwise(compared))
    for found in loose:
        own = seen.frames[found.view]
        pairs += [(min(own, other), max(own, other)) for other in range(len(seen.poses)) if other != own]
    for first, second in dict.fromkeys(pairs):
        order = torch.arange(len(seen.poses))
        order[[first, second]] = torch.tensor([second, first])
        yield Interpretation(
            words=f"the images of frames {first} and {second} (from 0) have changed places",
            claim=Claim.IMAGES_BELONG_TO_POSES,
            poses=lambda poses, order=order: poses[order],  # type: ignore[misc]
        )


def words(loose: Sequence[Loose], seen: Observations) -> str:
    """Which views they are, and why."""
    named = ", ".join(
        f"{seen.views[found.view].name} ({found.matches} matched points"
        + (f", {found.left:.0%} of their motion unexplained)" if found.matches >= LEAST_MATCHES else ")")
        for found in loose[:NAMED]
    )
    return named + (f" and {len(loose) - NAMED} more" if len(loose) > NAMED else "")


def _left(pairs: MatchedPairs, cameras: Cameras) -> Tensor:
    """``[P, N]`` distance from the epipolar lines, over the median motion of the pair; NaN where images stand still."""
    if not len(pairs):
        return torch.zeros(0, 0, dtype=torch.float64)
    motion = pairs.motion[:, None]
    return torch.where(motion > STILL, pairs.epipolar(cameras) / motion, torch.nan)


def _copies_one_that_is_tied(view: int, loose: set[int], pairs: MatchedPairs, cameras: Cameras) -> bool:
    """Whether the view shows what a tied one shows, from the same place."""
    for p in ((pairs.views == view).any(dim=1) & (pairs.motion <= STILL)).nonzero()[:, 0].tolist():
        (other,) = set(pairs.views[p].tolist()) - {view}
        if other not in loose and torch.allclose(cameras.poses[view], cameras.poses[other], atol=1e-3):
            return True
    return False


def _agree(a: Tensor, b: Tensor) -> bool:
    """Whether most of the matches ``[N, 2]`` of two images lie on the lines of one epipolar geometry (kornia)."""
    from kornia.geometry.ransac import RANSAC

    known = a.isfinite().all(dim=-1)
    if int(known.sum()) < AGREEING:
        return False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, inliers = RANSAC("fundamental", inl_th=ON_LINE, max_iter=10)(a[known].float(), b[known].float())
    return int(inliers.sum()) >= max(AGREEING, AGREE * int(known.sum()))
