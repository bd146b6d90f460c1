"""Scenes of pre-training as a pure function of the step: who is seen when, with how many views, and how often."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter, deque
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorasub.data import PretrainingScenes, SceneKind, Stage
from lorasub.data.augmentation import jitter_colors
from lorasub.data.curriculum import PoolPlan, SceneMixture
from lorasub.data.pretraining import BlocksOfSteps, StepLoader, StepScenes
from lorasub.errors import ConfigError
from lorasub.scenes.presets import SceneSampler
from lorasub.scenes.ranges import CameraRanges, SceneRanges
from lorasub.scenes.sensor import SensorNuisance

NARROW = SceneKind(ranges=SceneRanges(camera=CameraRanges(fov=(0.3, 0.31))))
STAGES = [
    Stage(from_step=0, image_size=14, views=(2, 2), batch_size=2, rendered_views=3),
    Stage(from_step=5, image_size=28, views=(1, 3), batch_size=3, scenes=[NARROW]),
]


def make(**changes: Any) -> PretrainingScenes:
    settings: dict[str, Any] = {"stages": STAGES, "reuse": 2, "pool": 2, "antialias": False, "shadow_samples": 1}
    return PretrainingScenes(**{**settings, **changes})


@pytest.mark.parametrize("renewed", [1, 2])
def test_a_step_is_the_same_whatever_came_before(renewed: int) -> None:
    changes = {"color_jitter": 0.3, "renewed": renewed, "sensor": SensorNuisance()}
    through, jump = make(**changes), make(**changes)
    for step in range(9):
        last = through.training_batch(step)
    alone = jump.training_batch(8)
    assert alone.scene_ids == last.scene_ids
    assert alone.frame_ids == last.frame_ids
    assert torch.equal(alone.images, last.images)
    assert torch.equal(alone.depth, last.depth)


def test_scenes_are_renewed_a_part_at_a_time() -> None:
    """Two blocks of one batch each, used twice: every two steps one of four scenes' names is new, and the oldest go."""
    stage = Stage(from_step=0, image_size=14, views=(1, 1), batch_size=2)
    data = make(stages=[stage], pool=2, renewed=1, reuse=2)
    seen = [set(data.training_batch(step).scene_ids) for step in range(40)]
    counts = Counter(name for names in seen for name in names)
    number = {name: int(name.rsplit("/", 1)[-1]) for name in counts}
    for step, names in enumerate(seen):
        oldest = step // 2  # the block of two scenes that entered first
        assert all(oldest <= number[name] // 2 <= oldest + 1 for name in names)
    steady = [counts[name] for name in counts if 4 <= number[name] < 36]
    assert set(steady) <= {1, 2, 3}
    assert sum(steady) == 2 * len(steady)


@given(blocks=st.integers(1, 4), renewed=st.integers(1, 3), reuse=st.integers(1, 4))
def test_the_plan_is_that_of_a_queue(blocks: int, renewed: int, reuse: int) -> None:
    """Against a queue that is run through step by step."""
    plan = PoolPlan(size=blocks * renewed, renewed=renewed, reuse=reuse)
    queue = deque(range(blocks))
    for step in range(60):
        new = None
        if step > 0 and step % (renewed * reuse) == 0:
            queue.popleft()
            new = queue[-1] + 1 if queue else step // (renewed * reuse)
            queue.append(new)
        assert plan.entering(step) == new
        assert plan.oldest(step) == queue[0]


@given(shares=st.lists(st.floats(0.1, 5.0), min_size=1, max_size=4), first=st.integers(0, 10**6))
def test_kinds_come_as_evenly_as_their_shares(shares: list[float], first: int) -> None:
    kinds = [SceneKind(share=share) for share in shares]
    mixture = SceneMixture(kinds, seed=0, num_views=1, stream="train")
    for length in (20, 300):
        found = np.bincount(mixture.kinds_of(range(first, first + length)), minlength=len(kinds))
        assert np.abs(found - length * np.array(shares) / sum(shares)).max() < 4


def test_scenes_of_a_mixture_are_those_of_its_presets() -> None:
    kinds = [SceneKind(share=2.0), SceneKind(preset="indoor")]
    mixture = SceneMixture(kinds, seed=3, num_views=2, stream="train")
    plain, indoor = mixture.describe(range(12))
    assert plain is not None
    assert indoor is not None
    assert len(plain) + len(indoor) == 12
    assert len(plain) == 8
    alone = SceneSampler(attribute="indoor", seed=3, num_views=2, stream="train/kind1").sample([5, 6])
    again = mixture.describe([5, 6])[1]
    for name in again.scene_ids if again is not None else ():
        assert torch.equal(
            again.cameras.cam_from_world[again.scene_ids.index(name)],
            alone.cameras.cam_from_world[alone.scene_ids.index(name)],
        )
    data = make(stages=[Stage(from_step=0, image_size=14, views=(1, 2), batch_size=4, scenes=kinds)])
    presets = {name.split("/")[0] for step in range(8) for name in data.training_batch(step).scene_ids}
    assert presets == {"all", "indoor"}


def test_workers_describe_ahead_what_the_process_itself_would() -> None:
    curriculum = make(pool=2, renewed=1).curriculum
    alone, helped = (StepLoader(BlocksOfSteps(curriculum, 0, 1), lambda: 3, workers) for workers in (0, 2))
    for mine, theirs in itertools.islice(zip(alone, helped, strict=True), 12):
        assert mine.step == theirs.step
        assert (mine.described is None) == (theirs.described is None)
        if mine.described is not None and theirs.described is not None:
            (one,), (two,) = pickle.loads(mine.described), pickle.loads(theirs.described)
            assert one.to_json() == two.to_json()
    assert [item.step for item in itertools.islice(alone, 4)] == [3, 4, 5, 6]


def test_descriptions_go_to_the_device_in_one_piece() -> None:
    """Lightning takes bytes for a sequence and would move them one by one: seven seconds for 200 scenes."""
    step = StepScenes(0, b"described")
    assert make().transfer_batch_to_device(step, torch.device("cpu"), 0) is step


def test_described_ahead_or_not_the_scenes_are_the_same() -> None:
    ahead, alone = make(pool=2, renewed=1), make(pool=2, renewed=1)
    for item in itertools.islice(BlocksOfSteps(ahead.curriculum, 0, 1), 12):
        described = None if item.described is None else pickle.loads(item.described)
        one = ahead.training_batch(item.step, described=described)
        two = alone.training_batch(item.step)
        assert one.scene_ids == two.scene_ids
        assert torch.equal(one.images, two.images)


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
        ({"pool": 4, "renewed": 3}, "multiple"),
        ({"num_workers": -1}, "num_workers"),
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
