"""Augmentation: what it changes, what it leaves alone, and that it is a function of seed and step only."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lorasub.data.augmentation import Augmentation
from lorasub.data.real import PosedRGBD
from lorasub.errors import ConfigError
from lorasub.structures import SceneBatch

ALWAYS = {"probability": 1.0}
NOTHING = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "blur": 0.0, "noise": 0.0}


def scenes(count: int, views: int = 3, size: int = 24) -> SceneBatch:
    """The same picture in every view of every scene."""
    image = torch.rand(3, size, size, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
    shape = (count, views)
    return SceneBatch(
        images=image.expand(*shape, -1, -1, -1).clone(),
        intrinsics=torch.eye(3).expand(*shape, -1, -1),
        cam_from_world=torch.eye(3, 4).expand(*shape, -1, -1),
        pose_valid=torch.ones(shape, dtype=torch.bool),
        depth=torch.ones(*shape, size, size),
        valid=torch.ones(*shape, size, size, dtype=torch.bool),
        world_points=torch.zeros(*shape, size, size, 3),
        scale=torch.ones(count),
        metric=torch.ones(count, dtype=torch.bool),
        scene_ids=tuple(map(str, range(count))),
        frame_ids=(tuple(map(str, range(views))),) * count,
    )


def test_it_depends_on_the_seed_only_and_leaves_the_random_stream_alone() -> None:
    batch, augmentation = scenes(2), Augmentation(**ALWAYS)
    state = torch.get_rng_state()
    once = augmentation.augment(batch, [5, 6]).images
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(augmentation.augment(batch, [5, 6]).images, once)
    assert not torch.equal(augmentation.augment(batch, [7, 6]).images[0], once[0])
    assert torch.equal(augmentation.augment(batch, [7, 6]).images[1], once[1])
    assert 0 <= once.min() <= once.max() <= 1


@pytest.mark.parametrize("part", [{"brightness": 0.5}, {"contrast": 0.5}, {"hue": 0.3}, {"blur": 2.0}])
def test_the_views_of_a_scene_change_together_unless_told_otherwise(part: dict) -> None:
    batch = scenes(1)
    alike = Augmentation(**ALWAYS, **NOTHING | part).augment(batch, [5]).images[0]
    assert (alike[0] - batch.images[0, 0]).abs().max() > 0.01
    torch.testing.assert_close(alike[1], alike[0])
    torch.testing.assert_close(alike[2], alike[0])
    differing = Augmentation(**ALWAYS, same_over_views=False, **NOTHING | part).augment(batch, [5]).images[0]
    assert (differing[0] - differing[1]).abs().max() > 1e-3


def test_noise_has_its_strength_and_is_another_in_each_view() -> None:
    batch = scenes(40, views=2, size=32)
    noisy = Augmentation(**ALWAYS, **NOTHING | {"noise": 0.05}).augment(batch, list(range(40))).images
    difference = noisy - batch.images
    strength = difference.std(dim=(2, 3, 4))  # [B, S]
    assert strength.max() < 0.055
    assert strength.mean() == pytest.approx(0.025, abs=0.006)  # uniform between 0 and 0.05
    torch.testing.assert_close(strength[:, 0], strength[:, 1], rtol=0.1, atol=1e-4)
    a, b = (difference[:, view].flatten(1) for view in (0, 1))
    correlation = (a * b).mean() / (a.square().mean() * b.square().mean()).sqrt()
    assert abs(correlation) < 0.02


def test_each_part_is_used_as_often_as_asked() -> None:
    batch = scenes(200, views=1, size=8)
    augmentation = Augmentation(**NOTHING | {"brightness": 0.5}, probability=0.25)
    changed = (augmentation.augment(batch, list(range(200))).images != batch.images).flatten(1).any(1)
    assert 0.15 < changed.float().mean() < 0.35
    untouched = Augmentation(**NOTHING).augment(batch, list(range(200)))
    assert torch.equal(untouched.images, batch.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hue": 0.6}, "hue is between 0 and 0.5, got 0.6"), ({"blur": -1.0}, "blur is a standard deviation, got -1")],
)
def test_wrong_strengths_are_told(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Augmentation(**options)


def at_step(step: int, *, rank: int = 0, ranks: int = 1, training: bool = True) -> PosedRGBD:
    data = PosedRGBD("unused", augmentation=Augmentation(**ALWAYS))
    progress = SimpleNamespace(total=SimpleNamespace(processed=step))
    data.trainer = SimpleNamespace(
        training=training,
        world_size=ranks,
        global_rank=rank,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )
    return data


def test_only_training_is_augmented_anew_in_each_step() -> None:
    batch = scenes(2)
    assert at_step(4, training=False).on_after_batch_transfer(batch, 0) is batch
    assert PosedRGBD("unused", augmentation=Augmentation()).on_after_batch_transfer(batch, 0) is batch
    fourth = at_step(4).on_after_batch_transfer(batch, 0).images
    assert torch.equal(at_step(4).on_after_batch_transfer(batch, 0).images, fourth)
    assert not torch.equal(at_step(5).on_after_batch_transfer(batch, 0).images, fourth)
    assert not torch.equal(fourth[0], fourth[1])


def test_two_processes_augment_as_one_with_the_doubled_batch() -> None:
    whole = at_step(4).on_after_batch_transfer(scenes(4), 0).images
    for rank in (0, 1):
        part = at_step(4, rank=rank, ranks=2).on_after_batch_transfer(scenes(2), 0).images
        torch.testing.assert_close(part, whole[rank::2])
