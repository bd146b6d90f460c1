"""The frame and the unit in which scenes are learnt: the first camera's frame, and VGGT's unit of length."""

from __future__ import annotations

import torch
from torch import Tensor

from lorasub.geometry.poses import relative_pose, transform_points
from lorasub.geometry.projection import unproject_depth
from lorasub.structures import SceneBatch


def normalize_scene(batch: SceneBatch) -> SceneBatch:
    """Express every scene in its first camera's frame and in units of its mean distance to that camera.

    VGGT's rule (Wang et al. 2025, section 3.4): the world becomes the first camera's frame, and depths, points and
    translations are divided by the mean distance of the valid world points to the first camera. ``scale`` is multiplied
    by that factor, so ``depth * scale`` is back in the source's unit. Each scene is treated by itself.

    What is missing:

    - no depth anywhere: the unit cannot be known, the factor stays 1;
    - a view without pose: its depth is scaled like the rest, but does not count in the mean;
    - no pose of the first view: its frame cannot be reached, so ``pose_valid`` becomes false for the whole scene (put a
      view with a pose first). Such a scene is scaled by the mean distance of its points to the cameras that saw them,
      and so is one where no view has both pose and depth.

    Depth that is not finite or not positive, and poses that are not finite, become invalid; everything invalid is set
    to its neutral value (0, or the identity pose), so the result holds no NaN. Normalising twice changes nothing;
    moving or scaling the world beforehand changes nothing but ``scale``.

    Args:
        batch: in any world frame and unit.

    Returns:
        The normalised batch; images and intrinsics are the same tensors.

    Example:
        >>> cameras = {"intrinsics": torch.eye(3), "cam_from_world": torch.eye(4)[None]}
        >>> far = SceneBatch.from_views(torch.rand(1, 3, 28, 28), depth=torch.full((1, 28, 28), 40.0), **cameras)
        >>> near = normalize_scene(far)
        >>> bool(near.depth.max() < 1), torch.allclose(near.depth * near.scale, far.depth)
        (True, True)
    """
    batch = _without_unusable_values(batch)
    first = batch.cam_from_world[:, 0]
    points_valid = batch.points_valid[..., None]
    world_points = torch.where(points_valid, transform_points(first, batch.world_points), 0.0)
    cam_from_world = torch.where(
        batch.pose_valid[..., None, None], relative_pose(first[:, None], batch.cam_from_world), _identity(batch)
    )
    # The first pose is the identity by definition; the product is that only up to rounding.
    cam_from_world = torch.cat([_identity(batch).expand_as(cam_from_world[:, :1]), cam_from_world[:, 1:]], dim=1)

    factor = _mean_distance(batch, world_points)
    unit = factor[:, None, None, None]
    return batch.replace(
        cam_from_world=torch.cat([cam_from_world[..., :3], cam_from_world[..., 3:] / unit], dim=-1),
        depth=batch.depth / unit,
        world_points=world_points / unit[..., None],
        scale=batch.scale * factor,
    )


def _identity(batch: SceneBatch) -> Tensor:
    return torch.eye(3, 4, dtype=batch.cam_from_world.dtype, device=batch.cam_from_world.device)


def _without_unusable_values(batch: SceneBatch) -> SceneBatch:
    """Turn values that cannot be right into missing ones, and missing ones into neutral ones."""
    pose_valid = batch.pose_valid & batch.cam_from_world.isfinite().flatten(2).all(-1)
    pose_valid = pose_valid & pose_valid[:, :1]
    posed = pose_valid[..., None, None]
    points_finite = batch.world_points.isfinite().all(-1)
    valid = batch.valid & batch.depth.isfinite() & (batch.depth > 0) & (points_finite | ~posed)
    return batch.replace(
        pose_valid=pose_valid,
        valid=valid,
        cam_from_world=torch.where(posed, batch.cam_from_world, _identity(batch)),
        depth=torch.where(valid, batch.depth, 0.0),
        world_points=torch.where((valid & posed)[..., None], batch.world_points, 0.0),
    )


def _mean_distance(batch: SceneBatch, points_in_first: Tensor) -> Tensor:
    """``[B]``, by what each scene has: points with poses, else points in their own cameras' frames, else 1."""
    from_first = _masked_mean(torch.linalg.vector_norm(points_in_first, dim=-1), batch.points_valid)
    own_points = unproject_depth(batch.depth, batch.intrinsics)
    from_own = _masked_mean(torch.linalg.vector_norm(own_points, dim=-1), batch.valid)
    mean = torch.where(batch.points_valid.flatten(1).any(1), from_first, from_own)
    return torch.where(mean > 0, mean, 1.0)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    total = torch.where(mask, values, 0.0).flatten(1).sum(1)
    return total / mask.flatten(1).sum(1).clamp(min=1)
