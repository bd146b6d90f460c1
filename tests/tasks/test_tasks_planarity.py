"""Plane residuals in closed form, thresholds by trying all, AUROC by counting pairs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_examples import random_predictions, random_scenes
from scipy.spatial.transform import Rotation

from lorasub.geometry import encode_pose
from lorasub.structures import Predictions, SceneBatch
from lorasub.tasks.downstream import PlanarOrReal, best_threshold, plane_residual, relief


def everywhere(points: torch.Tensor) -> torch.Tensor:
    return torch.ones(points.shape[:-1], dtype=torch.bool)


def test_residual_of_a_box_of_points_is_the_ratio_of_its_deviations() -> None:
    signs = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=torch.float64)
    rotation = torch.from_numpy(Rotation.random(random_state=1).as_matrix())
    box = (signs * torch.tensor([4.0, 2.0, 0.5], dtype=torch.float64)) @ rotation.T + 10
    assert plane_residual(box, everywhere(box)).item() == pytest.approx(0.5 / 4)
    assert plane_residual(box * 7, everywhere(box)).item() == pytest.approx(0.5 / 4)


def test_a_plane_is_flat_wherever_it_is() -> None:
    rotation = torch.from_numpy(Rotation.random(random_state=2).as_matrix())
    flat = torch.cat([torch.rand(50, 2), torch.zeros(50, 1)], 1).double() @ rotation.T + 5
    assert plane_residual(flat, everywhere(flat)) < 1e-6


def test_only_valid_points_count() -> None:
    points = torch.rand(40, 3, dtype=torch.float64)
    valid = torch.arange(40) < 20
    spoiled = points.clone()
    spoiled[20:] = torch.nan
    torch.testing.assert_close(plane_residual(spoiled, valid), plane_residual(points[:20], everywhere(points[:20])))


def test_what_has_no_plane_is_nan() -> None:
    points = torch.rand(10, 3)
    line = torch.arange(10.0)[:, None] * torch.tensor([1.0, 2.0, 3.0])
    assert plane_residual(points[:3], everywhere(points[:3])).isnan()
    assert plane_residual(line, everywhere(line)).isnan()
    assert plane_residual(torch.full((10, 3), torch.inf), everywhere(points)).isnan()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=20))
def test_no_threshold_is_better(pairs: list[tuple[int, bool]]) -> None:
    scores = torch.tensor([score / 8 for score, _ in pairs], dtype=torch.float64)
    labels = torch.tensor([int(label) for _, label in pairs])
    found = best_threshold(scores, labels)
    if labels.min() == labels.max():
        assert found.isnan()
        return

    def balanced(threshold: float) -> float:
        above = scores > threshold
        return (above[labels == 1].double().mean() + (~above)[labels == 0].double().mean()).item()

    assert balanced(found.item()) == pytest.approx(max(balanced(t / 16) for t in range(-1, 18)))


def labelled(relief_of: list[float], labels: list[int]) -> tuple[Predictions, SceneBatch]:
    """Scenes whose predicted depth is a frontal plane with waves of the given height."""
    batch = random_scenes(len(labels), 2, (12, 12)).replace(labels=torch.tensor(labels))
    waves = torch.sin(torch.arange(12.0, dtype=torch.float64))[:, None].expand(12, 12)
    depth = 2 + torch.tensor(relief_of, dtype=torch.float64)[:, None, None, None] * waves.expand(len(labels), 2, 12, 12)
    encoding = encode_pose(batch.cam_from_world, batch.intrinsics, batch.image_size)
    return Predictions(depth=depth, pose_encodings=(encoding,)), batch


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    heights, labels = [0.0, 0.3, 0.2, 0.1, 0.4, 0.6], [0, 0, 1, 0, 1, -1]
    predictions, batch = labelled(heights, labels)
    metric = PlanarOrReal(threshold=relief(predictions, batch)[2].item() * 0.99)
    metric.update(predictions, batch)
    found = metric.compute()
    assert found["auroc"].item() == pytest.approx(5 / 6)  # of 3 x 2 pairs, only (0.3, 0.2) is the wrong way round
    assert found["accuracy"].item() == pytest.approx(4 / 5)
    assert found["relief_real"] > found["relief_planar"]
    assert metric.last_scenes()[5].notes == ["the scene has no label"]


def test_masks_say_what_is_the_face() -> None:
    predictions, batch = labelled([0.0], [0])
    depth = predictions.depth.clone()
    depth[..., 6:, :] = 9.0  # a wall behind the picture
    predictions = predictions.replace(depth=depth)
    masks = torch.zeros_like(batch.valid)
    masks[..., :6, :] = True
    assert relief(predictions, batch) > 0.1
    assert relief(predictions, batch.replace(object_masks=masks)) < 1e-6
    empty = batch.replace(object_masks=torch.zeros_like(masks))
    torch.testing.assert_close(relief(predictions, empty), relief(predictions, batch))


def test_one_class_or_no_labels_give_no_auroc() -> None:
    predictions, batch = labelled([0.1, 0.2], [1, 1])
    metric = PlanarOrReal()
    metric.update(predictions, batch)
    assert metric.compute()["auroc"].isnan()
    assert metric.compute()["accuracy"].isnan()
    plain = random_scenes()
    metric = PlanarOrReal(0.1)
    metric.update(random_predictions(plain), plain)
    assert all(math.isnan(value) for value in metric.compute().values())
