"""Camera pose accuracy as torchmetrics classes: angles of pairs, and errors of whole trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from lorasub.errors import ConfigError, NumericalError
from lorasub.geometry import decode_pose
from lorasub.metrics.base import SceneMetric
from lorasub.metrics.functional.pose import pose_auc, pose_auc_vggt_np, pose_auc_vggt_torch, relative_pose_errors
from lorasub.metrics.functional.trajectory import TrajectoryAlignment, trajectory_errors
from lorasub.structures import Predictions, SceneBatch


class PoseAccuracy(SceneMetric):
    """Angular accuracy of relative poses over all pairs of views of a scene; every pair counts the same.

    Args:
        thresholds: degrees at which the share of accurate pairs is reported.
        auc_thresholds: whole degrees up to which areas under the accuracy curve are taken.

    Results, with the default thresholds: ``rotation_deg`` and ``translation_deg`` (mean angles); ``rra@5``, ``rta@5``
    and so on (share of pairs whose rotation, or translation, is off by less); ``auc@30`` (exact), and the two binned
    variants that published tables hold, ``auc@30_vggt_np`` and ``auc@30_vggt_torch``. Compare like with like. Pairs of
    views that were taken from one spot count for the rotation only.
    """

    def __init__(self, thresholds: Sequence[int] = (5, 15, 30), auc_thresholds: Sequence[int] = (30,)) -> None:
        if any(threshold < 1 for threshold in auc_thresholds) or any(threshold <= 0 for threshold in thresholds):
            raise ConfigError(
                f"PoseAccuracy thresholds must be positive, not {list(thresholds)} and {list(auc_thresholds)}"
            )
        self.thresholds = tuple(thresholds)
        self.auc_thresholds = tuple(auc_thresholds)
        shares = tuple(f"{kind}@{threshold}" for threshold in self.thresholds for kind in ("rra", "rta"))
        kinds = ("", "_vggt_np", "_vggt_torch")
        areas = tuple(f"auc@{threshold}{kind}" for threshold in self.auc_thresholds for kind in kinds)
        super().__init__(
            ("rotation_deg", "translation_deg", *shares, *areas),
            protocol=f"relative poses, all pairs, at {self.thresholds} and auc {self.auc_thresholds}",
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
        rotations = {"rotation_deg": errors.rotation}
        directions = {"translation_deg": errors.translation}
        for threshold in self.thresholds:
            rotations[f"rra@{threshold}"] = errors.rotation < threshold
            directions[f"rta@{threshold}"] = errors.translation < threshold
        for threshold in self.auc_thresholds:
            directions[f"auc@{threshold}"] = pose_auc(errors.worst, threshold)
            directions[f"auc@{threshold}_vggt_np"] = pose_auc_vggt_np(errors.worst, threshold)
            directions[f"auc@{threshold}_vggt_torch"] = pose_auc_vggt_torch(errors.worst, threshold)
        for scene, (valid, baseline) in enumerate(zip(errors.valid, errors.baseline, strict=True)):
            if not valid.any():
                self.note(scene, "fewer than two views have a true pose")
            elif still := int((valid & ~baseline).sum()):
                self.note(scene, f"{still} of {int(valid.sum())} pairs of views have no baseline, so no direction")
        self.add(rotations, errors.valid)
        self.add(directions, errors.baseline)


class TrajectoryError(SceneMetric):
    """ATE and RPE of the camera path of each scene, as evo, CUT3R and MonST3R; every scene counts the same.

    A scene whose cameras do not determine the alignment (fewer than three, on a line, in one spot) is left out of ATE
    and of RPE's translation, with a note. Its rotations need no alignment and count all the same.

    Args:
        alignment: ``similarity``; ``rigid`` for metric predictions; ``none``.

    Results: ``ate`` and ``rpe_trans`` in the source's unit, ``rpe_rot`` in degrees.
    """

    def __init__(self, alignment: TrajectoryAlignment = "similarity") -> None:
        if alignment not in get_args(TrajectoryAlignment):
            raise ConfigError(
                f"TrajectoryError alignment {alignment!r} is unknown; "
                f"choose from {', '.join(get_args(TrajectoryAlignment))}"
            )
        super().__init__(
            ("ate", "rpe_trans", "rpe_rot"), protocol=f"trajectory, alignment {alignment}, RPE over 1 frame, rmse"
        )
        self.alignment = alignment

    def update(self, predictions: Predictions, batch: SceneBatch) -> None:
        """Measure one batch; without predicted cameras nothing happens.

        Args:
            predictions: the last pose encoding is read; in the batch's unit if ``alignment`` keeps the scale.
            batch: ``cam_from_world``, ``pose_valid`` and ``scale`` are read; views in the order of the path.
        """
        encoding = predictions.pose_encoding
        if encoding is None:
            return
        predicted, _ = decode_pose(encoding, batch.image_size)
        errors = batch.scale.new_full((3, len(batch)), torch.nan)
        for scene, used in enumerate(batch.pose_valid):
            if used.sum() < 2:
                self.note(scene, "fewer than two views have a true pose")
                continue
            scale = batch.scale[scene]
            path = _scaled(predicted[scene, used], scale), _scaled(batch.cam_from_world[scene, used], scale)
            errors[2, scene] = trajectory_errors(*path, "none").rpe_rotation
            try:
                found = trajectory_errors(*path, self.alignment)
            except NumericalError as error:
                self.note(scene, str(error))
            else:
                errors[0, scene], errors[1, scene] = found.ate, found.rpe_translation
        for name, values in zip(self.names, errors, strict=True):
            self.add({name: values}, ~values.isnan())


def _scaled(cam_from_world: Tensor, scale: Tensor) -> Tensor:
    """The same cameras in a world of another unit."""
    return torch.cat([cam_from_world[..., :3], cam_from_world[..., 3:] * scale], dim=-1)
