"""The objective that VGGT is trained with, put together from its parts."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lorasub.errors import ConfigError
from lorasub.geometry import encode_pose
from lorasub.losses.camera import camera_loss
from lorasub.losses.regression import gradient_loss, regression_loss
from lorasub.structures import Predictions, SceneBatch


@dataclass(frozen=True, slots=True)
class LossTerms:
    """A loss and what it is made of, scene by scene.

    Attributes:
        total: ``[B]``, to be minimised; its mean over scenes is the batch's loss.
        parts: name -> ``[B]``, for the log. Not weighted, and not detached.

    Example:
        >>> terms = LossTerms(torch.tensor([1.5, 0.5]), {"depth": torch.tensor([1.5, 0.5])})
        >>> terms.total.mean()
        tensor(1.)
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class VGGTLoss(nn.Module):
    """VGGT's multi-task loss for cameras, depth and point maps, per scene.

    The terms are those of the released training code: camera (L1 on pose encodings over all iterations), and for depth
    and points the sum of the confidence-weighted error, the plain error and the multi-scale gradient term. A head that
    the backbone lacks is skipped, and so is a term of weight 0. A scene without depth contributes 0 to the dense terms
    and to the translation, a view without pose 0 to the camera term.

    Args:
        camera_weight: weight of the camera term.
        depth_weight: weight of the depth term.
        points_weight: weight of the point-map term.
        gamma: weight of the confident error in the dense terms.
        alpha: reward for confidence in the dense terms.
        quantile: errors above this quantile of their scene are dropped as outliers.

    Parts by name: ``camera``, ``camera_translation``, ``camera_rotation``, ``camera_focal``; ``depth_confidence``,
    ``depth_error``, ``depth_gradient``; ``points_confidence``, ``points_error``, ``points_gradient``. The ``_error``
    parts are the ones that tell whether training helps; the objective itself goes negative as confidence grows.

    Example:
        >>> loss = VGGTLoss(points_weight=0.0)  # cameras and depth
        >>> batch = SceneBatch.from_views(torch.rand(2, 3, 28, 28), depth=torch.ones(2, 28, 28))
        >>> terms = loss(Predictions(depth=batch.depth + 0.5, depth_conf=torch.ones_like(batch.depth)), batch)
        >>> round(terms.parts["depth_error"].item(), 4)
        0.5
    """

    def __init__(
        self,
        camera_weight: float = 5.0,
        depth_weight: float = 1.0,
        points_weight: float = 1.0,
        gamma: float = 1.0,
        alpha: float = 0.2,
        quantile: float = 0.98,
    ) -> None:
        super().__init__()
        for name, weight in (("camera", camera_weight), ("depth", depth_weight), ("points", points_weight)):
            if not weight >= 0:
                raise ConfigError(
                    f"VGGTLoss {name}_weight is {weight}; it must not be negative (0 leaves the term out)"
                )
        if not 0 < quantile <= 1:
            raise ConfigError(f"VGGTLoss quantile is {quantile}; it must be in (0, 1] (1 keeps all pixels)")
        self.camera_weight = camera_weight
        self.depth_weight = depth_weight
        self.points_weight = points_weight
        self.gamma = gamma
        self.alpha = alpha
        self.quantile = quantile

    def forward(self, predictions: Predictions, batch: SceneBatch) -> LossTerms:
        """Compare predictions with a normalised batch.

        Args:
            predictions: of the backbone, in the first camera's frame.
            batch: the same scenes, as :func:`lorasub.geometry.normalize_scene` returns them.

        Returns:
            Total and parts, in float32 or better whatever the autocast.

        Raises:
            ConfigError: no head of the predictions has a weight above 0.
        """
        terms: list[LossTerms] = []
        if predictions.pose_encodings and self.camera_weight > 0:
            terms.append(self._camera(predictions.pose_encodings, batch))
        if predictions.depth is not None and self.depth_weight > 0:
            terms.append(
                self._dense(
                    "depth",
                    self.depth_weight,
                    predictions.depth[..., None],
                    batch.depth[..., None],
                    batch.valid,
                    predictions.depth_conf,
                )
            )
        if predictions.world_points is not None and self.points_weight > 0:
            terms.append(
                self._dense(
                    "points",
                    self.points_weight,
                    predictions.world_points,
                    batch.world_points,
                    batch.points_valid,
                    predictions.world_points_conf,
                )
            )
        if not terms:
            raise ConfigError(
                "VGGTLoss has nothing to minimise: the backbone predicts none of cameras, depth and points with a "
                f"weight above 0 (camera_weight={self.camera_weight}, depth_weight={self.depth_weight}, "
                f"points_weight={self.points_weight})"
            )
        total = torch.stack([term.total for term in terms]).sum(0)
        return LossTerms(total, {name: part for term in terms for name, part in term.parts.items()})

    def _camera(self, pose_encodings: tuple[Tensor, ...], batch: SceneBatch) -> LossTerms:
        target = encode_pose(batch.cam_from_world, batch.intrinsics, batch.image_size)
        loss = camera_loss(pose_encodings, target, batch.pose_valid, batch.points_valid.flatten(1).any(1))
        parts = {
            "camera": loss.total,
            "camera_translation": loss.translation,
            "camera_rotation": loss.rotation,
            "camera_focal": loss.focal,
        }
        return LossTerms(self.camera_weight * loss.total, parts)

    def _dense(
        self, name: str, weight: float, prediction: Tensor, target: Tensor, valid: Tensor, confidence: Tensor | None
    ) -> LossTerms:
        if confidence is None:
            confidence = torch.ones_like(prediction[..., 0])
        loss = regression_loss(
            prediction, target, valid, confidence, gamma=self.gamma, alpha=self.alpha, quantile=self.quantile
        )
        gradient = gradient_loss(prediction, target, valid)
        parts = {f"{name}_confidence": loss.confidence, f"{name}_error": loss.error, f"{name}_gradient": gradient}
        return LossTerms(weight * (loss.confidence + loss.error + gradient), parts)
