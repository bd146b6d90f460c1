"""Camera pose accuracy as a torchmetrics class."""

from __future__ import annotations

from collections.abc import Sequence

from lorasub.errors import ConfigError
from lorasub.geometry import decode_pose
from lorasub.metrics.base import SceneMetric
from lorasub.metrics.functional.pose import pose_auc, pose_auc_vggt_np, pose_auc_vggt_torch, relative_pose_errors
from lorasub.structures import Predictions, SceneBatch


class PoseAccuracy(SceneMetric):
    """Angular accuracy of relative poses over all pairs of views of a scene; every pair counts the same.

    Args:
        thresholds: degrees at which the share of accurate pairs is reported.
        auc_threshold: whole degrees up to which the area under the accuracy curve is taken.

    Results, with the default thresholds: ``rotation_deg`` and ``translation_deg`` (mean angles); ``rra@5``, ``rta@5``
    and so on (share of pairs whose rotation, or translation, is off by less); ``auc@30`` (exact), and the two binned
    variants that published tables hold, ``auc@30_vggt_np`` and ``auc@30_vggt_torch``. Compare like with like.
    """

    def __init__(self, thresholds: Sequence[int] = (5, 15, 30), auc_threshold: int = 30) -> None:
        if auc_threshold < 1 or any(threshold <= 0 for threshold in thresholds):
            raise ConfigError(f"PoseAccuracy thresholds must be positive, not {list(thresholds)} and {auc_threshold}")
        self.thresholds = tuple(thresholds)
        self.auc_threshold = auc_threshold
        shares = tuple(f"{kind}@{threshold}" for threshold in self.thresholds for kind in ("rra", "rta"))
        area = f"auc@{auc_threshold}"
        super().__init__(
            ("rotation_deg", "translation_deg", *shares, area, f"{area}_vggt_np", f"{area}_vggt_torch"),
            protocol=f"relative poses, all pairs, at {self.thresholds} and auc {auc_threshold}",
        )

    def update(self, predictions: Predictions, batch: SceneBatch) -> None:
        """Measure one batch; without predicted cameras, or with a single view, nothing happens.

        Args:
            predictions: the last pose encoding is read.
            batch: ``cam_from_world`` and ``pose_valid`` are read.
        """
        encoding = predictions.pose_encoding
        if encoding is None:
            return
        cam_from_world, _ = decode_pose(encoding, batch.image_size)
        errors = relative_pose_errors(cam_from_world, batch.cam_from_world, batch.pose_valid)
        values = {"rotation_deg": errors.rotation, "translation_deg": errors.translation}
        for threshold in self.thresholds:
            values[f"rra@{threshold}"] = errors.rotation < threshold
            values[f"rta@{threshold}"] = errors.translation < threshold
        area = f"auc@{self.auc_threshold}"
        values[area] = pose_auc(errors.worst, self.auc_threshold)
        values[f"{area}_vggt_np"] = pose_auc_vggt_np(errors.worst, self.auc_threshold)
        values[f"{area}_vggt_torch"] = pose_auc_vggt_torch(errors.worst, self.auc_threshold)
        self.add(values, errors.valid)
