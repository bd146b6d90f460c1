"""Scene batches keep their promises about shapes, masks and names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scene_examples import random_scenes

from lorasub.errors import DataError
from lorasub.structures import Predictions, SceneBatch, require_scenes
from lorasub.subspaces import LayerSubspace, SubspaceBasis


def make(b: int = 2, s: int = 3, h: int = 4, w: int = 5, prefix: str = "scene") -> SceneBatch:
    return SceneBatch(
        images=torch.rand(b, s, 3, h, w),
        intrinsics=torch.eye(3).expand(b, s, 3, 3),
        cam_from_world=torch.eye(4)[:3].expand(b, s, 3, 4) + torch.rand(b, s, 1, 1),
        pose_valid=torch.rand(b, s) > 0.5,
        depth=torch.rand(b, s, h, w),
        valid=torch.rand(b, s, h, w) > 0.5,
        world_points=torch.rand(b, s, h, w, 3),
        scale=torch.ones(b),
        metric=torch.ones(b, dtype=torch.bool),
        scene_ids=tuple(f"{prefix}{i}" for i in range(b)),
        frame_ids=tuple(tuple(f"{i}/{j}" for j in range(s)) for i in range(b)),
    )


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_concatenation_is_what_it_was_made_of(first: int, second: int, views: int) -> None:
    a, b = make(first, views, prefix="a"), make(second, views, prefix="b")
    joined = SceneBatch.concatenate([a, b])
    assert len(joined) == first + second
    assert joined.num_views == views
    assert joined.scene_ids == a.scene_ids + b.scene_ids
    assert torch.equal(joined.depth[:first], a.depth)
    assert torch.equal(joined.valid[first:], b.valid)


def test_sizes_must_agree() -> None:
    with pytest.raises(DataError, match="different sizes"):
        SceneBatch.concatenate([make(), make(h=6)])
    with pytest.raises(DataError, match="empty"):
        SceneBatch.concatenate([])


@pytest.mark.parametrize(
    "name", ["depth", "valid", "intrinsics", "cam_from_world", "world_points", "scale", "pose_valid"]
)
def test_a_wrong_shape_is_named(name: str) -> None:
    batch = make()
    with pytest.raises(DataError, match=name):
        batch.replace(**{name: getattr(batch, name)[..., :1, :]} if name != "scale" else {"scale": torch.ones(9)})


def test_names_must_be_one_per_scene_and_view() -> None:
    with pytest.raises(DataError, match="scene_ids"):
        make().replace(scene_ids=("one",))
    with pytest.raises(DataError, match="frame_ids"):
        make().replace(frame_ids=(("a",), ("b",)))


def test_selected_views_are_those_views() -> None:
    batch = make(s=4)
    chosen = batch.select_views([2, 0])
    assert torch.equal(chosen.images, batch.images[:, [2, 0]])
    assert chosen.frame_ids == tuple((names[2], names[0]) for names in batch.frame_ids)
    assert torch.equal(chosen.scale, batch.scale)
    own = batch.select_views([[3, 1], [0, 2]])
    assert torch.equal(own.depth, torch.stack((batch.depth[0, [3, 1]], batch.depth[1, [0, 2]])))
    assert own.frame_ids == tuple(
        (batch.frame_ids[i][a], batch.frame_ids[i][b]) for i, (a, b) in enumerate([(3, 1), (0, 2)])
    )


@pytest.mark.parametrize(
    "move",
    [lambda b: b.to(torch.float64), lambda b: b.to("cpu", torch.float64), lambda b: b.to(dtype=torch.float64)],
)
def test_casting_leaves_masks_alone(move: Callable[[SceneBatch], SceneBatch]) -> None:
    batch = move(make())
    assert batch.depth.dtype == torch.float64
    assert batch.valid.dtype == batch.pose_valid.dtype == batch.metric.dtype == torch.bool


def test_points_need_depth_and_pose() -> None:
    batch = make()
    for scene in range(2):
        for view in range(3):
            expected = (
                batch.valid[scene, view] if batch.pose_valid[scene, view] else torch.zeros(4, 5, dtype=torch.bool)
            )
            assert torch.equal(batch.points_valid[scene, view], expected)


def test_the_last_pose_encoding_is_the_answer() -> None:
    first, last = torch.zeros(1, 1, 9), torch.ones(1, 1, 9)
    assert Predictions(pose_encodings=(first, last)).pose_encoding is last
    assert Predictions().pose_encoding is None


def test_predictions_move_whole() -> None:
    moved = Predictions(pose_encodings=(torch.zeros(1, 1, 9),), depth=torch.ones(1, 1, 2, 2)).to(torch.float64)
    assert moved.pose_encodings[0].dtype == moved.depth.dtype == torch.float64
    assert moved.world_points is None


def test_labels_and_object_masks_may_be_absent_or_partly_there() -> None:
    plain, labelled = make(), make(prefix="labelled")
    masks = torch.rand(2, 3, 4, 5) > 0.5
    labelled = labelled.replace(labels=torch.tensor([0, 1]), object_masks=masks)
    assert SceneBatch.concatenate([plain, plain]).labels is None
    joined = SceneBatch.concatenate([plain, labelled])
    assert joined.labels is not None
    assert joined.object_masks is not None
    assert joined.labels.tolist() == [-1, -1, 0, 1]
    assert joined.labels.dtype == torch.int64
    assert not joined.object_masks[:2].any()
    assert torch.equal(joined.object_masks[2:], masks)
    assert torch.equal(joined.select_views([2, 0]).object_masks, joined.object_masks[:, [2, 0]])
    with pytest.raises(DataError, match="object_masks"):
        make().replace(object_masks=masks[:1])


def test_scenes_are_picked_with_all_that_belongs_to_them() -> None:
    batch = random_scenes(3, 2, (4, 6))
    masks = torch.rand(3, 2, 4, 6) > 0.5
    for scenes in (batch, batch.replace(labels=torch.tensor([4, 5, 6]), object_masks=masks)):
        picked = scenes.select_scenes([2, 0, 2])
        assert picked.scene_ids == tuple(scenes.scene_ids[i] for i in (2, 0, 2))
        assert torch.equal(picked.images, scenes.images[[2, 0, 2]])
        assert torch.equal(picked.world_points[1], scenes.world_points[0])
        if scenes.labels is None:
            assert picked.labels is None
        else:
            assert picked.labels is not None
            assert picked.object_masks is not None
            assert picked.labels.tolist() == [6, 4, 6]
            assert torch.equal(picked.object_masks, masks[[2, 0, 2]])


def test_from_views_derives_what_is_not_given() -> None:
    batch = SceneBatch.from_views(torch.rand(2, 3, 28, 42), frame_ids=["a", "b"], scene_id="garden")
    assert (len(batch), batch.num_views, batch.image_size) == (1, 2, (28, 42))
    assert not batch.valid.any()
    assert not batch.pose_valid.any()
    assert batch.scene_ids == ("garden",)
    assert batch.frame_ids == (("a", "b"),)
    assert batch.intrinsics[0, 1].tolist() == [[42, 0, 21], [0, 42, 14], [0, 0, 1]]


def test_from_views_puts_points_where_depth_and_cameras_say() -> None:
    k = torch.tensor([[10.0, 0, 3], [0, 20, 2], [0, 0, 1]])
    depth = torch.full((2, 4, 6), 2.0)
    depth[0, 1, 2] = float("nan")
    depth[1, 0, 0] = -1
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, :3, 3] = torch.tensor([0.5, 0, 1])
    batch = SceneBatch.from_views(
        [torch.zeros(3, 4, 6, dtype=torch.uint8), torch.full((3, 4, 6), 255, dtype=torch.uint8)],
        depth,
        intrinsics=k,
        cam_from_world=poses,
        valid=torch.arange(24).reshape(1, 4, 6).expand(2, 4, 6) != 23,
        metric=True,
        label=1,
    )
    assert batch.images[0, 1].unique().tolist() == [1.0]
    assert (~batch.valid).nonzero().tolist() == [[0, 0, 1, 2], [0, 0, 3, 5], [0, 1, 0, 0], [0, 1, 3, 5]]
    assert batch.depth[0, 0, 1, 2] == 0
    # pixel (row 3, column 4) of the second view: the centre is at (4.5, 3.5)
    assert batch.world_points[0, 1, 3, 4].tolist() == pytest.approx(
        [(4.5 - 3) / 10 * 2 - 0.5, (3.5 - 2) / 20 * 2, 2 - 1]
    )
    assert batch.metric.tolist() == [True]
    assert batch.labels.tolist() == [1]


def test_from_views_takes_nan_for_a_lost_pose() -> None:
    poses = torch.eye(3, 4).repeat(3, 1, 1)
    poses[1] = float("nan")
    batch = SceneBatch.from_views(
        torch.rand(3, 3, 4, 6), torch.ones(3, 4, 6), intrinsics=torch.eye(3), cam_from_world=poses
    )
    assert batch.pose_valid.tolist() == [[True, False, True]]
    assert batch.cam_from_world[0, 1].tolist() == torch.eye(3, 4).tolist()
    assert not batch.world_points[0, 1].any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"images": {"image": torch.rand(2, 3, 4, 6)}}, "images is a dictionary with the keys image"),
        ({"images": torch.rand(2, 4, 6, 3)}, r"images must be \[S, 3, H, W\], got \[2, 4, 6, 3\]"),
        ({"images": torch.rand(2, 3, 4, 6) * 255}, "uint8, or float between 0 and 1"),
        ({"images": [torch.rand(3, 4, 6), torch.rand(3, 5, 6)]}, "tensors of one size"),
        ({"depth": torch.ones(2, 6, 4)}, r"depth must be \[2, 4, 6\], got \[2, 6, 4\]"),
        ({"cam_from_world": torch.eye(3, 4).repeat(2, 1, 1)}, "poses need intrinsics"),
        ({"cam_from_world": torch.eye(3, 4), "intrinsics": torch.eye(3)}, r"cam_from_world must be \[2, 3, 4\]"),
        ({"intrinsics": torch.eye(3).repeat(3, 1, 1)}, r"intrinsics must be \[2, 3, 3\], got \[3, 3, 3\]"),
    ],
)
def test_from_views_names_what_does_not_fit(arguments: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        SceneBatch.from_views(**{"images": torch.rand(2, 3, 4, 6), **arguments})


def test_a_batch_that_is_a_dictionary_is_told_what_to_be() -> None:
    batch = make()
    assert require_scenes(batch) is batch
    with pytest.raises(DataError, match=r"this data gives a dict with the keys image, depth.*SceneBatch\.from_views"):
        require_scenes({"image": 1, "depth": 2})


def test_reprs_show_shapes() -> None:
    text = repr(make())
    assert "images=float32[2, 3, 3, 4, 5]" in text
    assert "pose_valid=bool[2, 3]" in text
    assert "scene_ids=('scene0', 'scene1')" in text
    assert len(text) < 600
    predictions = Predictions(pose_encodings=(torch.rand(2, 3, 9),) * 5, depth=torch.rand(2, 3, 4, 5))
    assert repr(predictions).startswith("Predictions(pose_encodings=(float32[2, 3, 9], ")
    assert "depth=float32[2, 3, 4, 5]" in repr(predictions)
    layer = LayerSubspace(U=torch.eye(6)[:, :2], V=torch.eye(4)[:, :2], S=torch.ones(2))
    basis = SubspaceBasis(layers={f"blocks.{i}": layer for i in range(40)})
    assert "U=float32[6, 2]" in repr(basis)
    assert len(repr(basis)) < 900
