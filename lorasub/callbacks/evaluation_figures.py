"""Pictures of what a test measured: numbers alone hide why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lorasub.callbacks.run_folder import run_folder
from lorasub.errors import ConfigError, NumericalError
from lorasub.figures.calibration import CalibrationCurves, calibration_figure
from lorasub.figures.panels import depth_panels
from lorasub.figures.point_clouds import CloudView, point_cloud_panels
from lorasub.figures.style import save_figure
from lorasub.figures.trajectories import trajectory_figure
from lorasub.geometry import decode_pose, umeyama
from lorasub.metrics.calibration import relative_errors
from lorasub.metrics.functional import align_trajectory, error_by_confidence, move_cameras, sparsification
from lorasub.metrics.points import predicted_points
from lorasub.structures import Predictions, SceneBatch

MAX_VIEWS = 4


class EvaluationFigures(Callback):
    """Draws the first scenes of every test set into ``figures/`` of the run's folder.

    ================ =========================================================================
    ``_depth``       input, depth after median alignment, true depth and error
    ``_path``        camera centres, estimated (aligned by a similarity) against true
    ``_cloud``       predicted and true points from above and from the side
    ``_confidence``  sparsification, and error against confidence
    ================ =========================================================================

    What a scene or the model lacks is left out.

    Args:
        scenes: how many scenes of each test set; 0 for none.
    """

    def __init__(self, scenes: int = 2) -> None:
        if scenes < 0:
            raise ConfigError(f"the number of scenes to draw must not be negative, not {scenes}")
        self.scenes = scenes
        self._drawn: dict[int, int] = {}

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._drawn = {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw what is still wanted."""
        done = self._drawn.get(dataloader_idx, 0)
        if done >= self.scenes:
            return
        folder = run_folder(trainer)
        scenes, predictions = outputs
        count = min(self.scenes - done, len(scenes))
        self._drawn[dataloader_idx] = done + count
        if folder is not None and trainer.is_global_zero:
            for scene in range(count):
                name = re.sub(r"[^\w.-]+", "_", scenes.scene_ids[scene])
                draw_scene(folder / "figures" / f"test{dataloader_idx or ''}_{name}", scenes, predictions, scene)


def draw_scene(stem: Path, batch: SceneBatch, predictions: Predictions, scene: int) -> None:
    """Write the figures of one scene of a batch.

    Args:
        stem: path of the files but for ``_depth.png`` and so on.
        batch: the truth.
        predictions: for it.
        scene: index in the batch.
    """
    if predictions.depth is not None:
        panels = depth_panels(batch, predictions, scene=scene, max_views=MAX_VIEWS, align="median")
        save_figure(panels, _with(stem, "depth"), dpi=100)
    _draw_path(stem, batch, predictions, scene)
    _draw_cloud(stem, batch, predictions, scene)
    _draw_confidence(stem, batch, predictions, scene)


def _draw_path(stem: Path, batch: SceneBatch, predictions: Predictions, scene: int) -> None:
    used = batch.pose_valid[scene]
    if predictions.pose_encoding is None or not used.any():
        return
    predicted, _ = decode_pose(predictions.pose_encoding[scene].float(), batch.image_size)
    true = batch.cam_from_world[scene, used].to(predicted)
    try:
        aligned = align_trajectory(predicted[used], true)
    except NumericalError:
        return  # cameras on a line or in one spot: there is no alignment to draw
    title = f"{batch.scene_ids[scene]}, after Sim(3) alignment"
    save_figure(trajectory_figure({"true": true, "estimated": aligned}, title=title), _with(stem, "path"), dpi=100)


def _draw_cloud(stem: Path, batch: SceneBatch, predictions: Predictions, scene: int) -> None:
    points = predicted_points(predictions, batch, "depth")
    valid = batch.points_valid[scene]
    if points is None or predictions.pose_encoding is None or not valid.any():
        return
    source, target = points[scene][valid].float(), batch.world_points[scene][valid].float()
    try:
        motion = umeyama(source, target)
    except NumericalError:
        return
    colors = (batch.images[scene].movedim(1, -1)[valid].clamp(0, 1) * 255).byte()
    cameras, intrinsics = decode_pose(predictions.pose_encoding[scene].float(), batch.image_size)
    true = batch.cam_from_world[scene].float(), batch.intrinsics[scene].float()
    # each cloud is drawn from its first camera: the first true one leads both, so that they are seen from one place
    predicted = torch.cat([true[0][:1], move_cameras(cameras, motion)]), torch.cat([true[1][:1], intrinsics])
    clouds = [
        CloudView(
            title=title,
            points=cloud,
            colors=colors,
            cam_from_world=cam_from_world,
            intrinsics=matrices,
            image_size=batch.image_size,
        )
        for title, cloud, (cam_from_world, matrices) in (
            ("true", target, true),
            ("predicted", motion.apply(source), predicted),
        )
    ]
    save_figure(point_cloud_panels(clouds), _with(stem, "cloud"), dpi=100)


def _draw_confidence(stem: Path, batch: SceneBatch, predictions: Predictions, scene: int) -> None:
    valid = batch.valid[scene].flatten()
    if predictions.depth is None or predictions.depth_conf is None or valid.sum() < 2:
        return
    errors = relative_errors(predictions.depth, batch, "median")[scene][valid].float()
    confidence = predictions.depth_conf[scene].flatten()[valid].float()
    curves = sparsification(errors, confidence)
    groups, mean_errors = error_by_confidence(errors, confidence)
    drawn = CalibrationCurves(
        title=batch.scene_ids[scene],
        removed=curves.removed,
        by_confidence=curves.by_confidence,
        by_error=curves.by_error,
        confidence=groups,
        error=mean_errors,
    )
    save_figure(calibration_figure([drawn]), _with(stem, "confidence"), dpi=100)


def _with(stem: Path, kind: str) -> Path:
    return stem.with_name(f"{stem.name}_{kind}.png")
