"""Parts of the check: interpretations undo mistakes, residuals are what they say, statistics against closed forms."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.transform import Rotation

from lorasub.data.check.claims import Claim
from lorasub.data.check.comparisons import Comparison
from lorasub.data.check.hypotheses import (
    AS_READ,
    POSE_MISTAKES,
    DepthCamera,
    Interpretation,
    focal_interpretations,
    order_interpretations,
)
from lorasub.data.check.matching import Matches, shows_one_picture, without_static
from lorasub.data.check.observations import _moving_matches, chosen_frames
from lorasub.data.check.residuals import Cameras, DepthPairs, MatchedPairs, cameras_of, depth_at
from lorasub.data.check.statistics import MOST, Estimate, PairEvidence, compare_residuals, over_pairs
from lorasub.data.check.verdicts import weigh
from lorasub.data.decoding import View, load_view
from lorasub.data.frames import pinhole
from lorasub.data.readers.pose_list import PoseList

INVERTED, OPENGL = list(POSE_MISTAKES)[:2]
BOTH = "poses the other way round, with OpenGL camera axes"
SCALAR_FIRST = "quaternions with the scalar first (w x y z)"


def undo(words: str, poses: torch.Tensor) -> torch.Tensor:
    return POSE_MISTAKES[words][1](poses)


def extrinsics(world_from_cam: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.linalg.inv(world_from_cam)[..., :3, :])


@pytest.mark.parametrize(
    ("words", "misread"),
    [
        # what the file holds if the interpretation is true, taken for OpenCV camera-to-world matrices
        (INVERTED, np.linalg.inv),
        (OPENGL, lambda pose: pose @ np.diag([1.0, -1, -1, 1])),
        (BOTH, lambda pose: np.diag([1.0, -1, -1, 1]) @ np.linalg.inv(pose)),
    ],
)
def test_an_interpretation_undoes_its_mistake(world, words: str, misread) -> None:
    true = world.world_from_cam
    np.testing.assert_allclose(undo(words, extrinsics(misread(true))), extrinsics(true), atol=1e-9)


def test_quaternions_in_the_other_order_are_undone(world) -> None:
    true = world.world_from_cam
    misread = true.copy()
    for pose in misread:
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        pose[:3, :3] = Rotation.from_quat([w, x, y, z]).as_matrix()  # a file with w x y z, read as x y z w
    np.testing.assert_allclose(undo(SCALAR_FIRST, extrinsics(misread)), extrinsics(true), atol=1e-9)


def test_every_right_handed_naming_of_axes_is_tried_once() -> None:
    axes = [words for words, (claim, _) in POSE_MISTAKES.items() if claim == Claim.AXES and "point right" in words]
    assert len(axes) == 24 - 2  # OpenCV's own and OpenGL's
    eye = torch.eye(3, 4)[None].double()
    turns = torch.cat([undo(words, eye)[..., :3] for words in axes])
    assert len(turns.unique(dim=0)) == 22
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(22, dtype=torch.float64))


def test_interpretations_of_intrinsics() -> None:
    k = pinhole(100.0, 110.0, 50.0, 40.0)
    size = (80, 100)
    changed = Interpretation(words="", focal=(1.2, 1.0), principal_point=(0.0, 0.1)).apply_to_intrinsics(k, size)
    assert changed.tolist() == [[pytest.approx(120), 0, 50], [0, 110, 50], [0, 0, 1]]
    swapped = Interpretation(words="", swap_focal=True, swap_principal_point=True).apply_to_intrinsics(k, size)
    assert swapped.tolist() == [[110, 0, 40], [0, 100, 50], [0, 0, 1]]
    resized = Interpretation(words="", camera_scale=0.5).apply_to_intrinsics(k, size)
    assert resized.tolist() == [[50, 0, 25], [0, 55, 20], [0, 0, 1]]
    assert "fx and fy swapped" in [other.words for other in focal_interpretations(k)]
    # equal focal lengths can be swapped by nobody
    assert "fx and fy swapped" not in [other.words for other in focal_interpretations(pinhole(100, 100.1, 50, 40))]


def test_orders_of_frames() -> None:
    poses = torch.arange(12.0)[:, None, None].expand(12, 3, 4)
    by_words = {other.words: other.poses(poses)[:, 0, 0].tolist() for other in order_interpretations(12)}
    assert by_words["poses of one frame later"][:-1] == list(range(1, 12))
    assert math.isnan(by_words["poses of one frame later"][-1])
    assert by_words["poses of one frame later, in a ring"] == [*range(1, 12), 0]
    assert by_words["poses in reverse order"] == list(range(11, -1, -1))
    text = [int(name) for name in sorted(map(str, range(12)))]
    assert by_words["images sorted as text (1, 10, 2) where poses are sorted by number"] == text


def test_a_depth_camera_moves_pixels_there_and_back() -> None:
    camera = DepthCamera(focal_ratio=1.11, offset=(0.025, 0.0), shift=(0.01, 0.0))
    k = pinhole(500.0, 500.0, 320.0, 240.0)
    pixels, depth = torch.rand(20, 2).double() * 400, torch.rand(20).double() + 1
    torch.testing.assert_close(camera.to_image(camera.to_depth(pixels, depth, k), depth, k), pixels)
    # a point 2 m ahead of the image's camera stands 25 mm to the left of the other one: 6.25 px of 500, times 1.11
    only = DepthCamera(focal_ratio=1.11, offset=(0.025, 0.0))
    seen = only.to_depth(torch.tensor([[320.0, 240.0]]).double(), torch.tensor([2.0]).double(), k)
    assert seen.tolist() == [[pytest.approx(320 - 6.25 * 1.11), pytest.approx(240)]]


@pytest.fixture
def views(tmp_path: Path, world) -> list[View]:
    for i in range(world.count):
        world.save_image(i, tmp_path / f"{i}.png")
        np.save(tmp_path / f"{i}.npy", world.depth(i))
        rows = [*world.world_from_cam[i, :3, 3], *world.quaternion(i)]
        with (tmp_path / "poses.txt").open("a") as file:
            file.write(" ".join(map(repr, map(float, rows))) + "\n")
    reader = PoseList(images="*.png", depth="*.npy", depth_unit=1, poses="poses.txt", camera=(60, 58, 30.5, 24.5))
    return [load_view(frame) for frame in reader.read(tmp_path).frames]


def all_cameras(views: list[View], interpretation: Interpretation = AS_READ) -> Cameras:
    poses = torch.stack([view.cam_from_world for view in views])
    return cameras_of(views, range(len(views)), poses, interpretation)


def matched_plane(world, views: list[View], i: int, j: int) -> MatchedPairs:
    """Points of the plane as both cameras see them, projected in numpy."""
    points = world.points(2).reshape(-1, 3)[::7]
    pixels = []
    for index in (i, j):
        camera = np.linalg.inv(world.world_from_cam[index])
        local = points @ camera[:3, :3].T + camera[:3, 3]
        pixels.append(torch.from_numpy((local @ world.intrinsics.T)[:, :2] / local[:, 2:]))
    return MatchedPairs.of({(i, j): Matches(*pixels)}, views)


def test_depth_errors_are_relative_differences(views: list[View]) -> None:
    cameras = all_cameras(views)
    assert float(DepthPairs.of([(1, 3)], views).errors(cameras).nanmedian()) < 0.004  # half a pixel on a slanted plane
    deeper = [*views]
    deeper[3] = View(
        name="deeper",
        image=views[3].image,
        depth=views[3].depth * 1.1,
        intrinsics=views[3].intrinsics,
        cam_from_world=views[3].cam_from_world,
    )
    found = float(DepthPairs.of([(1, 3)], deeper).errors(cameras).nanmedian())
    assert found == pytest.approx(0.1 / 1.1, abs=0.004)
    behind = Cameras(cameras.poses * torch.tensor([[-1.0], [1], [-1]]), cameras.intrinsics)
    behind.poses[1] = cameras.poses[1]
    assert bool(DepthPairs.of([(1, 3)], views).errors(behind).isnan().all())


def test_matched_points_lie_on_their_lines_and_move_onto_their_matches(world, views: list[View]) -> None:
    pairs, cameras = matched_plane(world, views, 0, 4), all_cameras(views)
    assert float(pairs.epipolar(cameras).nan_to_num().max()) < 1e-9
    assert float(pairs.points(cameras).nanmedian()) < 0.3  # depth of the pixel, not of the point
    for words in (INVERTED, OPENGL, BOTH, SCALAR_FIRST):
        wrong = all_cameras(views, Interpretation(words=words, poses=POSE_MISTAKES[words][1]))
        assert float(pairs.epipolar(wrong).nanmedian()) > 1
    nearer = all_cameras(views, Interpretation(words="", depth_factor=0.8))
    torch.testing.assert_close(pairs.epipolar(nearer), pairs.epipolar(cameras), equal_nan=True)
    assert float(pairs.points(nearer).nanmedian()) > 1


def test_cameras_in_one_place_have_no_lines(world, views: list[View]) -> None:
    pairs, cameras = matched_plane(world, views, 0, 4), all_cameras(views)
    cameras.poses[4] = cameras.poses[0]
    assert bool(pairs.epipolar(cameras).isnan().all())


def test_depth_at_takes_the_nearest_known_pixel() -> None:
    depth = torch.zeros(4, 5)
    depth[1, 2], depth[2, 3] = 7.0, 9.0
    found = depth_at(depth, torch.tensor([[2.5, 1.5], [3.1, 2.9], [0.5, 0.5], [math.nan, math.nan]]).double())
    assert found[:2].tolist() == [7, 9]
    assert bool(found[2:].isnan().all())


def test_what_stays_in_place_is_dropped_while_the_rest_moves() -> None:
    a = torch.rand(50, 2).double() * 100
    b = a + torch.tensor([20.0, 0.0])
    b[:20] = a[:20]  # a gripper
    assert len(without_static(Matches(a, b))) == 30
    assert len(without_static(Matches(a, a + 0.5))) == 50  # small motion is motion
    assert shows_one_picture(Matches(a, a + 0.1))
    assert not shows_one_picture(Matches(a, b))


def test_pairs_that_stay_in_place_do_not_outvote_those_that_move() -> None:
    start = torch.rand(60, 2, dtype=torch.float64) * 100
    matched = {
        (0, 1): Matches(start, start + 30),
        (0, 2): Matches(start, start + 0.2),
        (1, 2): Matches(start, start.clone()),
    }
    assert set(_moving_matches(matched)) == {(0, 1)}
    still = {pair: found for pair, found in matched.items() if pair != (0, 1)}
    assert set(_moving_matches(still)) == set(still)  # cameras that stand are seen to stand


def test_chosen_frames_hold_neighbours_and_others() -> None:
    assert chosen_frames(7, 12) == list(range(7))
    chosen = chosen_frames(1000, 12)
    assert len(chosen) == 12
    assert chosen[0] == 0
    assert max(chosen) == 999
    gaps = {b - a for a, b in itertools.pairwise(chosen)}
    assert 1 in gaps
    assert any(10 < gap < 60 for gap in gaps)


def test_evidence_grows_with_errors_and_is_limited() -> None:
    read = torch.rand(3, 200, generator=torch.Generator().manual_seed(0)).double() + 0.5
    evidence = compare_residuals(read, read * 1.2, 0.01)
    assert bool((evidence.mean > 0).all())
    swapped = compare_residuals(read * 1.2, read, 0.01)
    torch.testing.assert_close(swapped.mean, -evidence.mean)
    assert compare_residuals(read, read * 100, 0.01).mean.tolist() == [MOST] * 3
    assert compare_residuals(read, read, 0.01).weight.tolist() == [0] * 3
    read[0, 5:] = math.nan
    assert math.isnan(compare_residuals(read, read * 2, 0.01).mean[0])


def test_jackknife_over_views_against_its_formula() -> None:
    views = torch.tensor([(i, j) for i in range(6) for j in range(i + 1, 6)])
    effects = torch.tensor([0.3, 0.1, -0.05, 0.2, 0.0, 0.15])
    means = (effects[views].sum(dim=1) / 2).double()
    estimate = over_pairs(PairEvidence(means[:, None], means, torch.ones(15).double()), views)
    left = [float(means[(views != v).all(dim=1)].mean()) for v in range(6)]
    assert estimate.mean == pytest.approx(float(means.mean()))
    assert estimate.error == pytest.approx(math.sqrt(5 / 6 * sum((x - np.mean(left)) ** 2 for x in left)))
    assert estimate.freedom == 5
    # pairs that share a view are no independent witnesses: more uncertain than 15 would be
    assert estimate.error > float(means.std()) / math.sqrt(15)


def test_the_jackknife_holds_its_level() -> None:
    """Without any difference, at most a few percent of the alternatives are ruled out at 97.5 %."""
    generator = torch.Generator().manual_seed(1)
    views = torch.tensor([(i, j) for i in range(8) for j in range(i + 1, 8)])
    wrong = 0
    for _ in range(400):
        shared = torch.randn(8, generator=generator).double() * 0.1
        means = shared[views].sum(dim=1) + torch.randn(28, generator=generator).double() * 0.05
        wrong += over_pairs(PairEvidence(means[:, None], means, torch.ones(28).double()), views).above(0, 0.975)
    assert stats.binomtest(wrong, 400, 0.025, alternative="greater").pvalue > 0.001


def test_a_single_pair_proves_only_what_is_gross() -> None:
    views = torch.tensor([[0, 1]])
    ratios = torch.full((1, 100), 0.2).double()
    slight = over_pairs(PairEvidence(ratios, ratios.mean(dim=1), torch.ones(1).double()), views)
    assert not slight.above(0, 0.975)
    gross = over_pairs(PairEvidence(ratios * 2.5, ratios.mean(dim=1) * 2.5, torch.ones(1).double()), views)
    assert gross.above(0, 0.975)


def comparison(other: Interpretation, mean: float, kind: str = "epipolar") -> Comparison:
    return Comparison(other, kind, Estimate(mean, 0.01, 5))


def test_verdicts_from_comparisons() -> None:
    others = [
        Interpretation(words=f"{size}", claim=Claim.FOCAL_LENGTH, scale="focal length", size=size)
        for size in (-0.2, -0.1, -0.05, 0.05, 0.1, 0.2)
    ]
    found = [comparison(other, 0.5 if abs(other.size) > 0.07 else 0.0) for other in others]
    weighed = weigh(Claim.FOCAL_LENGTH, others, found)
    assert weighed.within == {"focal length": 0.1}
    assert weighed.finding().verdict == "not provable"  # 10 % is too coarse
    found = [comparison(other, 0.5) for other in others]
    finding = weigh(Claim.FOCAL_LENGTH, others, found).finding()
    assert (finding.verdict, finding.within) == ("proved", 0.05)
    better = [comparison(other, -0.4 if other.size == -0.1 else 0.5) for other in others]
    finding = weigh(Claim.FOCAL_LENGTH, others, better).finding()
    assert (finding.verdict, finding.better) == ("contradicted", "-0.1")
    # a kind that prefers what another kind rules out leaves the matter open
    contested = [*better, comparison(others[1], 0.5, "depth")]
    assert weigh(Claim.FOCAL_LENGTH, others, contested).finding().verdict == "not provable"
    # lines alone do not contradict where points with depth gain nothing
    neutral = [*better, comparison(others[1], 0.0, "points")]
    assert weigh(Claim.FOCAL_LENGTH, others, neutral).finding().verdict == "not provable"
    agreed = [*better, comparison(others[1], -0.4, "points")]
    assert weigh(Claim.FOCAL_LENGTH, others, agreed).finding().verdict == "contradicted"
    assert weigh(Claim.FOCAL_LENGTH, others, []).finding().verdict == "not provable"
    # and nothing is proved by what does not explain the images
    assert weigh(Claim.FOCAL_LENGTH, others, found).finding("why").verdict == "not provable"


def test_features_of_an_enlarged_image_are_in_its_own_pixels() -> None:
    from lorasub.data.check.matching import find_features

    y, x = np.mgrid[:60, :60] + 0.5
    blob = 30 + 200 * np.exp(-((x - 33.0) ** 2 + (y - 27.0) ** 2) / (2 * 4.0**2))
    image = torch.from_numpy(blob.round().astype(np.uint8)).expand(3, 60, 60)
    points = find_features(image, 3.0).points
    assert float(points.max()) < 60
    assert float((points - torch.tensor([33.0, 27.0]).double()).norm(dim=1).min()) < 0.5  # the blob's middle
