"""What a set gives away without looking: planted sets, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scene_examples import random_scenes

from lorasub.backbones import Backbone, ConstantGeometry
from lorasub.geometry import encode_pose, normalize_scene
from lorasub.structures import Predictions, SceneBatch
from lorasub.tasks.no_look import SOLVED, NoLookScores, Score, score_without_looking


class Oracle(Backbone):
    """Knows the scenes that it will be shown; its depth is wrong by a factor that varies along the rows."""

    patch_size = 1
    model_id = "oracle"

    def __init__(self, batches: list[SceneBatch], error: float) -> None:
        super().__init__()
        self.groups = {}
        self.batches = [normalize_scene(batch) for batch in batches]
        self.error = error

    def forward(self, images: torch.Tensor) -> Predictions:
        batch = next(one for one in self.batches if torch.equal(one.images, images))
        factor = 1 + self.error * torch.tensor([1.0, -1.0]).repeat(batch.depth.shape[-1] // 2)
        code = encode_pose(batch.cam_from_world, batch.intrinsics, batch.image_size)
        return Predictions(pose_encodings=(code,), depth=batch.depth * factor, depth_conf=torch.ones_like(batch.depth))


def test_a_set_that_shows_one_scene_is_solved() -> None:
    one = random_scenes(1, 3, (6, 8), seed=1)
    one = one.replace(valid=torch.ones_like(one.valid))
    found = score_without_looking([one, one], [one])
    assert found.mean.abs_rel < 1e-6
    assert found.mean.auc_30 > 0.99
    assert found.backbone is None
    assert found.ratio is None
    assert found.solved


def test_scores_are_those_of_the_mean_map_and_the_backbone() -> None:
    training, held_out = random_scenes(6, 2, (6, 8), seed=2), random_scenes(4, 2, (6, 8), seed=3)
    found = score_without_looking([training], [held_out], Oracle([held_out], 0.2))
    scenes, others = normalize_scene(training), normalize_scene(held_out)
    known = scenes.valid.sum(0).numpy()
    total = torch.where(scenes.valid, scenes.depth, 0.0).sum(0).numpy()
    everywhere = total.sum() / known.sum()
    mean = np.where(known > 0, total / np.maximum(known, 1), everywhere)
    errors, weights = [], []
    for depth, valid in zip(others.depth.numpy(), others.valid.numpy(), strict=True):
        p, g = mean[valid], depth[valid]
        errors.append(np.mean(np.abs(p * np.median(g) / np.median(p) - g) / g))
        weights.append(valid.sum())
    assert found.mean.abs_rel == pytest.approx(np.average(errors, weights=weights), rel=1e-4)
    assert found.backbone is not None
    assert found.backbone.auc_30 > 0.99
    assert found.backbone.abs_rel == pytest.approx(0.2, abs=0.03)
    assert found.ratio == pytest.approx(found.best / found.backbone.abs_rel)


@pytest.mark.parametrize(
    ("mean", "plane", "backbone", "solved"),
    [(0.3, 0.5, 0.1, False), (SOLVED - 0.01, 0.5, 0.02, True), (0.3, 0.2, 0.25, False), (0.3, 0.5, None, False)],
)
def test_what_counts_as_solved(mean: float, plane: float, backbone: float | None, solved: bool) -> None:
    scores = [None if value is None else Score(abs_rel=value, auc_30=0.0) for value in (mean, plane, backbone)]
    assert scores[0] is not None
    assert scores[1] is not None
    assert NoLookScores(mean=scores[0], plane=scores[1], backbone=scores[2]).solved == solved


def test_the_backbone_is_left_as_it_was() -> None:
    batch = random_scenes(2, 2, (6, 8))
    model = ConstantGeometry().train()
    score_without_looking([batch], [batch], model)
    assert model.training
