"""Paths and calibration curves: what is drawn is what was given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scene_examples import random_predictions, random_scenes

from lorasub.callbacks.evaluation_figures import draw_scene
from lorasub.errors import DataError
from lorasub.figures import CalibrationCurves, calibration_figure, trajectory_figure
from lorasub.geometry import encode_pose, invert_pose, normalize_scene
from lorasub.structures import Predictions


def path(centers: np.ndarray) -> torch.Tensor:
    world_from_cam = torch.eye(3, 4, dtype=torch.float64).repeat(len(centers), 1, 1)
    world_from_cam[..., 3] = torch.from_numpy(centers)
    return invert_pose(world_from_cam)


def test_paths_are_drawn_from_the_first_true_camera() -> None:
    true = np.array([[1.0, 2.0, 3.0], [2.0, 2.5, 5.0], [4.0, 1.0, 6.0]])
    figure = trajectory_figure({"true": path(true), "estimated": path(true + 0.5)}, unit="m")
    FigureCanvasAgg(figure).draw()
    above, side = figure.axes
    for axis, (across, up) in ((above, (0, 2)), (side, (2, 1))):
        lines = {line.get_label(): line for line in axis.lines}
        np.testing.assert_allclose(lines["true"].get_xydata(), (true - true[0])[:, [across, up]])
        np.testing.assert_allclose(lines["estimated"].get_xydata(), (true - true[0] + 0.5)[:, [across, up]])
    assert side.yaxis_inverted()
    assert above.get_xlabel() == "x (m)"


def test_paths_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="no camera path"):
        trajectory_figure({})
    with pytest.raises(DataError, match="'estimated'"):
        trajectory_figure({"true": path(np.zeros((2, 3))), "estimated": path(np.full((2, 3), np.nan))})


def test_calibration_shows_the_curves_and_their_area() -> None:
    removed = torch.tensor([0.0, 0.5])
    curves = CalibrationCurves(
        title="room",
        removed=removed,
        by_confidence=torch.tensor([1.0, 0.8]),
        by_error=torch.tensor([1.0, 0.4]),
        confidence=torch.tensor([1.0, 2.0]),
        error=torch.tensor([0.3, 0.1]),
    )
    figure = calibration_figure([curves])
    left, right = figure.axes
    assert left.get_legend().get_texts()[0].get_text() == "room, AUSE 0.100"
    np.testing.assert_allclose(right.lines[0].get_xydata(), [[1.0, 0.3], [2.0, 0.1]])
    with pytest.raises(DataError):
        calibration_figure([])


def test_a_scene_is_drawn_as_far_as_it_is_known(tmp_path: Path) -> None:
    batch = normalize_scene(random_scenes(views=4, dtype=torch.float32))
    predictions = random_predictions(batch, dtype=torch.float32).replace(
        pose_encodings=(encode_pose(batch.cam_from_world, batch.intrinsics, batch.image_size),)
    )
    draw_scene(tmp_path / "scene", batch, predictions, 1)
    kinds = {"depth", "path", "cloud", "confidence"}
    assert {file.name for file in tmp_path.iterdir()} == {f"scene_{kind}.png" for kind in kinds}
    unknown = batch.replace(pose_valid=torch.zeros_like(batch.pose_valid))
    draw_scene(tmp_path / "poseless", unknown, predictions.replace(depth_conf=None), 0)
    assert {file.name for file in tmp_path.glob("poseless*")} == {"poseless_depth.png"}
    draw_scene(tmp_path / "nothing", batch, Predictions(), 0)
    assert not list(tmp_path.glob("nothing*"))
