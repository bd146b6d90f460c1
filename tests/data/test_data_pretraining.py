"""The curriculum as a pure function of the step: who is seen when, with how many views, and how often."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from lorasub.data import PretrainingScenes, SceneKind, Stage
from lorasub.data.color_jitter import jitter_colors
from lorasub.errors import ConfigError
from lorasub.scenes.ranges import CameraRanges, SceneRanges

NARROW = SceneKind(ranges=SceneRanges(camera=CameraRanges(fov=(0.3, 0.31))))
STAGES = [
    Stage(from_step=0, image_size=14, views=(2, 2), batch_size=2, rendered_views=3),
    Stage(from_step=5, image_size=28, views=(1, 3), batch_size=3, scenes=[NARROW]),
]


def make(**changes: Any) -> PretrainingScenes:
    settings: dict[str, Any] = {"stages": STAGES, "reuse": 2, "pool": 2, "antialias": False, "shadow_samples": 1}
    return PretrainingScenes(**{**settings, **changes})


def test_a_step_is_the_same_whatever_came_before() -> None:
    through, jump = make(color_jitter=0.3), make(color_jitter=0.3)
    for step in range(9):
        last = through.training_batch(step)
    alone = jump.training_batch(8)
    assert alone.scene_ids == last.scene_ids
    assert alone.frame_ids == last.frame_ids
    assert torch.equal(alone.images, last.images)
    assert torch.equal(alone.depth, last.depth)


def test_stages_begin_at_their_steps() -> None:
    data = make()
    sizes = [data.training_batch(step).images.shape for step in range(3, 8)]
    assert [size[-1] for size in sizes] == [14, 14, 28, 28, 28]
    assert [size[0] for size in sizes] == [2, 2, 3, 3, 3]
    views = [data.training_batch(step).num_views for step in range(5, 17)]
    assert set(views) == {1, 2, 3}
    first, second = data.training_batch(4), data.training_batch(5)
    assert not set(first.scene_ids) & set(second.scene_ids)
    assert (second.intrinsics[..., 1, 1] / 28 > 3).all()  # the second stage's narrow lens: 1 / (2 tan 0.155) = 3.2


def test_every_scene_is_used_as_often_as_said_in_changing_company() -> None:
    data = make(stages=[Stage(from_step=0, image_size=14, views=(2, 2), batch_size=2, rendered_views=4)], reuse=3)
    blocks = [[data.training_batch(step) for step in range(first, first + 6)] for first in (0, 6)]
    counts = [Counter(name for batch in block for name in batch.scene_ids) for block in blocks]
    assert all(set(count.values()) == {3} and len(count) == 4 for count in counts)
    assert not set(counts[0]) & set(counts[1])
    for block in blocks:
        for turn in range(3):  # each once in a turn
            names = [name for batch in block[2 * turn : 2 * turn + 2] for name in batch.scene_ids]
            assert len(set(names)) == 4
    assert len({batch.frame_ids[0] for block in blocks for batch in block}) > 2
    assert any(len(set(batch.frame_ids)) > 1 for block in blocks for batch in block)  # not one choice for all scenes
    assert len({frozenset(batch.scene_ids) for batch in blocks[0]}) > 2


def test_processes_see_different_scenes_and_as_many_views() -> None:
    zero, one = ([make().training_batch(step, rank=rank, world_size=2) for step in (0, 1, 4, 7)] for rank in (0, 1))
    names = [{name for batch in batches for name in batch.scene_ids} for batches in (zero, one)]
    assert not names[0] & names[1]
    assert [batch.num_views for batch in zero] == [batch.num_views for batch in one]


def test_views_keep_their_own_truth() -> None:
    """Chosen views are views of the rendered scene, whole: picture, depth and camera belong together."""
    data = make()
    batch = data.training_batch(0)
    plain = make(reuse=1, pool=1, stages=[Stage(from_step=0, image_size=14, views=(3, 3), batch_size=4)])
    every = plain.training_batch(0)
    for scene, name in enumerate(batch.scene_ids):
        source = every.scene_ids.index(name)
        for view, frame in enumerate(batch.frame_ids[scene]):
            there = every.frame_ids[source].index(frame)
            for field in ("images", "depth", "cam_from_world", "intrinsics", "world_points"):
                assert torch.equal(getattr(batch, field)[scene, view], getattr(every, field)[source, there])


def test_colours_change_alone_and_stay_in_range() -> None:
    plain, colourful = make().training_batch(1), make(color_jitter=0.5).training_batch(1)
    assert torch.equal(plain.depth, colourful.depth)
    assert not torch.allclose(plain.images, colourful.images, atol=0.02)
    assert 0 <= colourful.images.min() <= colourful.images.max() <= 1
    images = 0.1 + 0.5 * torch.rand(2, 3, 3, 6, 5)
    torch.testing.assert_close(jitter_colors(images, torch.ones(2, 3, 3)), images)
    factors = torch.ones(2, 3, 3)
    factors[1, 2, 0] = 1.5
    brighter = images.clone()
    brighter[1, 2] *= 1.5
    torch.testing.assert_close(jitter_colors(images, factors), brighter)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stages": []}, "the first must be 0"),
        ({"stages": STAGES[1:]}, "the first must be 0"),
        ({"stages": [STAGES[0], STAGES[0]]}, "each later than the last"),
        ({"reuse": 0}, "reuse"),
        ({"color_jitter": 1.0}, "color_jitter"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**changes)


@pytest.mark.parametrize("views", [(0, 2), (3, 2), (2, 5)])
def test_impossible_views_are_refused(views: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="least and the most views"):
        Stage(from_step=3, image_size=14, views=views, batch_size=1, rendered_views=4)
