"""Angular errors of relative poses over all pairs of views, and the area under their accuracy curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.geometry import full_precision, relative_pose, rotation_angle

#: True baselines of fewer than so many units in the last place of the largest translation are rounding, not motion.
_ROUNDING = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PairErrors:
    """Errors of the relative poses of all P = S (S - 1) / 2 pairs of views i < j.

    Attributes:
        rotation: ``[..., P]`` degrees in [0, 180].
        translation: ``[..., P]`` degrees in [0, 90], the angle between the directions of translation up to sign.
        valid: ``[..., P]`` bool, both views have a true pose.
        baseline: ``[..., P]`` bool, and their true centres differ, so that there is a direction to compare with.
    """

    rotation: Tensor
    translation: Tensor
    valid: Tensor
    baseline: Tensor

    @property
    def worst(self) -> Tensor:
        """``[..., P]``, the larger of the two angles, which AUC is about."""
        return torch.maximum(self.rotation, self.translation)


@full_precision
def relative_pose_errors(prediction: Tensor, target: Tensor, pose_valid: Tensor) -> PairErrors:
    """Compare the relative poses of all pairs of views, which needs neither a common frame nor a common scale.

    The protocol of VGGT's evaluation on CO3D: the rotation's geodesic angle, and the angle th between the translations'
    directions as min(th, 180 - th). As there, a predicted translation of length 0 has no direction and counts 90
    degrees. Where the true one has none, there is nothing to compare with: ``baseline`` says so (VGGT counts 90 degrees
    there too, which no prediction could help).

    Args:
        prediction: ``[..., S, 3, 4]`` camera-from-world, in any world frame and scale.
        target: ``[..., S, 3, 4]`` camera-from-world.
        pose_valid: ``[..., S]`` bool.

    Returns:
        One entry per pair.
    """
    first, second = torch.triu_indices(target.shape[-3], target.shape[-3], offset=1, device=target.device)
    predicted = relative_pose(prediction[..., first, :, :], prediction[..., second, :, :])
    true = relative_pose(target[..., first, :, :], target[..., second, :, :])
    valid = pose_valid[..., first] & pose_valid[..., second]
    lengths = torch.where(valid, torch.linalg.vector_norm(true[..., 3], dim=-1), 0.0)
    # the size of the world in which the poses were rounded
    size = torch.linalg.vector_norm(target[..., 3], dim=-1).amax(-1, keepdim=True)
    return PairErrors(
        rotation=torch.rad2deg(rotation_angle(predicted[..., :3], true[..., :3])),
        translation=torch.rad2deg(_axis_angle(predicted[..., 3], true[..., 3])),
        valid=valid,
        baseline=valid & (lengths > _ROUNDING * torch.finfo(lengths.dtype).eps * size),
    )


def _axis_angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle between two vectors up to sign, in [0, pi / 2], with full accuracy near 0."""
    a, b = torch.nn.functional.normalize(a, dim=-1), torch.nn.functional.normalize(b, dim=-1)
    cross = torch.linalg.vector_norm(torch.linalg.cross(a, b), dim=-1)
    cosine = (a * b).sum(-1).abs()
    return torch.where((cross == 0) & (cosine == 0), math.pi / 2, torch.atan2(cross, cosine))


def pose_auc(errors: Tensor, threshold: float) -> Tensor:
    """Each pair's share of the exact area under the accuracy curve.

    The area under "share of pairs with an error below x", for x from 0 to the threshold, divided by the threshold, is
    the mean over pairs of max(0, 1 - error / threshold): no histogram is needed.

    Args:
        errors: ``[...]`` degrees, usually :attr:`PairErrors.worst`.
        threshold: degrees.

    Returns:
        ``[...]`` in [0, 1]; the mean over pairs is the AUC.
    """
    return (1 - errors / threshold).clamp(min=0)


def pose_auc_vggt_np(errors: Tensor, threshold: int) -> Tensor:
    """Each pair's share of VGGT's AUC by numpy: ``threshold`` bins of one degree, mean of the cumulated histogram.

    Counts a whole bin for an error anywhere in it, so it lies above the exact area, by half a bin on average.

    Args:
        errors: ``[...]`` degrees.
        threshold: whole degrees.

    Returns:
        ``[...]`` in [0, 1]; the mean over pairs is the AUC.
    """
    # numpy's last bin is closed: an error of exactly the threshold is counted there.
    bins = errors.floor().clamp(max=threshold - 1)
    return torch.where(errors <= threshold, (threshold - bins) / threshold, 0.0)


def pose_auc_vggt_torch(errors: Tensor, threshold: int) -> Tensor:
    """Each pair's share of VGGT's AUC by torch: ``threshold`` + 1 bins between 0 and ``threshold`` degrees.

    Args:
        errors: ``[...]`` degrees.
        threshold: whole degrees.

    Returns:
        ``[...]`` in [0, 1]; the mean over pairs is the AUC.
    """
    count = threshold + 1
    bins = (errors * (count / threshold)).floor().clamp(max=threshold)
    return torch.where(errors <= threshold, (count - bins) / count, 0.0)
