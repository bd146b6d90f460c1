"""Ways in which a capture can be misread: the hypotheses against which every claim is tested.

An :class:`Interpretation` says what the numbers of a source would mean if a certain mistake had been made, relative to
what the reader took them for. The interpretation without a mistake is :data:`AS_READ`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lorasub.data.check.claims import Claim
from lorasub.geometry import invert_pose, matrix_to_quaternion, quaternion_to_matrix

#: ``[N, 3, 4]`` extrinsics of all frames of a capture -> the same.
PoseChange = Callable[[Tensor], Tensor]

#: Changes of a length or a unit that are tried, as factors: fine steps, and mistakes of resizing.
_SMALLER = (0.5, 0.667, 0.75, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)
FACTORS = (*_SMALLER, *(round(1 / factor, 4) for factor in reversed(_SMALLER)))
#: Resolutions of images over those that a camera was calibrated for.
CAMERA_SCALES = (0.25, 0.5, 0.6667, 0.75, 1.3333, 1.5, 2.0, 4.0)
#: Shifts of the principal point that are tried, in parts of the image's longer side.
SHIFTS = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
#: Mistakes of the depth unit that occur: millimetres for metres, 5000 for 1000 steps a metre, and so on.
UNIT_FACTORS = (1000.0, 100.0, 10.0, 5.0, 2.0, 0.5, 0.2, 0.1, 0.01, 0.001)
#: Focal lengths of other depth cameras over the image's (Kinect v1: 1.11), and how far aside they stand, in metres.
FOCAL_RATIOS = (0.8, 0.9, 0.95, 1.0, 1.05, 1.11, 1.25)
ASIDE = 0.025
#: Displacements of depth that are tried, in parts of the image's longer side.
DEPTH_SHIFTS = (0.005, 0.01, 0.02, 0.04)
#: Swapping numbers that differ by less than this part changes nothing that matters.
SAME = 0.005
#: Random orders in which poses are dealt to images.
RANDOM_ORDERS = 4
DEALT_AT_RANDOM = "poses dealt to the images at random"


def _unchanged(poses: Tensor) -> Tensor:
    return poses


@dataclass(frozen=True, slots=True)
class DepthCamera:
    """Position and lens of the camera that took the depth, relative to the image's camera.

    Attributes:
        focal_ratio: its focal length over the image's.
        offset: (x, y) of its place in the image camera's frame, in world units.
        shift: (x, y) by which its picture is displaced, in parts of the image's longer side.
    """

    focal_ratio: float = 1.0
    offset: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)

    def to_depth(self, pixels: Tensor, depth: Tensor, intrinsics: Tensor) -> Tensor:
        """Places in the depth image of the points at some pixels of the image.

        Args:
            pixels: ``[N, 2]`` (x, y) in the image.
            depth: ``[N]`` theirs, about.
            intrinsics: ``[3, 3]`` of the image.
        """
        center, moved, shift = self._parts(depth, intrinsics)
        return center + (pixels - center - moved) * self.focal_ratio + shift

    def to_image(self, pixels: Tensor, depth: Tensor, intrinsics: Tensor) -> Tensor:
        """The reverse of :meth:`to_depth`."""
        center, moved, shift = self._parts(depth, intrinsics)
        return center + (pixels - center - shift) / self.focal_ratio + moved

    def _parts(self, depth: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        focal, center = intrinsics.diagonal()[:2], intrinsics[:2, 2]
        moved = focal * intrinsics.new_tensor(self.offset) / depth[:, None].clamp(min=1e-9)
        return center, moved, intrinsics.new_tensor(self.shift) * 2 * center.max()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interpretation:
    """A hypothesis about what the source's numbers mean, relative to what the reader took them for.

    Attributes:
        words: what is different, for people.
        claim: the claim that is wrong if this interpretation is true; None for the capture as read.
        poses: makes the true extrinsics of all frames from those that were read.
        focal: factors of fx and fy.
        camera_scale: all intrinsics are so many times what was read, as for images of another resolution.
        principal_point: added to (cx, cy), in parts of the image's longer side.
        swap_focal: fx and fy change places.
        swap_principal_point: cx and cy change places.
        depth_factor: depth is so many times what was read.
        ray_exponent: depth is what was read times the length of each pixel's ray (x, y, 1) to this power: -1 if
            distance along the ray was read as depth along z, 1 for the reverse.
        depth_camera: by which camera depth was taken.
        scale: what varies in a family of interpretations that differ in size only, such as "fx"; empty for others.
        size: by how much, relative.
    """

    words: str
    claim: Claim | None = None
    poses: PoseChange = _unchanged
    focal: tuple[float, float] = (1.0, 1.0)
    camera_scale: float = 1.0
    principal_point: tuple[float, float] = (0.0, 0.0)
    swap_focal: bool = False
    swap_principal_point: bool = False
    depth_factor: float = 1.0
    ray_exponent: int = 0
    depth_camera: DepthCamera = DepthCamera()
    scale: str = ""
    size: float = 0.0

    def apply_to_intrinsics(self, intrinsics: Tensor, image_size: tuple[int, int]) -> Tensor:
        """The intrinsics ``[3, 3]`` of an image of (H, W) pixels if this interpretation is true."""
        changed = intrinsics.clone()
        if self.swap_focal:
            changed[[0, 1], [0, 1]] = intrinsics[[1, 0], [1, 0]]
        if self.swap_principal_point:
            changed[[0, 1], [2, 2]] = intrinsics[[1, 0], [2, 2]]
        changed[0, 0] *= self.focal[0]
        changed[1, 1] *= self.focal[1]
        changed[:2] *= self.camera_scale
        longer = max(image_size)
        changed[0, 2] += self.principal_point[0] * longer
        changed[1, 2] += self.principal_point[1] * longer
        return changed


AS_READ = Interpretation(words="as read")

_INVERTED = "poses the other way round (world-to-camera read as camera-to-world, or the reverse)"
_OPENGL = "OpenGL camera axes (y up, z backward)"

#: Mistakes in poses and axes, by what they are called in messages. Each undoes itself or is undone by another one.
POSE_MISTAKES: dict[str, tuple[Claim, PoseChange]] = {}


def _mistake(claim: Claim, words: str) -> Callable[[PoseChange], PoseChange]:
    def register(change: PoseChange) -> PoseChange:
        POSE_MISTAKES[words] = (claim, change)
        return change

    return register


def _by_axes(change: Tensor) -> PoseChange:
    return lambda poses: torch.einsum("ij,njk->nik", change.to(poses), poses)


_FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
_mistake(Claim.POSES, _INVERTED)(invert_pose)
_mistake(Claim.AXES, _OPENGL)(_by_axes(_FLIP))
_mistake(Claim.AXES, "poses the other way round, with OpenGL camera axes")(
    lambda poses: _by_axes(_FLIP)(invert_pose(poses))
)
_mistake(Claim.AXES, "poses with OpenGL camera axes, then the other way round")(
    lambda poses: invert_pose(_by_axes(_FLIP)(poses))
)


def _other_axes() -> Iterator[tuple[str, Tensor]]:
    """The ways to name a camera's right-handed axes beside OpenCV's and OpenGL's, as rotations of OpenCV's."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            turn = torch.zeros(3, 3)
            turn[[0, 1, 2], list(order)] = torch.tensor(signs)
            if torch.linalg.det(turn) > 0 and not (turn.equal(torch.eye(3)) or turn.equal(_FLIP)):
                names = ", ".join(
                    f"{'-' if sign < 0 else ''}{'xyz'[axis]}" for axis, sign in zip(order, signs, strict=True)
                )
                yield f"camera axes whose ({names}) point right, down and forward", turn


for _words, _turn in _other_axes():
    _mistake(Claim.AXES, _words)(_by_axes(_turn))


@_mistake(Claim.AXES, "a camera whose y axis points up, without any other axis turned (as ICL-NUIM's)")
def _mirrored(poses: Tensor) -> Tensor:
    mirror = torch.diag(poses.new_tensor([1.0, -1.0, 1.0]))
    return torch.cat([mirror @ poses[..., :3] @ mirror, mirror @ poses[..., 3:]], dim=-1)


@_mistake(Claim.POSES, "rotations transposed, with positions as they are")
def _transposed(poses: Tensor) -> Tensor:
    inverse = invert_pose(poses)
    return invert_pose(torch.cat([inverse[..., :3].mT, inverse[..., 3:]], dim=-1))


@_mistake(Claim.POSES, "translations that are the cameras' positions")
def _translation_is_position(poses: Tensor) -> Tensor:
    return torch.cat([poses[..., :3], -poses[..., :3] @ poses[..., 3:]], dim=-1)


@_mistake(Claim.POSES, "positions that are the translations of world-to-camera")
def _position_is_translation(poses: Tensor) -> Tensor:
    inverse = invert_pose(poses)
    return torch.cat([poses[..., :3], inverse[..., 3:]], dim=-1)


def _rolled(rotation: Tensor, by: int) -> Tensor:
    return quaternion_to_matrix(matrix_to_quaternion(rotation).roll(by, dims=-1))


def _roll_of_camera_to_world(by: int) -> PoseChange:
    def change(poses: Tensor) -> Tensor:
        inverse = invert_pose(poses)
        return invert_pose(torch.cat([_rolled(inverse[..., :3], by), inverse[..., 3:]], dim=-1))

    return change


def _roll_of_world_to_camera(by: int) -> PoseChange:
    return lambda poses: torch.cat([_rolled(poses[..., :3], by), poses[..., 3:]], dim=-1)


# what was read as x, y, z, w was w, x, y, z: rolling back by one; and the reverse
_mistake(Claim.POSES, "quaternions with the scalar first (w x y z)")(_roll_of_camera_to_world(-1))
_mistake(Claim.POSES, "quaternions with the scalar last (x y z w)")(_roll_of_camera_to_world(1))
_mistake(Claim.POSES, "quaternions of world-to-camera with the scalar first (w x y z)")(_roll_of_world_to_camera(-1))
_mistake(Claim.POSES, "quaternions of world-to-camera with the scalar last (x y z w)")(_roll_of_world_to_camera(1))


def pose_interpretations() -> Iterator[Interpretation]:
    """The mistakes in reading poses and axes."""
    for words, (claim, change) in POSE_MISTAKES.items():
        yield Interpretation(words=words, claim=claim, poses=change)


def order_interpretations(frames: int) -> Iterator[Interpretation]:
    """The ways in which images may have got the poses of other images.

    Args:
        frames: how many frames the capture has.
    """
    claim = Claim.IMAGES_BELONG_TO_POSES
    for step in (1, -1, 2, -2):
        count = "one frame" if abs(step) == 1 else "two frames"
        side = "later" if step > 0 else "earlier"
        if frames > (2 if abs(step) == 1 else 12):
            yield Interpretation(words=f"poses of {count} {side}", claim=claim, poses=partial(_shifted, step=step))
        if frames > 3 and not (frames == 4 and step == -2):
            yield Interpretation(
                words=f"poses of {count} {side}, in a ring",
                claim=claim,
                poses=partial(torch.roll, shifts=-step, dims=0),
            )
    if frames > 2:
        yield Interpretation(words="poses in reverse order", claim=claim, poses=lambda poses: poses.flip(0))
    by_text = sorted(range(frames), key=str)
    if by_text != list(range(frames)):
        order = torch.tensor(by_text)
        yield Interpretation(
            words="images sorted as text (1, 10, 2) where poses are sorted by number",
            claim=claim,
            poses=lambda poses: poses[order],
        )
        yield Interpretation(
            words="poses sorted as text (1, 10, 2) where images are sorted by number",
            claim=claim,
            poses=lambda poses: poses[order.argsort()],
        )


def random_orders(frames: int) -> Iterator[Interpretation]:
    """Poses dealt to images at random: what chance would give."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(RANDOM_ORDERS if frames > 2 else 0):
        order = torch.randperm(frames, generator=generator)
        yield Interpretation(
            words=DEALT_AT_RANDOM,
            claim=Claim.IMAGES_BELONG_TO_POSES,
            poses=partial(torch.index_select, dim=0, index=order),
        )


def focal_interpretations(intrinsics: Tensor) -> Iterator[Interpretation]:
    """Mistakes of the focal length.

    Args:
        intrinsics: ``[3, 3]`` of one of the images.
    """
    claim = Claim.FOCAL_LENGTH
    fx, fy = float(intrinsics[0, 0]), float(intrinsics[1, 1])
    if abs(fx / fy - 1) > SAME:
        yield Interpretation(words="fx and fy swapped", claim=claim, swap_focal=True)
    for scale in CAMERA_SCALES:
        yield Interpretation(words=f"a camera of images {times(1 / scale)}", claim=claim, camera_scale=scale)
    for factor in FACTORS:
        for name, focal in (("focal length", (factor, factor)), ("fx", (factor, 1.0)), ("fy", (1.0, factor))):
            yield Interpretation(words=f"{name} {times(factor)}", claim=claim, focal=focal, scale=name, size=factor - 1)


def principal_point_interpretations(intrinsics: Tensor, image_size: tuple[int, int]) -> Iterator[Interpretation]:
    """Mistakes of the principal point.

    Args:
        intrinsics: ``[3, 3]`` of one of the images.
        image_size: its (H, W).
    """
    claim = Claim.PRINCIPAL_POINT
    cx, cy = float(intrinsics[0, 2]), float(intrinsics[1, 2])
    if abs(cx - cy) > SAME * max(image_size):
        yield Interpretation(words="cx and cy swapped", claim=claim, swap_principal_point=True)
    for shift in (*(-s for s in reversed(SHIFTS)), *SHIFTS):
        for name, point in (("cx", (shift, 0.0)), ("cy", (0.0, shift))):
            yield Interpretation(
                words=f"{name} {abs(shift):.1%} of the image's longer side {'larger' if shift > 0 else 'smaller'}",
                claim=claim,
                principal_point=point,
                scale=name,
                size=shift,
            )


def unit_interpretations() -> Iterator[Interpretation]:
    """Mistakes of the unit of depth relative to that of the poses."""
    for factor in (*UNIT_FACTORS, *FACTORS):
        fine = factor in FACTORS
        yield Interpretation(
            words=f"depth {times(factor)}",
            claim=Claim.UNIT,
            depth_factor=factor,
            scale="depth" if fine else "",
            size=factor - 1 if fine else 0.0,
        )


def ray_interpretations() -> Iterator[Interpretation]:
    """Mistakes of the direction along which depth is measured."""
    for exponent, words in (
        (-1, "depth is distance along the ray"),
        (1, "depth is along z, where distance along the ray was assumed"),
    ):
        yield Interpretation(words=words, claim=Claim.DEPTH_ALONG_Z, ray_exponent=exponent)


def registration_interpretations(*, metric: bool) -> Iterator[Interpretation]:
    """Depth that was taken by another camera than the image, and not registered to it.

    Args:
        metric: whether the world's unit is the metre; if not, cameras aside of each other cannot be tried.
    """
    claim = Claim.DEPTH_REGISTERED
    asides = (-ASIDE, 0.0, ASIDE) if metric else (0.0,)
    for ratio in FOCAL_RATIOS:
        for aside in asides:
            parts = [] if ratio == 1 else [f"a focal length {times(ratio)}"]
            parts += [] if aside == 0 else [f"{abs(aside) * 1000:.0f} mm to the {'right' if aside > 0 else 'left'}"]
            if parts:
                yield Interpretation(
                    words=f"depth of another camera ({', '.join(parts)})",
                    claim=claim,
                    depth_camera=DepthCamera(ratio, (aside, 0.0)),
                )
    for shift in (*(-s for s in reversed(DEPTH_SHIFTS)), *DEPTH_SHIFTS):
        for name, way in (("x", (shift, 0.0)), ("y", (0.0, shift))):
            yield Interpretation(
                words=f"depth displaced by {abs(shift):.1%} of the image's longer side along {name}",
                claim=claim,
                depth_camera=DepthCamera(shift=way),
                scale=f"depth along {name}",
                size=shift,
            )


def times(factor: float) -> str:
    """A factor in words: "2 times larger"."""
    size = max(factor, 1 / factor)
    return f"{size:{'.3g' if size < 100 else '.0f'}} times {'larger' if factor > 1 else 'smaller'}"


def _shifted(poses: Tensor, step: int) -> Tensor:
    """Each frame has the pose of the frame ``step`` later; those beyond the ends have none."""
    moved = torch.full_like(poses, math.nan)
    if step > 0:
        moved[:-step] = poses[step:]
    else:
        moved[-step:] = poses[:step]
    return moved
