"""Which patches match, against a loop over pixels; the contrastive loss, against torch's cross-entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scene_examples import random_scenes
from torch.nn import functional as F

from lorasub.losses import attention_loss, matching_loss, patch_matches
from lorasub.scenes.presets import SceneSampler
from lorasub.scenes.rendering.renderer import Renderer
from lorasub.structures import SceneBatch

PATCH = 4


def flat_wall(shift: float) -> SceneBatch:
    """A wall at depth 2, seen by two cameras that look straight at it, the second one ``shift`` pixels to the right."""
    height, width, focal, depth = 12, 16, 16.0, 2.0
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]).expand(1, 2, 3, 3)
    poses = torch.eye(4)[:3].repeat(1, 2, 1, 1)
    poses[0, 1, 0, 3] = -shift * depth / focal
    x = (torch.arange(width) + 0.5 - width / 2) * depth / focal
    y = (torch.arange(height) + 0.5 - height / 2) * depth / focal
    first = torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width), torch.full((height, width), depth)], -1
    )
    second = first + torch.tensor([shift * depth / focal, 0, 0])
    return random_scenes(1, 2, (height, width), dtype=torch.float32).replace(
        intrinsics=intrinsics,
        cam_from_world=poses,
        depth=torch.full((1, 2, height, width), depth),
        valid=torch.ones(1, 2, height, width, dtype=torch.bool),
        world_points=torch.stack([first, second])[None],
    )


def test_a_shift_by_one_patch_moves_every_match_by_one_column() -> None:
    matches = patch_matches(flat_wall(PATCH), PATCH)
    index = torch.arange(12).view(3, 4)
    none = torch.full((3, 1), -1)
    assert torch.equal(matches[0, 0, 1].view(3, 4), torch.cat([none, index[:, :-1]], 1))
    assert torch.equal(matches[0, 1, 0].view(3, 4), torch.cat([index[:, 1:], none], 1))
    assert (matches[0, [0, 1], [0, 1]] == -1).all()


def test_what_is_hidden_unknown_or_without_a_pose_has_no_match() -> None:
    wall = flat_wall(0)
    everything = torch.arange(12)
    assert torch.equal(patch_matches(wall, PATCH)[0, 0, 1], everything)

    depth = wall.depth.clone()
    depth[0, 1, :4, :4] = 1.0  # something stands before patch 0 of the second view
    depth[0, 1, :4, 4:8] = 2.09  # within 5% of the wall
    hidden = patch_matches(wall.replace(depth=depth), PATCH)
    assert hidden[0, 0, 1].tolist() == [-1, *range(1, 12)]

    valid = wall.valid.clone()
    valid[0, 1, 6, 6] = False  # the pixel that the middle of patch 5 falls onto
    unknown = patch_matches(wall.replace(valid=valid), PATCH)
    assert unknown[0, 0, 1].tolist() == [*range(5), -1, *range(6, 12)]
    assert unknown[0, 1, 0].tolist() == [*range(5), -1, *range(6, 12)]

    unposed = wall.replace(pose_valid=torch.tensor([[True, False]]))
    assert (patch_matches(unposed, PATCH) == -1).all()


def test_a_point_behind_the_camera_has_no_match() -> None:
    wall = flat_wall(0)
    poses = wall.cam_from_world.clone()
    poses[0, 1] = torch.tensor([[-1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0]])
    assert (patch_matches(wall.replace(cam_from_world=poses), PATCH)[0, 0, 1] == -1).all()


def test_against_a_loop_over_patches_of_rendered_scenes() -> None:
    description = SceneSampler(attribute="all", num_views=3).sample([3, 8])
    batch = Renderer((56, 84), antialias=False, shadow_samples=1).render(description).to_batch(description.scene_ids)
    found, patch = patch_matches(batch, 14).numpy(), 14
    points, poses = batch.world_points.double().numpy(), batch.cam_from_world.double().numpy()
    K, depth, valid = batch.intrinsics.double().numpy(), batch.depth.numpy(), batch.valid.numpy()
    expected = np.full((2, 3, 3, 4 * 6), -1)
    for scene, a, b in np.ndindex(2, 3, 3):
        for p in range(24):
            y, x = 14 * (p // 6) + 7, 14 * (p % 6) + 7
            if a == b or not valid[scene, a, y, x]:
                continue
            seen = poses[scene, b] @ np.append(points[scene, a, y, x], 1)
            u, v, w = K[scene, b] @ seen
            if w <= 0 or not (0 <= u / w < 84 and 0 <= v / w < 56):
                continue
            j, i = int(u / w), int(v / w)
            if valid[scene, b, i, j] and abs(depth[scene, b, i, j] - w) < 0.05 * w:
                expected[scene, a, b, p] = (i // patch) * 6 + j // patch
    differing = (found != expected).mean()  # float32 may put a point on the other side of a pixel's edge
    assert 0.1 < (expected >= 0).mean() < 0.9
    assert differing < 0.01


def test_loss_is_the_mean_cross_entropy_of_each_scene() -> None:
    torch.manual_seed(1)
    features = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    matches = torch.randint(-1, 5, (2, 3, 3, 5))
    found = matching_loss(features, matches, temperature=0.2)
    unit = features / features.norm(dim=-1, keepdim=True)
    for scene in range(2):
        losses, hits = [], []
        for a, b in np.ndindex(3, 3):
            logits = unit[scene, a] @ unit[scene, b].T / 0.2
            for p, target in enumerate(matches[scene, a, b].tolist()):
                if target >= 0:
                    losses.append(F.cross_entropy(logits[p], torch.tensor(target)).item())
                    hits.append(logits[p].argmax().item() == target)
        assert found.loss[scene].item() == pytest.approx(np.mean(losses), rel=1e-9)
        assert found.accuracy[scene].item() == pytest.approx(np.mean(hits))


def test_features_that_say_what_they_show_cost_nothing() -> None:
    """Orthogonal features that move along with the wall: the loss is log(1 + (P - 1) exp(-1 / T)) in closed form."""
    matches = patch_matches(flat_wall(PATCH), PATCH)
    world = torch.eye(16)  # one direction for each of the columns that either view sees, in three rows
    columns = torch.stack([torch.arange(4), torch.arange(1, 5)])
    index = (torch.arange(3)[None, :, None] * 5 + columns[:, None]).flatten(1)
    found = matching_loss(3.0 * world[index][None], matches)
    assert found.loss.item() == pytest.approx(math.log1p(11 * math.exp(-1 / 0.07)), abs=1e-6)
    assert found.loss.item() < 1e-4
    assert found.accuracy.item() == 1


def test_nothing_to_match_is_nothing_to_learn() -> None:
    features = torch.randn(2, 2, 6, 4, requires_grad=True)
    matches = torch.full((2, 2, 2, 6), -1)
    matches[1, 0, 1, 0] = 3
    found = matching_loss(features, matches)
    found.loss.sum().backward()
    assert found.loss[0] == 0
    assert found.accuracy[0] == 0
    assert found.loss[1] > 0
    assert torch.equal(features.grad[0], torch.zeros(2, 6, 4))
    assert features.grad[1].abs().sum() > 0


def test_half_precision_features_are_compared_in_full() -> None:
    features, matches = torch.randn(1, 2, 6, 4).bfloat16(), torch.randint(0, 6, (1, 2, 2, 6))
    with torch.autocast("cpu", torch.bfloat16):
        found = matching_loss(features, matches)
    torch.testing.assert_close(found.loss, matching_loss(features.float(), matches).loss)


def test_attention_is_held_against_all_counterparts_of_a_patch_together() -> None:
    """Against a loop over patches; the first two of five tokens of a view are no patches, but can be looked at."""
    torch.manual_seed(2)
    queries, keys = torch.randn(2, 2, 3, 5, 4, dtype=torch.float64)
    matches = torch.randint(-1, 3, (2, 3, 3, 3))
    matches[:, [0, 1, 2], [0, 1, 2]] = -1
    found = attention_loss(queries, keys, matches)
    for scene in range(2):
        losses = []
        for a, p in np.ndindex(3, 3):
            weights = (keys[scene] @ queries[scene, a, 2 + p] / 2).flatten().softmax(0).view(3, 5)
            counterparts = [weights[b, 2 + m] for b, m in enumerate(matches[scene, a, :, p].tolist()) if m >= 0]
            if counterparts:
                losses.append(-math.log(sum(counterparts)))
        assert found[scene].item() == pytest.approx(np.mean(losses), rel=1e-9)


def test_attention_of_a_scene_without_counterparts_costs_nothing() -> None:
    queries = torch.randn(1, 2, 4, 3, requires_grad=True)
    loss = attention_loss(queries, torch.randn(1, 2, 4, 3), torch.full((1, 2, 2, 3), -1))
    loss.sum().backward()
    assert loss.item() == 0
    assert queries.grad is not None
    assert not queries.grad.any()
