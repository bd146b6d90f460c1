"""Writes what ``predict`` finds, in files that other tools open."""

from __future__ import annotations

import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from lorasub.callbacks.run_folder import run_folder
from lorasub.errors import ConfigError
from lorasub.exports import (
    point_cloud_from_depth,
    write_depth_npy,
    write_glb,
    write_image,
    write_nerfstudio,
    write_ply,
    write_tum,
)
from lorasub.figures.panels import depth_panels
from lorasub.figures.style import save_figure
from lorasub.geometry import decode_pose
from lorasub.structures import Predictions, SceneBatch

Output = Literal["depth", "confidence", "cameras", "ply", "glb", "panel"]


class PredictionWriter(BasePredictionWriter):
    """One folder for each scene, ``predictions/<scene>/`` in the run's folder; files have the names of the views.

    Lengths are in the source's unit (metres for metric captures) where the true depth told the scale, else in the
    backbone's own unit. The world is the first view's camera.

    =========== ==========================================================================================
    depth       ``images/NAME.png`` and ``depth/NAME.npy`` (float32 z-depth), one each per view
    confidence  ``confidence/NAME.npy``, float32, at least 1; where the backbone has one
    cameras     ``transforms.json`` (nerfstudio) and ``trajectory.txt`` (TUM)
    ply, glb    ``points.ply``, ``points.glb``: coloured points; the GLB shows the cameras too
    panel       ``panel.png``: input and depth, and where it is known the truth and the error
    =========== ==========================================================================================

    Args:
        folder: instead of ``predictions/`` in the run's folder.
        outputs: what to write.
        keep: share of the points that is kept, those with the highest confidence.
        max_points: at most so many points a scene.
    """

    def __init__(
        self,
        folder: str | None = None,
        outputs: Sequence[Output] = typing.get_args(Output),
        keep: float = 0.9,
        max_points: int = 1_000_000,
    ) -> None:
        super().__init__(write_interval="batch")
        if unknown := sorted(set(outputs) - set(typing.get_args(Output))):
            raise ConfigError(f"unknown outputs {unknown}; there are {', '.join(typing.get_args(Output))}")
        self.folder = None if folder is None else Path(folder)
        self.outputs = tuple(outputs)
        self.keep = keep
        self.max_points = max_points

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write every scene of the batch."""
        run = run_folder(trainer)
        root = self.folder or (None if run is None else run / "predictions")
        if root is None:
            return
        scenes, predictions = prediction
        for index, name in enumerate(scenes.scene_ids):
            self.write_scene(root / _plain(name), scenes, predictions, index)

    def write_scene(self, folder: Path, batch: SceneBatch, predictions: Predictions, scene: int) -> None:
        """Write one scene of a normalised batch."""
        images = batch.images[scene].float().cpu()
        names = file_stems(batch.frame_ids[scene])
        scale = batch.scale[scene].float().cpu()
        cameras = self._cameras(predictions, batch, scene, scale)
        depth = None if predictions.depth is None else predictions.depth[scene].float().cpu() * scale
        if "depth" in self.outputs or "cameras" in self.outputs:
            for name, image in zip(names, images, strict=True):
                write_image(folder / "images" / f"{name}.png", image)
        if "depth" in self.outputs and depth is not None:
            for name, values in zip(names, depth, strict=True):
                write_depth_npy(folder / "depth" / f"{name}.npy", values)
        confidence = None if predictions.depth_conf is None else predictions.depth_conf[scene].float().cpu()
        if "confidence" in self.outputs and confidence is not None:
            for name, values in zip(names, confidence, strict=True):
                write_depth_npy(folder / "confidence" / f"{name}.npy", values)
        if "panel" in self.outputs and depth is not None:
            save_figure(depth_panels(batch, predictions, scene=scene), folder / "panel.png")
        if cameras is None:
            return
        cam_from_world, intrinsics = cameras
        if "cameras" in self.outputs:
            files = [f"images/{name}.png" for name in names]
            write_nerfstudio(folder / "transforms.json", files, cam_from_world, intrinsics, batch.image_size)
            write_tum(folder / "trajectory.txt", cam_from_world)
        if depth is not None and {"ply", "glb"} & set(self.outputs):
            cloud = point_cloud_from_depth(
                images,
                depth,
                intrinsics,
                cam_from_world,
                confidence=confidence,
                keep=1.0 if confidence is None else self.keep,
                max_points=self.max_points,
            )
            if "ply" in self.outputs:
                write_ply(folder / "points.ply", cloud)
            if "glb" in self.outputs:
                write_glb(
                    folder / "points.glb",
                    cloud,
                    cam_from_world=cam_from_world,
                    intrinsics=intrinsics,
                    image_size=batch.image_size,
                )

    @staticmethod
    def _cameras(
        predictions: Predictions, batch: SceneBatch, scene: int, scale: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """``[S, 3, 4]`` and ``[S, 3, 3]`` of one scene in the source's unit; None without a camera head."""
        if predictions.pose_encoding is None:
            return None
        cam_from_world, intrinsics = decode_pose(predictions.pose_encoding[scene].float().cpu(), batch.image_size)
        rotation, translation = cam_from_world[..., :3], cam_from_world[..., 3:]
        return torch.cat([rotation, translation * scale], dim=-1), intrinsics


def file_stems(frame_ids: Sequence[str]) -> list[str]:
    """Names for the files of views: those of the views, without the ending of an image, all different.

    Args:
        frame_ids: of the views of a scene; photos are called by their file's name.
    """
    stems = [_plain(re.sub(r"\.[A-Za-z]{3,4}$", "", name)) for name in frame_ids]
    # IMG_1.JPG beside IMG_1.PNG; what is still the same then gets its number
    stems = [_plain(name) if stems.count(stem) > 1 else stem for stem, name in zip(stems, frame_ids, strict=True)]
    while len(set(stems)) < len(stems):
        stems = [f"{stem}_{view}" if stems.count(stem) > 1 else stem for view, stem in enumerate(stems)]
    return stems


def _plain(name: str) -> str:
    """A name that is one file name on every system."""
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "_"
