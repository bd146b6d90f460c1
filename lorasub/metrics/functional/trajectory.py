"""Errors of a camera trajectory after alignment: ATE and RPE, as the tool ``evo`` defines them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.geometry import (
    Similarity,
    camera_centers,
    compose_poses,
    full_precision,
    invert_pose,
    relative_pose,
    rotation_angle,
    umeyama,
)

TrajectoryAlignment = Literal["similarity", "rigid", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryErrors:
    """Errors of one trajectory, root mean squares.

    Attributes:
        ate: ``[]`` distance of camera centres, in the truth's unit.
        rpe_translation: ``[]`` length of the error of the motion from each view to the next, in the truth's unit.
        rpe_rotation: ``[]`` its angle in degrees.
    """

    ate: Tensor
    rpe_translation: Tensor
    rpe_rotation: Tensor


@full_precision
def align_trajectory(prediction: Tensor, target: Tensor, alignment: TrajectoryAlignment = "similarity") -> Tensor:
    """Move predicted cameras into the world of the true ones by Umeyama's alignment of their centres.

    Args:
        prediction: ``[S, 3, 4]`` camera-from-world.
        target: ``[S, 3, 4]`` camera-from-world.
        alignment: ``similarity``, ``rigid`` (scale fixed to 1: metric predictions) or ``none``.

    Returns:
        ``[S, 3, 4]`` camera-from-world in the target's world and unit.

    Raises:
        NumericalError: the centres do not determine the alignment: fewer than 3, on a line, or in one spot.
        ConfigError: an unknown alignment.
    """
    if alignment not in get_args(TrajectoryAlignment):
        raise ConfigError(
            f"unknown trajectory alignment {alignment!r}; choose from {', '.join(get_args(TrajectoryAlignment))}"
        )
    if alignment == "none":
        return prediction
    centers = camera_centers(prediction)
    motion = umeyama(centers, camera_centers(target), with_scale=alignment == "similarity")
    return move_cameras(prediction, motion)


def move_cameras(cam_from_world: Tensor, motion: Similarity) -> Tensor:
    """Cameras ``[S, 3, 4]`` after a similarity of the world: centres are moved, rotations turned."""
    world_from_cam = invert_pose(cam_from_world)
    rotation = motion.rotation.to(cam_from_world.dtype) @ world_from_cam[..., :3]
    centers = motion.apply(world_from_cam[..., 3])
    return invert_pose(torch.cat([rotation, centers[..., None]], dim=-1))


@full_precision
def trajectory_errors(
    prediction: Tensor, target: Tensor, alignment: TrajectoryAlignment = "similarity"
) -> TrajectoryErrors:
    """ATE and RPE of one trajectory.

    The absolute error is the root mean squared distance of camera centres. The relative one compares the motions
    E_i = (Q_i^-1 Q_{i+1})^-1 (P_i^-1 P_{i+1}) of successive views, with world-from-camera poses Q (true) and P. This is
    evo's APE of the translation part and its RPE with a delta of one frame and all pairs, and so what CUT3R, MonST3R
    and recons_eval report.

    Args:
        prediction: ``[S, 3, 4]`` camera-from-world, in any world.
        target: ``[S, 3, 4]`` camera-from-world, in order.
        alignment: see :func:`align_trajectory`.

    Returns:
        The errors; with a single view (which needs alignment ``none``) RPE is NaN.

    Raises:
        NumericalError: as :func:`align_trajectory`.
    """
    aligned = align_trajectory(prediction, target, alignment)
    distances = torch.linalg.vector_norm(camera_centers(aligned) - camera_centers(target), dim=-1)
    # relative_pose(b, a) takes coordinates in b to coordinates in a: Q_a^-1 Q_b of world-from-camera poses Q
    true = relative_pose(target[1:], target[:-1])
    found = relative_pose(aligned[1:], aligned[:-1])
    error = compose_poses(invert_pose(true), found)
    angles = torch.rad2deg(rotation_angle(true[..., :3], found[..., :3]))
    return TrajectoryErrors(
        ate=_root_mean_square(distances),
        rpe_translation=_root_mean_square(torch.linalg.vector_norm(error[..., 3], dim=-1)),
        rpe_rotation=_root_mean_square(angles),
    )


def _root_mean_square(values: Tensor) -> Tensor:
    return values.square().mean().sqrt()
