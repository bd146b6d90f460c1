"""The whole objective: what it adds up to, what it skips, and that scenes stay apart."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from scene_examples import random_predictions, random_scenes

from lorasub.errors import ConfigError
from lorasub.geometry import encode_pose, normalize_scene
from lorasub.losses import VGGTLoss
from lorasub.structures import Predictions, SceneBatch


@pytest.fixture
def batch() -> SceneBatch:
    return normalize_scene(random_scenes(scenes=4, size=(24, 28)))


def perfect(batch: SceneBatch) -> Predictions:
    encoding = encode_pose(batch.cam_from_world, batch.intrinsics, batch.image_size)
    return Predictions(
        pose_encodings=(encoding, encoding),
        depth=batch.depth,
        depth_conf=torch.ones_like(batch.depth),
        world_points=batch.world_points,
        world_points_conf=torch.ones_like(batch.depth),
    )


def leaves(predictions: Predictions) -> list[torch.Tensor]:
    """The predictions' tensors as leaves that take gradients; the same tensors stay in the predictions."""
    dense = [getattr(predictions, field.name) for field in dataclasses.fields(predictions)[1:]]
    tensors = [*predictions.pose_encodings, *[tensor for tensor in dense if tensor is not None]]
    return [tensor.requires_grad_() for tensor in tensors]


def test_perfect_predictions_cost_nothing(batch: SceneBatch) -> None:
    terms = VGGTLoss()(perfect(batch), batch)
    torch.testing.assert_close(terms.total, torch.zeros(4, dtype=torch.float64))
    for name, part in terms.parts.items():
        torch.testing.assert_close(part, torch.zeros(4, dtype=torch.float64), msg=name)


def test_total_is_the_weighted_sum_of_its_parts(batch: SceneBatch) -> None:
    terms = VGGTLoss(camera_weight=5, depth_weight=2, points_weight=3)(random_predictions(batch), batch)
    p = terms.parts
    expected = (
        5 * (p["camera_translation"] + p["camera_rotation"] + 0.5 * p["camera_focal"])
        + 2 * (p["depth_confidence"] + p["depth_error"] + p["depth_gradient"])
        + 3 * (p["points_confidence"] + p["points_error"] + p["points_gradient"])
    )
    torch.testing.assert_close(terms.total, expected)


@pytest.mark.parametrize("absent", ["pose_encodings", "depth", "world_points"])
def test_an_absent_head_is_as_one_of_weight_zero(batch: SceneBatch, absent: str) -> None:
    predictions = random_predictions(batch)
    weight = {"pose_encodings": "camera_weight", "depth": "depth_weight", "world_points": "points_weight"}[absent]
    without = VGGTLoss()(predictions.replace(**{absent: () if absent == "pose_encodings" else None}), batch)
    unweighted = VGGTLoss(**{weight: 0.0})(predictions, batch)
    assert without.parts.keys() == unweighted.parts.keys()
    assert not any(name.startswith(weight.removesuffix("_weight")) for name in without.parts)
    torch.testing.assert_close(without.total, unweighted.total)


def test_no_head_at_all_is_an_error(batch: SceneBatch) -> None:
    with pytest.raises(ConfigError, match="nothing to minimise"):
        VGGTLoss()(Predictions(), batch)


@pytest.mark.parametrize("settings", [{"camera_weight": -1.0}, {"quantile": 0.0}, {"depth_weight": float("nan")}])
def test_impossible_settings_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        VGGTLoss(**settings)


def test_a_scene_costs_the_same_in_any_company(batch: SceneBatch) -> None:
    """What makes one process with four scenes equal to two with two each."""
    batch = incomplete(batch)
    predictions = random_predictions(batch)
    together = VGGTLoss()(predictions, batch)
    for scene in range(4):
        alone = VGGTLoss()(scene_of(predictions, scene), batch.select_scenes([scene]))
        torch.testing.assert_close(alone.total[0], together.total[scene])
        for name, part in alone.parts.items():
            torch.testing.assert_close(part[0], together.parts[name][scene], msg=name)


def incomplete(batch: SceneBatch) -> SceneBatch:
    """Scene 1 without depth, scene 2 without poses, scene 3 without anything."""
    valid, pose_valid = batch.valid.clone(), batch.pose_valid.clone()
    valid[1] = valid[3] = False
    pose_valid[2] = pose_valid[3] = False
    return batch.replace(valid=valid, pose_valid=pose_valid)


def scene_of(predictions: Predictions, scene: int) -> Predictions:
    dense = {
        field.name: getattr(predictions, field.name)[scene : scene + 1] for field in dataclasses.fields(predictions)[1:]
    }
    encodings = tuple(encoding[scene : scene + 1] for encoding in predictions.pose_encodings)
    return Predictions(pose_encodings=encodings, **dense)


def test_what_a_scene_lacks_is_skipped(batch: SceneBatch) -> None:
    terms = VGGTLoss()(random_predictions(batch), incomplete(batch))
    counted = {name: (part != 0).tolist() for name, part in terms.parts.items()}
    for name in ("depth_confidence", "depth_error", "depth_gradient"):
        assert counted[name] == [True, False, True, False], name
    for name in ("points_confidence", "points_error", "points_gradient", "camera_translation"):
        assert counted[name] == [True, False, False, False], name
    for name in ("camera", "camera_rotation", "camera_focal"):
        assert counted[name] == [True, True, False, False], name
    assert terms.total[3] == 0


def test_missing_parts_leave_finite_gradients_in_every_head(batch: SceneBatch) -> None:
    """DDP without find_unused_parameters needs a gradient for every parameter, be it zero."""
    batch = incomplete(batch)
    poisoned = batch.replace(
        depth=batch.depth.masked_fill(~batch.valid, torch.nan),
        world_points=batch.world_points.masked_fill(~batch.points_valid[..., None], torch.nan),
    )
    predictions = random_predictions(batch)
    tensors = leaves(predictions)
    VGGTLoss()(predictions, poisoned).total.sum().backward()
    for tensor in tensors:
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert not tensor.grad[3].any()


def test_stays_in_float32_under_autocast(batch: SceneBatch) -> None:
    scenes = batch.to(torch.float32)
    scenes = scenes.replace(**{name: getattr(batch, name) for name in ("valid", "pose_valid", "metric")})
    predictions = random_predictions(batch, dtype=torch.float32)
    expected = VGGTLoss()(predictions, scenes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = VGGTLoss()(predictions, scenes)
    half = predictions.replace(depth=predictions.depth.bfloat16())
    assert VGGTLoss()(half, scenes).total.dtype == torch.float32
    assert found.total.dtype == torch.float32
    torch.testing.assert_close(found.total, expected.total, rtol=0, atol=0)
