"""Mixtures of captures, splits by capture, views by overlap, sets for evaluation."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scene_examples import random_scenes

import lorasub.data.decoding as decoding
from lorasub.data.decoding import View
from lorasub.data.frames import Frame
from lorasub.data.readers.seven_scenes import SevenScenes
from lorasub.data.real import PosedRGBD
from lorasub.data.sources import CaptureSource, EvaluationSet, HeldOut
from lorasub.data.splits import References
from lorasub.data.view_sampling import Candidates, OverlapSampling
from lorasub.errors import ConfigError, DataError
from lorasub.exports.scene_folders import write_capture

READER = SevenScenes(color_camera=(60, 58, 31, 25), warp=False)


def write(folder: Path, world, frames: range) -> Path:
    for i in frames:
        stem = folder / f"frame-{i:06d}"
        world.save_image(i, stem.with_suffix(".color.png"))
        world.save_depth(i, stem.with_suffix(".depth.png"))
        np.savetxt(stem.with_suffix(".pose.txt"), world.world_from_cam[i])
    return folder


@pytest.fixture
def folders(tmp_path: Path, world) -> Path:
    """``big`` holds 9 frames in two captures, ``small`` 3 in one."""
    world.count = 12
    write(tmp_path / "big" / "left", world, range(5))
    write(tmp_path / "big" / "right", world, range(5, 9))
    write(tmp_path / "small", world, range(9, 12))
    return tmp_path


def module(base: Path, root, **options) -> PosedRGBD:
    defaults = {"format": READER, "num_views": 2, "image_size": 28, "val_fraction": 0, "base_folder": str(base)}
    return PosedRGBD(root, **defaults | options)


def references(data: PosedRGBD, epoch: int = 0) -> list[str]:
    """capture/frame of every scene of an epoch."""
    dataset = data.dataset("train")
    return [dataset[epoch, index].scene_ids[0] for index in range(len(dataset))]


# ------------------------------------------------------------------------------------------------------- references


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_without_wishes_every_frame_is_a_reference_once(frames: list[int]) -> None:
    for epoch in (0, 3):
        order = References(frames)
        found = [order.of(epoch, index) for index in range(len(order))]
        assert sorted(found) == [(c, f) for c, count in enumerate(frames) for f in range(count)]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.1, 10)), min_size=1, max_size=5),
    st.integers(1, 200),
    st.integers(0, 50),
)
def test_shares_are_those_of_the_weights(sources: list[tuple[int, float]], length: int, epoch: int) -> None:
    frames, weights = [s[0] for s in sources], np.array([s[1] for s in sources])
    order = References(frames, list(weights), length)
    assert len(order) == length
    found = [order.of(epoch, index) for index in range(length)]
    assert all(0 <= frame < frames[capture] for capture, frame in found)
    counts = Counter(capture for capture, _ in found)
    for capture, wanted in enumerate(weights / weights.sum() * length):
        assert abs(counts[capture] - wanted) < 1
        # no frame comes twice as long as others have not come at all
        times = Counter(frame for c, frame in found if c == capture)
        assert not times or max(times.values()) <= -(-counts[capture] // frames[capture])


def test_short_epochs_reach_all_frames_in_the_end_and_spread_over_them() -> None:
    order = References([100], None, 10)
    first = [order.of(0, index)[1] for index in range(10)]
    assert first == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert {order.of(epoch, index)[1] for epoch in range(30) for index in range(10)} == set(range(100))


def test_sources_are_mixed_by_weight(folders: Path) -> None:
    root = [CaptureSource(root="big", format=READER), CaptureSource(root="small", format=READER, weight=3)]
    names = references(module(folders, root, scenes_per_epoch=20))
    counts = Counter(name.rpartition("/")[0] for name in names)
    assert counts["small"] == 15
    assert counts["big/left"] + counts["big/right"] == 5
    # without weights all frames count alike
    assert len(set(references(module(folders, ["big", "small"])))) == 12
    # a plain folder beside a weighted one weighs 1
    names = references(module(folders, ["big", CaptureSource(root="small", format=READER, weight=3)]))
    assert sum(name.startswith("small") for name in names) == 9


def test_a_weight_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="somewhere: the weight of a source must be positive, got 0"):
        CaptureSource(root="somewhere", weight=0)


def test_whole_captures_are_held_out(folders: Path) -> None:
    data = module(folders, ["big", "small"], val_captures=["*/right"])
    assert [capture.name for capture in data.dataset("train").captures] == ["big/left", "small"]
    assert [capture.name for capture in data.dataset("val").captures] == ["big/right"]
    with pytest.raises(ConfigError, match=r"the 'val' split of big is empty.*\['elsewhere'\]"):
        module(folders, "big", val_captures=["elsewhere"]).dataset("val")


# -------------------------------------------------------------------------------------------------- sets to evaluate


def test_evaluation_sets_follow_the_held_out_part(folders: Path) -> None:
    sets = {
        "small": EvaluationSet(root="small", format=READER, scenes=2, num_views=3),
        "second": EvaluationSet(root=str(folders / "big" / "right"), format=READER),
    }
    data = module(folders, "big/left", val_fraction=0.4, evaluation=sets)
    loaders = data.test_dataloader()
    assert data.evaluation_names == ("held_out", "small", "second")
    assert len(loaders) == 3
    frames = [[names for batch in loader for names in batch.frame_ids] for loader in loaders]
    assert [names[0][-1] for names in frames[0]] == ["3", "4"]
    assert [len(names) for names in frames[1]] == [3, 3]
    assert sorted(names[0][-1] for names in frames[2]) == ["5", "6", "7", "8"]
    # fitting looks at none of them
    assert {name for batch in data.val_dataloader() for names in batch.frame_ids for name in names} <= {
        "frame-000003",
        "frame-000004",
    }


def test_an_evaluation_set_that_says_nothing_is_named(folders: Path, world) -> None:
    world.save_image(0, folders / "plain" / "a.png")
    data = module(folders, "big", evaluation={"plain": EvaluationSet(root="plain")}, val_fraction=0.5)
    with pytest.raises(DataError, match="plain: none of the 1 images has a pose or depth"):
        data.test_dataloader()


# --------------------------------------------------------------------------------------------------- views by overlap


def plane_view(x: float, *, name: str = "", turn: float = 0.0, depth: float = 2.0, pose: bool = True) -> View:
    """A camera at (x, 0, 0) that looks along z at a wall, with a field of view of 90 degrees."""
    c, s = np.cos(turn), np.sin(turn)
    world_from_cam = np.array([[c, 0, s, x], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1.0]])
    return View(
        name=name,
        image=torch.zeros(3, 64, 64, dtype=torch.uint8),
        depth=torch.full((64, 64), depth),
        intrinsics=torch.tensor([[32.0, 0, 32], [0, 32, 32], [0, 0, 1]], dtype=torch.float64),
        cam_from_world=torch.from_numpy(np.linalg.inv(world_from_cam)[:3]) if pose else None,
    )


def candidates(views: list[View]) -> tuple[Candidates, list[int]]:
    frames = [Frame(name=str(i), image=Path("x"), cam_from_world=view.cam_from_world) for i, view in enumerate(views)]
    loaded: list[int] = []

    def load(index: int) -> View:
        loaded.append(index)
        return views[index]

    return Candidates(frames, load), loaded


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 1.0), (1.0, 0.75), (-2.0, 0.5), (3.0, 0.25), (5.0, 0.0)])
def test_overlap_of_two_cameras_before_a_wall(shift: float, expected: float) -> None:
    # the wall at 2 is seen over a width of 4
    found, _ = candidates([plane_view(0), plane_view(shift)])
    assert found.overlap(0, 1) == pytest.approx(expected, abs=1 / 32)


def test_what_is_hidden_does_not_overlap() -> None:
    # the other camera looks at a board close before it: everything of the wall behind is hidden
    found, _ = candidates([plane_view(0), plane_view(0, depth=1.0), plane_view(0, depth=0.0)])
    assert found.overlap(0, 1) == 0
    assert found.overlap(1, 0) == 1  # the board is before the wall that the first camera sees
    assert found.overlap(0, 2) == 1  # nothing is known to be in the way
    assert found.overlap(2, 0) is None


def test_overlap_needs_poses_and_turns_with_the_camera() -> None:
    views = [plane_view(0), plane_view(0, turn=np.pi), plane_view(0, pose=False), plane_view(0, turn=np.pi / 4)]
    found, _ = candidates(views)
    assert found.overlap(0, 1) == 0
    assert found.overlap(0, 2) is None
    # turned by 45 degrees, with half of 90 degrees in common: a half of the image, in columns
    free = [plane_view(0), plane_view(0, turn=np.pi / 4, depth=0.0)]
    assert candidates(free)[0].overlap(0, 1) == pytest.approx(0.5, abs=0.1)


def test_frames_that_look_elsewhere_are_not_decoded() -> None:
    views = [plane_view(0), plane_view(1), plane_view(50)]
    frames = [
        Frame(name=str(i), image=Path("x"), cam_from_world=v.cam_from_world, intrinsics=v.intrinsics)
        for i, v in enumerate(views)
    ]
    loaded: list[int] = []
    found = Candidates(frames, lambda index: loaded.append(index) or views[index])
    assert found.overlap(0, 2) == 0
    assert found.overlap(0, 1) == pytest.approx(0.75, abs=1 / 32)
    assert loaded == [0, 1]


def test_views_are_drawn_within_the_overlap() -> None:
    views = [
        plane_view(0),
        plane_view(3.6),
        plane_view(1),
        plane_view(1.4),
        plane_view(0.05),
        plane_view(0, pose=False),
    ]
    found, _ = candidates(views)
    sampling = OverlapSampling(overlap=(0.5, 0.9))
    orders = {tuple(sampling.rank(found, 0, np.random.default_rng(seed))) for seed in range(20)}
    # 2 and 3 are inside in either order; 4 overlaps by 0.99 (0.09 too much), 1 by 0.1 (0.4 too little)
    assert orders == {(0, 2, 3, 4, 1, 5), (0, 3, 2, 4, 1, 5)}
    # a reference without depth or pose takes its neighbours in time
    assert list(sampling.rank(found, 5, np.random.default_rng(0))) == [5, 4, 3, 2, 1, 0]


def test_overlap_sampling_in_a_data_module(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = decoding.read_image
    monkeypatch.setattr(decoding, "read_image", lambda path, **options: calls.append(path) or original(path, **options))
    data = module(folders, ["big", "small"], sampling=OverlapSampling(overlap=(0.2, 0.95)), cache_mb=0)
    first = [data.dataset("train")[0, index].frame_ids for index in range(12)]
    again = module(folders, ["big", "small"], sampling=OverlapSampling(overlap=(0.2, 0.95)))
    assert first == [again.dataset("train")[0, index].frame_ids for index in range(12)]
    before = len(calls)
    assert [data.dataset("train")[0, index].frame_ids for index in range(12)] == first
    assert len(calls) - before == 12 * (1 + 2)  # reference, then its two views: nothing is decoded for overlaps again
    with pytest.raises(ConfigError, match="overlap must be an increasing pair of shares"):
        OverlapSampling(overlap=(0.9, 0.3))


@pytest.mark.parametrize("weights", [None, [1.0] * 19 + [30.0]])
def test_captures_with_less_than_a_scene_in_an_epoch_take_turns(weights: list[float] | None) -> None:
    frames = [7 + capture for capture in range(20)]
    shares = np.array(weights or frames) / sum(weights or frames)
    order = References(frames, weights, 10)
    found = Counter(order.of(epoch, index) for epoch in range(4000) for index in range(10))
    assert set(found) == {(capture, frame) for capture, count in enumerate(frames) for frame in range(count)}
    for capture, share in enumerate(shares):
        own = [found[capture, frame] for frame in range(frames[capture])]
        assert sum(own) / 40_000 == pytest.approx(share, rel=0.02)
        assert max(own) - min(own) <= max(3, 0.1 * max(own))


def test_captures_of_folders_with_one_name_are_told_apart(tmp_path: Path) -> None:
    """Scenes, results and the files of predictions have their names: the second would replace the first."""
    one = random_scenes(1, 4, (28, 28), seed=0, dtype=torch.float32)
    for place in ("a/scan", "b/scan", "b/c/scan", "other"):
        write_capture(tmp_path / place, one)
    roots = [str(tmp_path / place) for place in ("a/scan", "b/scan", "b/c/scan", "other")]
    data = PosedRGBD(roots, num_views=4, image_size=28, held_out=HeldOut(fraction=1.0))
    names = ["a/scan/000000", "b/scan/000000", "c/scan/000000", "other/000000"]
    assert [scenes.scene_ids[0] for scenes in data.predict_dataloader()] == names
    dataset = data.dataset("val")
    assert {dataset[index].scene_ids[0].rpartition("/")[0] for index in range(len(dataset))} == {
        name.rpartition("/")[0] for name in names
    }
    twice = PosedRGBD([roots[0], roots[0]], num_views=4, image_size=28)  # one folder twice is one capture
    assert {scenes.scene_ids for scenes in twice.predict_dataloader()} == {("scan/000000",)}


def test_two_frames_of_one_image_have_their_own_depth(tmp_path: Path) -> None:
    write_capture(tmp_path / "scan", random_scenes(1, 2, (28, 28), seed=0, dtype=torch.float32))
    path = tmp_path / "scan" / "capture.json"
    content = json.loads(path.read_text())
    content["frames"][1]["image"] = content["frames"][0]["image"]
    path.write_text(json.dumps(content))
    (scenes,) = PosedRGBD(str(tmp_path / "scan"), num_views=2, image_size=28).predict_dataloader()
    assert scenes.frame_ids == (("000000", "000001"),)
    assert torch.equal(scenes.images[0, 0], scenes.images[0, 1])
    assert not torch.equal(scenes.depth[0, 0], scenes.depth[0, 1])
