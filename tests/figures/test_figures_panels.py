"""Figures: what is drawn, not how it looks."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from lorasub.errors import DataError
from lorasub.figures.panels import depth_panels
from lorasub.figures.point_clouds import CloudView, point_cloud_panels
from lorasub.structures import Predictions, SceneBatch


@pytest.fixture
def batch() -> SceneBatch:
    b, s, h, w = 2, 5, 24, 32
    depth = 1 + torch.rand(b, s, h, w)
    depth[:, :, :6] = 0
    return SceneBatch(
        images=torch.rand(b, s, 3, h, w),
        intrinsics=torch.tensor([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]]).expand(b, s, 3, 3),
        cam_from_world=torch.eye(3, 4).expand(b, s, 3, 4),
        pose_valid=torch.ones(b, s, dtype=torch.bool),
        depth=depth,
        valid=depth > 0,
        world_points=torch.zeros(b, s, h, w, 3),
        scale=torch.ones(b),
        metric=torch.ones(b, dtype=torch.bool),
        scene_ids=("first", "second"),
        frame_ids=(tuple("abcde"), tuple("fghij")),
    )


def render(figure: Figure) -> None:
    figure.savefig(io.BytesIO(), dpi=60)


def test_panels_show_the_values(batch: SceneBatch) -> None:
    predictions = Predictions(depth=torch.where(batch.valid, batch.depth * 1.1, 1.0))
    figure = depth_panels(batch, predictions, scene=1, max_views=3)
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(shown) == 12
    np.testing.assert_allclose(shown[4], batch.images[1, 1].movedim(0, -1), atol=1e-6)
    np.testing.assert_allclose(shown[5], predictions.depth[1, 1], atol=1e-6)
    truth, error = shown[6], shown[7]
    assert truth.mask[:6].all()  # unknown pixels are marked, not drawn as a depth
    assert not truth.mask[6:].any()
    np.testing.assert_allclose(truth[6:], batch.depth[1, 1, 6:], atol=1e-6)
    np.testing.assert_allclose(error[6:], 0.1, atol=1e-5)
    assert figure.axes[1].images[0].get_clim() == figure.axes[2].images[0].get_clim()
    assert figure.get_suptitle() == "second"
    render(figure)


def test_median_alignment_is_applied_and_said(batch: SceneBatch) -> None:
    figure = depth_panels(batch, Predictions(depth=batch.depth * 7 + (~batch.valid).float()), align="median")
    assert float(figure.axes[3].images[0].get_array().max()) < 1e-5
    assert figure.axes[1].get_title() == "predicted (median-aligned)"


def test_panels_without_any_truth(batch: SceneBatch) -> None:
    nothing = batch.replace(valid=torch.zeros_like(batch.valid), depth=torch.zeros_like(batch.depth))
    for align in ("none", "median"):
        render(depth_panels(nothing, Predictions(depth=torch.rand(2, 5, 24, 32) + 1), align=align))


def test_panels_need_depth_and_a_scene(batch: SceneBatch) -> None:
    with pytest.raises(DataError, match="no depth head"):
        depth_panels(batch, Predictions())
    with pytest.raises(DataError, match="scene 2 was asked for, but the batch holds 2"):
        depth_panels(batch, Predictions(depth=batch.depth), scene=2)


def cloud(points: torch.Tensor, **changes) -> CloudView:
    options = {
        "title": "cloud",
        "points": points,
        "colors": torch.full(points.shape, 40, dtype=torch.uint8),
        "cam_from_world": torch.eye(3, 4)[None].repeat(2, 1, 1),
        "intrinsics": torch.tensor([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]]).expand(2, 3, 3),
        "image_size": (24, 32),
    }
    return CloudView(**options | changes)


def ink(figure: Figure, axis: int) -> tuple[float, float]:
    """Centre of what is drawn, in the axes' units."""
    image = figure.axes[axis].images[0]
    rows, columns = np.nonzero((np.asarray(image.get_array()) < 255).any(-1))
    left, right, bottom, top = image.get_extent()
    height, width = image.get_array().shape[:2]
    return left + (columns.mean() + 0.5) / width * (right - left), bottom + (rows.mean() + 0.5) / height * (
        top - bottom
    )


def test_points_are_drawn_where_they_are() -> None:
    points = torch.tensor([1.0, -0.5, 3.0]) + 0.01 * torch.randn(200, 3)
    figure = point_cloud_panels([cloud(points)])
    assert ink(figure, 0) == pytest.approx((1.0, 3.0), abs=0.05)  # from above: x, z
    assert ink(figure, 1) == pytest.approx((3.0, -0.5), abs=0.05)  # from the side: z, y
    assert figure.axes[1].yaxis_inverted()
    render(figure)


def test_clouds_turn_into_the_first_camera() -> None:
    pose = torch.eye(3, 4)
    pose[:, 3] = torch.tensor([0.0, 0.0, 5.0])  # the camera stands at z = -5
    points = torch.tensor([0.0, 0.0, 1.0]) + 0.01 * torch.randn(200, 3)
    figure = point_cloud_panels([cloud(points, cam_from_world=pose[None].repeat(2, 1, 1))])
    assert ink(figure, 0) == pytest.approx((0.0, 6.0), abs=0.1)


def test_of_points_above_each_other_the_upper_one_is_seen() -> None:
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 40), torch.linspace(2, 4, 40))
    upper = torch.stack([grid[:, 0], torch.full((1600,), -1.0), grid[:, 1]], -1)  # y points down
    lower = upper + torch.tensor([0.0, 1.0, 0.0])
    colors = torch.cat([torch.full((1600, 3), 10), torch.full((1600, 3), 200)]).byte()
    for order in (slice(None), slice(None, None, -1)):
        index = torch.arange(3200)[order] if order.step is None else torch.arange(3199, -1, -1)
        view = cloud(torch.cat([upper, lower])[index], colors=colors[index])
        image = np.asarray(point_cloud_panels([view]).axes[0].images[0].get_array())
        assert set(np.unique(image)) == {10, 255}


def test_clouds_without_cameras_or_points() -> None:
    none = torch.zeros(0, 3, 4)
    render(point_cloud_panels([cloud(torch.randn(50, 3), cam_from_world=none, intrinsics=torch.zeros(0, 3, 3))]))
    with pytest.raises(DataError, match="no point cloud"):
        point_cloud_panels([])
    with pytest.raises(DataError, match="has no finite point"):
        point_cloud_panels([cloud(torch.full((4, 3), torch.nan))])


def test_drawing_is_quick() -> None:
    start = time.process_time()
    render(point_cloud_panels([cloud(torch.randn(200_000, 3))]))
    assert time.process_time() - start < 5  # a scatter plot takes longer even where nothing else runs
