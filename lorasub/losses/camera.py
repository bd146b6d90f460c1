"""VGGT's camera loss: L1 on the pose encoding, over all refinement iterations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.geometry import full_precision
from lorasub.losses.reduction import masked_mean

#: A translation error counts at most this much, in units of the scene's mean distance (as in VGGT): a scene whose unit
#: came out wrong, from a few pixels of bad depth, must not drown the batch.
_MAX_TRANSLATION_ERROR = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraLoss:
    """The camera loss of each scene, all ``[B]``.

    Attributes:
        total: the weighted sum of the parts, what is to be minimised.
        translation: mean absolute error of the translation's components, over iterations.
        rotation: mean absolute error of the quaternion's components, over iterations.
        focal: mean absolute error of the two fields of view in radians, over iterations.
    """

    total: Tensor
    translation: Tensor
    rotation: Tensor
    focal: Tensor


@full_precision
def camera_loss(
    pose_encodings: Sequence[Tensor],
    target: Tensor,
    pose_valid: Tensor,
    scale_known: Tensor,
    *,
    gamma: float = 0.6,
    translation_weight: float = 1.0,
    rotation_weight: float = 1.0,
    focal_weight: float = 0.5,
) -> CameraLoss:
    """L1 distance of predicted pose encodings to the true one, later iterations counting more.

    As the released VGGT: iteration i of n has the weight gamma^(n - 1 - i), the weighted errors are summed and divided
    by n. Two things differ. Means are taken per scene instead of over the batch (see :mod:`lorasub.losses`). And a
    quaternion is compared with whichever sign of the target is closer, because both are the same rotation.

    Args:
        pose_encodings: one ``[B, S, 9]`` per iteration, the last is the answer.
        target: ``[B, S, 9]`` as :func:`lorasub.geometry.encode_pose` writes it, of a normalised scene.
        pose_valid: ``[B, S]`` bool. Other views are not read at all.
        scale_known: ``[B]`` bool. Where false (a scene without depth, whose unit is arbitrary) the translation term is
            0.
        gamma: discount of earlier iterations.
        translation_weight: weight of the translation term in ``total``.
        rotation_weight: weight of the rotation term in ``total``.
        focal_weight: weight of the field-of-view term in ``total``.

    Returns:
        Total and parts, ``[B]`` each, 0 for scenes without any valid pose.
    """
    iterations = len(pose_encodings)
    target = torch.where(pose_valid[..., None], target, 0.0)
    parts = [torch.zeros_like(target[:, 0, 0]) for _ in range(3)]
    for index, encoding in enumerate(pose_encodings):
        weight = gamma ** (iterations - 1 - index) / iterations
        errors = _encoding_errors(torch.where(pose_valid[..., None], encoding, 0.0), target)
        parts = [part + weight * masked_mean(error, pose_valid) for part, error in zip(parts, errors, strict=True)]
    translation, rotation, focal = parts
    translation = torch.where(scale_known, translation, 0.0)
    return CameraLoss(
        total=translation_weight * translation + rotation_weight * rotation + focal_weight * focal,
        translation=translation,
        rotation=rotation,
        focal=focal,
    )


def _encoding_errors(encoding: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Translation, rotation and field-of-view error of each view, ``[B, S]``."""
    difference = (encoding - target).abs()
    opposite = (encoding[..., 3:7] + target[..., 3:7]).abs().mean(-1)
    return (
        difference[..., :3].clamp(max=_MAX_TRANSLATION_ERROR).mean(-1),
        torch.minimum(difference[..., 3:7].mean(-1), opposite),
        difference[..., 7:].mean(-1),
    )
