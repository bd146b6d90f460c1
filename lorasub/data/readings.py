"""Ways in which a capture can be misread, and what each would mean: the hypotheses of ``lorasub data check``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.geometry import invert_pose, matrix_to_quaternion, quaternion_to_matrix


@dataclass(frozen=True, slots=True)
class Reading:
    """A hypothesis about what the source's numbers mean, relative to what the reader took them for.

    Attributes:
        poses: a key of :data:`POSE_READINGS`.
        depth_factor: depth is so many times what was read.
        focal_factor: focal lengths are so many times what was read.
    """

    poses: str = "as read"
    depth_factor: float = 1.0
    focal_factor: float = 1.0

    def words(self) -> str:
        """What is different from what the reader took, for people."""
        parts = [] if self.poses == "as read" else [self.poses]
        if self.depth_factor != 1:
            parts.append(f"depth {_times(self.depth_factor)}")
        if self.focal_factor != 1:
            parts.append(f"focal length {_times(self.focal_factor)}")
        return ", ".join(parts) or "as read"

    def apply_to_pose(self, cam_from_world: Tensor) -> Tensor:
        """The extrinsics ``[..., 3, 4]`` if this reading is true."""
        return POSE_READINGS[self.poses](cam_from_world)

    def apply_to_intrinsics(self, intrinsics: Tensor) -> Tensor:
        """The intrinsics ``[..., 3, 3]`` if this reading is true."""
        scale = intrinsics.new_tensor([self.focal_factor, self.focal_factor, 1.0])
        return intrinsics * torch.where(torch.eye(3, dtype=torch.bool), scale, 1.0)


def _flip(cam_from_world: Tensor) -> Tensor:
    return cam_from_world * cam_from_world.new_tensor([[1.0], [-1.0], [-1.0]])


def _scalar_first(cam_from_world: Tensor) -> Tensor:
    world_from_cam = invert_pose(cam_from_world)
    # what was read as x, y, z, w was w, x, y, z
    quaternion = matrix_to_quaternion(world_from_cam[..., :3]).roll(-1, dims=-1)
    return invert_pose(torch.cat([quaternion_to_matrix(quaternion), world_from_cam[..., 3:]], dim=-1))


#: What poses may be, by what it is called in messages; "as read" comes first and wins ties.
POSE_READINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "as read": lambda pose: pose,
    "poses the other way round (world-to-camera read as camera-to-world, or the reverse)": invert_pose,
    "OpenGL camera axes (y up, z backward)": _flip,
    "poses the other way round, with OpenGL camera axes": lambda pose: _flip(invert_pose(pose)),
    "quaternions with the scalar first (w x y z)": _scalar_first,
}
#: Mistakes of the depth unit that occur: millimetres for metres, 5000 for 1000 steps a metre, and so on.
DEPTH_FACTORS = (1.0, 1000.0, 100.0, 10.0, 5.0, 0.2, 0.1, 0.01, 0.001)
#: Fine factors around 1, in steps of about 5 %.
FINE_FACTORS = tuple(round(math.exp(0.05 * step), 3) for step in range(-6, 7))


def coarse_readings() -> Iterator[Reading]:
    """Every way of reading poses with every depth unit."""
    for poses in POSE_READINGS:
        for factor in DEPTH_FACTORS:
            yield Reading(poses, factor)


def _times(factor: float) -> str:
    return f"{factor:g} times larger" if factor > 1 else f"{1 / factor:.3g} times smaller"
