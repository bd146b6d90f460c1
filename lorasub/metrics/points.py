"""Point-map accuracy as a torchmetrics class."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.geometry import decode_pose, world_points_from_depth
from lorasub.metrics.base import SceneMetric
from lorasub.metrics.functional.points import point_map_error
from lorasub.structures import Predictions, SceneBatch


class PointMapError(SceneMetric):
    """Mean distance of corresponding points after a Sim(3) alignment of each scene; every scene counts the same.

    Args:
        source: ``depth`` unprojects predicted depth with predicted cameras, which VGGT's authors recommend and
            published tables use; ``points`` takes the point head.

    Results: ``point_error`` in the source's unit.
    """

    def __init__(self, source: Literal["depth", "points"] = "depth") -> None:
        if source not in ("depth", "points"):
            raise ConfigError(f"PointMapError source {source!r} is unknown; choose depth or points")
        super().__init__(("point_error",), protocol=f"point map from {source}, Umeyama per scene")
        self.source = source

    def update(self, predictions: Predictions, batch: SceneBatch) -> None:
        """Measure one batch; without the predictions that ``source`` needs, nothing happens.

        Args:
            predictions: depth and pose encoding, or world points.
            batch: ``world_points``, ``points_valid`` and ``scale`` are read.
        """
        points = self._points(predictions, batch)
        if points is None:
            return
        target = batch.world_points * batch.scale[:, None, None, None, None]
        per_scene = zip(points, target, batch.points_valid, strict=True)
        errors = torch.stack([point_map_error(*scene) for scene in per_scene])
        self.add({"point_error": errors}, ~errors.isnan())

    def _points(self, predictions: Predictions, batch: SceneBatch) -> Tensor | None:
        if self.source == "points":
            return predictions.world_points
        if predictions.depth is None or predictions.pose_encoding is None:
            return None
        cam_from_world, intrinsics = decode_pose(predictions.pose_encoding, batch.image_size)
        return world_points_from_depth(predictions.depth, intrinsics, cam_from_world)
