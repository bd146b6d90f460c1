"""Faults of every kind, planted into real captures: which of them does `data check` find?

python -m benchmarks capture_faults [--base_folder ../shared/data/real] [--sets kitchen fox] [--json FILE]
python -m benchmarks capture_faults --faults "two images swapped" "unit x 10"

Every set is checked as it is, and once with each fault. A cell of the table says what came out of the claim that the
fault makes wrong: `found` (contradicted), `open` (not provable from these frames), `PROVED` (wrongly confirmed), or `-`
where the fault changes nothing there. `found*`: the fault was found, and blamed on another claim.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.report import write_report
from configs.sample_readers import ApcShelf, TraceBot
from lorasub.data.check.claims import Claim, Findings
from lorasub.data.check.hypotheses import POSE_MISTAKES
from lorasub.data.check.judging import judge
from lorasub.data.check.matching import Features
from lorasub.data.check.observations import SIZE, Observations, decode, features_of, observe
from lorasub.data.decoding import View
from lorasub.data.depth import splat_points
from lorasub.data.frames import Capture, Frame
from lorasub.data.readers.base import Reader
from lorasub.data.readers.discovery import find_captures
from lorasub.data.readers.pose_list import PoseList
from lorasub.geometry import unproject_depth

SETS: dict[str, tuple[str, str | Reader]] = {
    "kitchen": ("7scenes_redkitchen", "auto"),
    "redwood": ("open3d_redwood", "auto"),
    "studyroom": ("sun3d_studyroom", "auto"),
    "living_room": (
        "slambook2_icl_living",
        PoseList(
            images="color/*.png",
            depth="depth/*.png",
            depth_unit=0.0002,
            poses="pose.txt",
            camera=(481.2, -480.0, 319.5, 239.5),
        ),
    ),
    "dining_room": (
        "slambook2_nyu_dining",
        PoseList(images="color/*.png", depth="depth/*.pgm", poses="pose.txt", camera=(518.0, 519.0, 325.5, 253.5)),
    ),
    "shelf": ("apc_shelf", ApcShelf()),
    "glass": ("tracebot_001", TraceBot(render=False)),
    "facade": ("lund_door", "auto"),
    "fox": ("ngp_fox", "auto"),
}
#: Frames of each set that are used, the first ones.
FRAMES = 6
#: The other depth camera: its focal length over the image's, and how far it stands to the left, in metres.
DEPTH_FOCAL, DEPTH_ASIDE = 1.11, 0.025


#: Makes wrong observations of right ones; None if the fault would change nothing there.
Plant = Callable[[Observations], Observations | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fault:
    """A mistake.

    Attributes:
        claim: which it makes wrong.
        plant: in what was observed, for faults that leave the images as they are.
        images: in the capture, for faults that do not.
    """

    claim: Claim
    plant: Plant = lambda seen: seen
    images: Callable[[Capture, Path], Capture] | None = None


def _with_views(seen: Observations, views: list[View]) -> Observations:
    return Observations.of(views=views, frames=seen.frames, poses=seen.poses, matched=seen.matched, sparse=seen.sparse)


def _poses(words: str) -> Plant:
    return lambda seen: dataclasses.replace(seen, poses=POSE_MISTAKES[words][1](seen.poses))


def _order(order: Callable[[int], list[int | None]]) -> Plant:
    def plant(seen: Observations) -> Observations:
        lost = torch.full((3, 4), torch.nan, dtype=seen.poses.dtype)
        return dataclasses.replace(
            seen, poses=torch.stack([lost if i is None else seen.poses[i] for i in order(len(seen.poses))])
        )

    return plant


def _derangement(count: int) -> list[int | None]:
    generator = np.random.default_rng(7)
    while True:
        order = generator.permutation(count)
        if (order != np.arange(count)).all():
            return [int(i) for i in order]


def _intrinsics(change: Callable[[Tensor], Tensor]) -> Plant:
    def plant(seen: Observations) -> Observations | None:
        read = seen.views[0].intrinsics
        if torch.allclose(change(read), read, rtol=0.005, atol=0):
            return None
        views = [dataclasses.replace(view, intrinsics=change(view.intrinsics)) for view in seen.views]
        return dataclasses.replace(seen, views=views)

    return plant


def _scaled(fx: float = 1.0, fy: float = 1.0, cx: float = 1.0, cy: float = 1.0) -> Callable[[Tensor], Tensor]:
    def change(intrinsics: Tensor) -> Tensor:
        factors = torch.ones_like(intrinsics)
        factors[0, 0], factors[1, 1], factors[0, 2], factors[1, 2] = fx, fy, cx, cy
        return intrinsics * factors

    return change


def _swapped(column: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    def change(intrinsics: Tensor) -> Tensor:
        changed = intrinsics.clone()
        changed[[0, 1], list(column)] = intrinsics[[1, 0], list(reversed(column))]
        return changed

    return change


def _depth(change: Callable[[View], Tensor]) -> Plant:
    def plant(seen: Observations) -> Observations | None:
        if not any(bool((view.depth > 0).any()) for view in seen.views):
            return None
        return _with_views(seen, [dataclasses.replace(view, depth=change(view)) for view in seen.views])

    return plant


def _as_other_camera_sees(view: View) -> Tensor:
    """Depth as a camera aside with a longer focal length sees it, to be taken for the image's own."""
    points = unproject_depth(view.depth.double(), view.intrinsics)[view.depth > 0]
    points[:, 0] += DEPTH_ASIDE
    camera = _scaled(fx=DEPTH_FOCAL, fy=DEPTH_FOCAL)(view.intrinsics)
    return splat_points(points, camera, (view.depth.shape[0], view.depth.shape[1]))


def _along_ray(view: View) -> Tensor:
    """Distances from the camera's centre in place of depth along z."""
    rays = unproject_depth(torch.ones_like(view.depth).double(), view.intrinsics)
    return (view.depth * rays.norm(dim=-1)).float()


def _other_camera(seen: Observations) -> Observations | None:
    return None if seen.sparse else _depth(_as_other_camera_sees)(seen)


def _noise(capture: Capture, folder: Path) -> Capture:
    frames = []
    for index, frame in enumerate(capture.frames):
        with Image.open(frame.image) as image:
            size = (image.height, image.width, 3)
        path = folder / f"noise_{index}_{size[0]}_{size[1]}.png"  # the same in all sets, found once
        noise = np.random.default_rng(index).integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(noise).save(path, compress_level=0)
        frames.append(dataclasses.replace(frame, image=path, distortion=()))
    return dataclasses.replace(capture, frames=tuple(frames))


def _one_of_noise(capture: Capture, folder: Path) -> Capture:
    """The third image shows something else."""
    frames = list(capture.frames)
    frames[2] = _noise(dataclasses.replace(capture, frames=(frames[2],)), folder).frames[0]
    return dataclasses.replace(capture, frames=tuple(frames))


def _one_foreign_depth(seen: Observations) -> Observations | None:
    """The third depth map is turned upside down."""
    if seen.sparse or not bool((seen.views[2].depth > 0).any()):
        return None
    views = list(seen.views)
    views[2] = dataclasses.replace(views[2], depth=views[2].depth.flip(0, 1))
    return _with_views(seen, views)


def _one_picture(capture: Capture, folder: Path) -> Capture:
    first = capture.frames[0].image
    return dataclasses.replace(
        capture, frames=tuple(dataclasses.replace(frame, image=first) for frame in capture.frames)
    )


_INVERTED, _OPENGL = list(POSE_MISTAKES)[:2]
FAULTS: dict[str, Fault] = {
    "poses inverted": Fault(claim=Claim.POSES, plant=_poses(_INVERTED)),
    "quaternion order": Fault(claim=Claim.POSES, plant=_poses("quaternions with the scalar last (x y z w)")),
    "OpenGL axes": Fault(claim=Claim.AXES, plant=_poses(_OPENGL)),
    "focal x 1.11": Fault(claim=Claim.FOCAL_LENGTH, plant=_intrinsics(_scaled(fx=1.11, fy=1.11))),
    "focal x 0.8": Fault(claim=Claim.FOCAL_LENGTH, plant=_intrinsics(_scaled(fx=0.8, fy=0.8))),
    "camera of images 1.5 times as large": Fault(
        claim=Claim.FOCAL_LENGTH, plant=_intrinsics(_scaled(1.5, 1.5, 1.5, 1.5))
    ),
    "fx 15 % too long": Fault(claim=Claim.FOCAL_LENGTH, plant=_intrinsics(_scaled(fx=1.15))),
    "fx, fy swapped": Fault(claim=Claim.FOCAL_LENGTH, plant=_intrinsics(_swapped((0, 1)))),
    "cx, cy swapped": Fault(claim=Claim.PRINCIPAL_POINT, plant=_intrinsics(_swapped((2, 2)))),
    "cx 15 % too far": Fault(claim=Claim.PRINCIPAL_POINT, plant=_intrinsics(_scaled(cx=1.15))),
    "unit x 10": Fault(claim=Claim.UNIT, plant=_depth(lambda view: view.depth * 10)),
    "unit x 1.2": Fault(claim=Claim.UNIT, plant=_depth(lambda view: view.depth * 1.2)),
    "depth along the ray": Fault(claim=Claim.DEPTH_ALONG_Z, plant=_depth(_along_ray)),
    "poses one frame late": Fault(claim=Claim.IMAGES_BELONG_TO_POSES, plant=_order(lambda n: [*range(1, n), None])),
    "images permuted": Fault(claim=Claim.IMAGES_BELONG_TO_POSES, plant=_order(_derangement)),
    "images of noise": Fault(claim=Claim.IMAGES_BELONG_TO_POSES, images=_noise),
    "one image for all": Fault(claim=Claim.IMAGES_BELONG_TO_POSES, images=_one_picture),
    "two images swapped": Fault(
        claim=Claim.IMAGES_BELONG_TO_POSES, plant=_order(lambda n: [0, n - 2, *range(2, n - 2), 1, n - 1])
    ),
    "one image of noise": Fault(claim=Claim.IMAGES_BELONG_TO_POSES, images=_one_of_noise),
    "one depth map upside down": Fault(claim=Claim.DEPTH_REGISTERED, plant=_one_foreign_depth),
    "depth of another camera": Fault(claim=Claim.DEPTH_REGISTERED, plant=_other_camera),
}


def outcome(findings: Findings, claim: Claim) -> str:
    """What the check made of a planted fault."""
    verdict = findings[claim].verdict
    if verdict == "contradicted":
        return "found"
    if verdict == "proved":
        return "PROVED"
    return "found*" if findings.with_verdict("contradicted") else "open"


def planted(capture: Capture, seen: Observations, fault: Fault, folder: Path) -> Observations | None:
    """The observations of a capture with a fault; None where it changes nothing."""
    if fault.images is None:
        return fault.plant(seen)
    return look_at(fault.images(capture, folder))


class RememberedFeatures:
    """Features by the image that they were found in."""

    def __init__(self) -> None:
        self._known: dict[bytes, Features] = {}

    def __call__(self, frame: Frame, view: View) -> Features:
        """See :data:`lorasub.data.check.observations.FeatureFinder`."""
        key = hashlib.sha1(view.image.numpy().tobytes()).digest()
        if key not in self._known:
            self._known[key] = features_of(frame, view)
        return self._known[key]


_features = RememberedFeatures()


def look_at(capture: Capture) -> Observations:
    """Decode and match all frames."""
    return observe(capture, {index: decode(frame, SIZE) for index, frame in enumerate(capture.frames)}, _features)


def summary(findings: Findings) -> str:
    """One line for progress."""
    return "; ".join(f"{finding.claim}: {finding.verdict}" for finding in findings.items)


def right_captures(base_folder: Path, sets: list[str], frames: int) -> Iterator[tuple[str, Capture]]:
    """The sets as they are, the first frames of each."""
    for name in sets:
        root, reader = SETS[name]
        (capture,) = find_captures(base_folder / root, reader)
        yield name, dataclasses.replace(capture, frames=capture.frames[:frames])


def main() -> None:
    """Plant every fault into every set and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base_folder", type=Path, default=Path("../shared/data/real"))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    right: dict[str, dict[str, str]] = {}
    faults = {kind: FAULTS[kind] for kind in options.faults}
    cells: dict[str, dict[str, str]] = {kind: {} for kind in faults}
    with tempfile.TemporaryDirectory() as folder:
        for name, capture in right_captures(options.base_folder, options.sets, options.frames):
            seen = look_at(capture)
            findings = judge(seen, metric=capture.metric).findings
            right[name] = {finding.claim.value: finding.verdict for finding in findings.items}
            print(f"{name}: {summary(findings)}", flush=True)
            for kind, fault in faults.items():
                wrong = planted(capture, seen, fault, Path(folder))
                if wrong is None:
                    cells[kind][name] = "-"
                    continue
                findings = judge(wrong, metric=capture.metric).findings
                cells[kind][name] = outcome(findings, fault.claim)
                print(f"  {kind}: {cells[kind][name]} ({summary(findings)})", flush=True)
    print(f"\n| as it is | {' | '.join(options.sets)} |\n|---|{'---|' * len(options.sets)}")
    for claim in Claim:
        marks = {"proved": "proved", "contradicted": "CONTRADICTED", "not provable": "open"}
        print(f"| {claim} | {' | '.join(marks[right[name][claim.value]] for name in options.sets)} |")
    print(f"\n| planted | {' | '.join(options.sets)} |\n|---|{'---|' * len(options.sets)}")
    for kind, row in cells.items():
        print(f"| {kind} | {' | '.join(row.values())} |")
    seconds = time.process_time() - started
    print(f"{seconds:.0f} s of one core")
    write_report(
        options.json, "capture_faults", {"as_they_are": right, "faults": cells, "processor_seconds": round(seconds)}
    )


if __name__ == "__main__":
    main()
