"""The verdicts on all claims of a capture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from lorasub.data.check.claims import Claim, Finding, Findings
from lorasub.data.check.comparisons import Comparator
from lorasub.data.check.hypotheses import (
    AS_READ,
    DEALT_AT_RANDOM,
    RANDOM_ORDERS,
    Interpretation,
    focal_interpretations,
    order_interpretations,
    pose_interpretations,
    principal_point_interpretations,
    random_orders,
    ray_interpretations,
    registration_interpretations,
    unit_interpretations,
)
from lorasub.data.check.matching import shows_one_picture
from lorasub.data.check.observations import LEAST_MATCHES, Observations
from lorasub.data.check.registration import Outlines, outlines
from lorasub.data.check.residuals import Kind
from lorasub.data.check.single_frames import NAMED, Loose, loose_views, strange_depth, swaps, words
from lorasub.data.check.verdicts import Weighed, weigh
from lorasub.data.decoding import View
from lorasub.geometry import camera_centers, rotation_angle

#: If what was read leaves more than this part of the images' motion unexplained, nothing counts as proved,
UNEXPLAINED = 0.15
#: of a single image only this part, since an image has fewer points than a capture,
TIED = 0.25
#: and above this it is wrong, although no interpretation that was tried is better.
WRONG = 0.35
#: Cameras that turn by less (radians) and move by less (parts of the largest coordinate, or world units) stand still.
STANDING = 1e-5
#: Views whose cameras are this far apart (parts of the largest distance, or radians) cannot show one picture.
APART = 0.02

IMAGE_KINDS: tuple[Kind, ...] = ("epipolar", "points")
ALL_KINDS: tuple[Kind, ...] = (*IMAGE_KINDS, "depth")


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """The verdicts on a capture and what they rest on.

    Attributes:
        findings: one for each claim.
        errors: median residual as read, for each kind that could be used.
        unexplained: part of the images' motion that what was read leaves unexplained; NaN without matched points.
        better: the interpretation that the frames prefer most; None if there is none.
        notes: what limits the verdicts, for people.
    """

    findings: Findings
    errors: dict[Kind, float]
    unexplained: float
    better: Interpretation | None
    notes: tuple[str, ...]


def judge(seen: Observations, *, metric: bool) -> Judgement:
    """Judge every claim of a capture.

    Args:
        seen: what was observed.
        metric: whether the world's unit is the metre.
    """
    return _Judge.of(seen, metric=metric).judgement()


@dataclass(slots=True, eq=False)
class _Judge:
    seen: Observations
    comparator: Comparator
    metric: bool
    notes: list[str]
    better: list[Interpretation]

    @classmethod
    def of(cls, seen: Observations, *, metric: bool) -> _Judge:
        kinds: tuple[Kind, ...] = IMAGE_KINDS if seen.sparse else ALL_KINDS
        return cls(seen, Comparator(seen, kinds, [] if seen.sparse else _outlines_of(seen.views)), metric, [], [])

    def judgement(self) -> Judgement:
        unexplained = self._unexplained()
        registered = self._registration()
        loose = loose_views(self.seen, TIED)
        findings = [self._with_strange_depth(registered, loose)]
        if why := self._nothing_to_compare():
            findings += [_not_provable(claim, why) for claim in Claim if claim != registered.claim]
        elif repeated := self._repeated_pictures():
            claim = Claim.IMAGES_BELONG_TO_POSES
            findings.append(Finding(claim=claim, verdict="contradicted", measured=repeated))
            others = [other for other in Claim if other not in (claim, registered.claim)]
            findings += [_not_provable(other, "the images do not belong to their poses") for other in others]
        else:
            findings += self._geometry(registered, unexplained, loose)
        return Judgement(
            findings=Findings(tuple(sorted(findings, key=lambda finding: list(Claim).index(finding.claim)))),
            errors={
                kind: float(self.comparator.medians(kind).nanmedian())
                for kind in self.comparator.kinds
                if self.comparator.usable(kind)
            },
            unexplained=unexplained,
            better=self.better[0] if self.better else None,
            notes=tuple(self.notes),
        )

    def _geometry(self, registered: Finding, unexplained: float, loose: Sequence[Loose]) -> list[Finding]:
        """All claims but that on registration."""
        weighed = self._weigh_all(registered, loose)
        cause = self._cause(weighed, unexplained)
        if cause is not None:
            self.better.insert(0, cause)
            limit = f"what is wrong with another claim ({cause.claim}) hides it"
            findings = [
                w.blaming(cause).finding() if w.claim == cause.claim else w.without_preference().finding(limit)
                for w in weighed
            ]
        else:
            bad = unexplained > UNEXPLAINED
            limit = f"{unexplained:.0%} of the images' motion is left unexplained" if bad else ""
            findings = [w.without_preference().finding(limit) for w in weighed]
            if bad and (unexplained > WRONG or _no_better_than_chance(weighed)):
                findings = _nothing_fits(findings, weighed, unexplained)
        findings = [self._of_single_images(finding, loose) for finding in findings]
        if not any(bool((view.depth > 0).any()) for view in self.seen.views):
            findings = [_not_provable(f.claim, "no depth") if f.claim.about_depth else f for f in findings]
        return findings

    def _cause(self, weighed: Sequence[Weighed], unexplained: float) -> Interpretation | None:
        """The mistake that was made: one makes many interpretations fit better, and it is the one that fits best.

        If what was read leaves much unexplained, the mistake must explain it.
        """
        preferred = sorted((p for w in weighed for p in w.preferred), key=self.comparator.gain, reverse=True)
        if unexplained > UNEXPLAINED:
            preferred = [other for other in preferred if not self._unexplained(other) > UNEXPLAINED]
        return preferred[0] if preferred else None

    def _of_single_images(self, finding: Finding, loose: Sequence[Loose]) -> Finding:
        """The finding on images, which is proved only if each of those that were compared is tied to its pose."""
        if finding.claim != Claim.IMAGES_BELONG_TO_POSES or finding.verdict == "contradicted":
            return finding
        few_are = 2 * len(loose) < len(self.seen.posed)  # of many, the mistake is in all of them
        if few_are and (wrong := [found for found in loose if found.agrees and found.left > WRONG]):
            measured = f"points match those of other images, but not from where the pose is: {words(wrong, self.seen)}"
            return replace(finding, verdict="contradicted", measured=measured)
        if loose:
            proved = "proved of the other images" if finding.verdict == "proved" else finding.measured
            measured = f"{proved}; nothing ties these to their poses: {words(loose, self.seen)}"
            return replace(finding, verdict="not provable", measured=measured)
        if finding.verdict != "proved":
            return finding
        compared, frames = len(self.seen.views), len(self.seen.poses)
        few = f"; {compared} of {frames} images were compared" if compared < frames else ""
        return replace(finding, measured=finding.measured + few)

    def _with_strange_depth(self, finding: Finding, loose: Sequence[Loose]) -> Finding:
        """The finding on depth, which is proved only if no single depth map disagrees with the others."""
        strange = strange_depth(self.seen)
        if not strange or finding.verdict == "contradicted":
            return finding
        tied = {found.view for found in strange} - {found.view for found in loose}
        named = ", ".join(
            f"{self.seen.views[found.view].name} ({found.error:.0%} off, others {found.usual:.1%})"
            for found in sorted(strange, key=lambda found: found.view not in tied)[:NAMED]
        )
        return replace(
            finding,
            # without points that tie the image to its pose it may as well be the pose that is wrong
            verdict="contradicted" if tied else "not provable",
            measured=f"depth that agrees with that of no other view: {named}",
        )

    def _weigh_all(self, registered: Finding, loose: Sequence[Loose]) -> list[Weighed]:
        view = self.seen.views[self.seen.posed[0]]
        size = (view.image.shape[-2], view.image.shape[-1])
        frames = len(self.seen.poses)
        # depth alone speaks of the camera that took it: of the image's only if the two are proved to be one
        image_kinds = ALL_KINDS if registered.verdict == "proved" else IMAGE_KINDS
        poses = list(pose_interpretations())
        tests: list[tuple[Claim, list[Interpretation], Sequence[Kind]]] = [
            (Claim.POSES, [other for other in poses if other.claim == Claim.POSES], ALL_KINDS),
            (Claim.AXES, [other for other in poses if other.claim == Claim.AXES], ALL_KINDS),
            (Claim.FOCAL_LENGTH, list(focal_interpretations(view.intrinsics)), image_kinds),
            (Claim.PRINCIPAL_POINT, list(principal_point_interpretations(view.intrinsics, size)), image_kinds),
            (Claim.UNIT, list(unit_interpretations()), ("points", "depth")),
            (Claim.DEPTH_ALONG_Z, list(ray_interpretations()), ("points", "depth")),
            (Claim.IMAGES_BELONG_TO_POSES, [*order_interpretations(frames), *random_orders(frames)], image_kinds),
        ]
        weighed = [weigh(claim, others, self.comparator.compare(others, kinds)) for claim, others, kinds in tests]
        # images that may have changed places: nothing is proved by ruling one of these out
        pairs = list(swaps(self.seen, loose))
        swapped = weigh(Claim.IMAGES_BELONG_TO_POSES, pairs, self.comparator.compare(pairs, image_kinds))
        return [*weighed[:-1], weighed[-1].preferring(swapped.preferred)]

    def _registration(self) -> Finding:
        claim = Claim.DEPTH_REGISTERED
        if not any(bool((view.depth > 0).any()) for view in self.seen.views):
            return _not_provable(claim, "no depth")
        others = list(registration_interpretations(metric=self.metric))
        if self.seen.sparse:  # points made from these images: they have no edges, and there is no other camera
            weighed = weigh(claim, others, self.comparator.compare(others, ("points",))).without_preference()
        else:
            weighed = weigh(claim, others, self.comparator.compare_edges(others))
        self.better += weighed.preferred[:1]
        return weighed.finding()

    def _nothing_to_compare(self) -> str:
        """Reason for which nothing can be said about cameras; empty if something can."""
        if len(self.seen.posed) < 2:
            return "fewer than two frames with a pose"
        if self._cameras_stand():
            self.notes.append("the cameras do not move: nothing is proved about poses, focal length or unit")
            return "the cameras do not move"
        return ""

    def _unexplained(self, interpretation: Interpretation = AS_READ) -> float:
        """Median over pairs of the residual off epipolar lines as a part of the motion between the images."""
        if not self.comparator.usable("epipolar"):
            return math.nan
        motion = self.seen.pairs.motion
        return float((self.comparator.medians("epipolar", interpretation) / motion)[motion > 1].nanmedian())

    def _cameras_stand(self) -> bool:
        poses = self.seen.poses[[self.seen.frames[i] for i in self.seen.posed]]
        centers = camera_centers(poses)
        extent = float((centers - centers[0]).norm(dim=-1).max())
        turn = float(rotation_angle(poses[:1, :, :3], poses[..., :3]).max())
        return extent < STANDING * max(1.0, float(centers.abs().max())) and turn < STANDING

    def _repeated_pictures(self) -> str:
        """Says so if most pairs of images show one picture although their cameras are apart."""
        poses = self.seen.poses[self.seen.frames]
        centers = camera_centers(poses)
        extent = float(torch.cdist(centers, centers).nan_to_num().max())
        same = apart = 0
        for (i, j), matches in self.seen.matched.items():
            if len(matches) < LEAST_MATCHES or not bool(torch.isfinite(poses[[i, j]]).all()):
                continue
            distance = float((centers[i] - centers[j]).norm()) / max(extent, 1e-12)
            turn = float(rotation_angle(poses[i, :, :3], poses[j, :, :3]))
            if distance > APART or turn > APART:
                apart += 1
                same += shows_one_picture(matches)
        if same * 2 <= apart or not same:
            return ""
        return f"{same} of {apart} pairs of images show one and the same picture although their cameras are apart"


def _outlines_of(views: Sequence[View]) -> list[Outlines]:
    """Of every view that shows something else than those before: copies are no further evidence."""
    different: list[View] = []
    for view in views:
        if not any(torch.equal(view.image, other.image) for other in different):
            different.append(view)
    return [found for view in different if (found := outlines(view)) is not None]


def _no_better_than_chance(weighed: Sequence[Weighed]) -> bool:
    """Whether poses that were dealt to the images at random fit as well as those that were read."""
    images = next(w for w in weighed if w.claim == Claim.IMAGES_BELONG_TO_POSES)
    dealt = [other for other in (*images.unresolved, *images.preferred) if other.words == DEALT_AT_RANDOM]
    return 2 * len(dealt) >= RANDOM_ORDERS


def _nothing_fits(findings: Sequence[Finding], weighed: Sequence[Weighed], unexplained: float) -> list[Finding]:
    """Verdict that what was read is wrong, although no interpretation that was tried is right."""
    chance = _no_better_than_chance(weighed)
    claim = Claim.IMAGES_BELONG_TO_POSES if chance else Claim.POSES
    wrong = Finding(
        claim=claim,
        verdict="contradicted",
        measured=f"{unexplained:.0%} of the images' motion is left unexplained"
        + (", and poses dealt to the images at random fit as well" if chance else "")
        + ": poses, intrinsics and images may belong to different frames, cameras or resolutions",
    )
    return [wrong if finding.claim == claim else finding for finding in findings]


def _not_provable(claim: Claim, why: str) -> Finding:
    return Finding(claim=claim, verdict="not provable", measured=why)
