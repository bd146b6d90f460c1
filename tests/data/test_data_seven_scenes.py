"""7-Scenes: its two cameras, on a made-up capture and on the real one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from lorasub.data.decoding import load_view, read_image
from lorasub.data.frames import Capture
from lorasub.data.readers.discovery import find_captures
from lorasub.data.readers.seven_scenes import SevenScenes
from lorasub.errors import DataError

COLOR, DEPTH, OFFSET = (60.0, 58.0, 31.0, 25.0), (66.0, 66.0, 32.0, 24.0), (-0.025, 0.01, 0.0)
READER = SevenScenes(color_camera=COLOR, depth_camera=DEPTH, color_from_depth=OFFSET)


@pytest.fixture
def root(tmp_path: Path, world) -> Path:
    depth_world = dataclasses.replace(world, focal=DEPTH[:2], center=DEPTH[2:], shift=OFFSET)
    for i in range(world.count):
        stem = tmp_path / "seq-01" / f"frame-{i:06d}"
        world.save_image(i, stem.with_suffix(".color.png"))
        depth_world.save_depth(i, stem.with_suffix(".depth.png"), unit=0.0001)  # fine steps keep the oracle sharp
        np.savetxt(stem.with_suffix(".pose.txt"), depth_world.world_from_cam[i])
    return tmp_path


def in_tenths(capture: Capture) -> Capture:
    frames = [
        dataclasses.replace(
            frame, depth=dataclasses.replace(frame.depth, depth=dataclasses.replace(frame.depth.depth, unit=0.0001))
        )
        for frame in capture.frames
    ]
    return dataclasses.replace(capture, frames=tuple(frames))


def test_depth_comes_into_the_color_camera(root: Path, world) -> None:
    capture = READER.read(root)
    assert capture.metric
    assert [frame.name for frame in capture.frames][:2] == ["seq-01/frame-000000", "seq-01/frame-000001"]
    # a warped value belongs to a point up to half a pixel away: up to 1.6 cm on this slanted plane
    world.check(in_tenths(capture), list(range(world.count)), depth_error=0.017, share=0.75)


def test_read_as_registered_the_plane_is_missed(root: Path, world) -> None:
    with pytest.raises(AssertionError):
        world.check(dataclasses.replace(READER, warp=False).read(root), list(range(world.count)), depth_error=0.017)


def test_lost_tracking_means_no_pose(root: Path) -> None:
    np.savetxt(root / "seq-01" / "frame-000002.pose.txt", np.full((4, 4), -np.inf))
    capture = READER.read(root)
    assert [frame.cam_from_world is None for frame in capture.frames] == [False, False, True, False, False, False]


def test_damage_is_named(root: Path) -> None:
    (root / "seq-01" / "frame-000001.pose.txt").write_text("1 0 0 nonsense\n" * 4)
    with pytest.raises(DataError, match=r"frame-000001\.pose\.txt: 'nonsense' is not a number"):
        READER.read(root)
    (root / "seq-01" / "frame-000001.pose.txt").write_text("1 0 0 0\n0 1 0 0\n")
    with pytest.raises(DataError, match=r"frame-000001\.pose\.txt: expected 4 rows"):
        READER.read(root)
    np.savetxt(root / "seq-01" / "frame-000001.pose.txt", np.diag([2.0, 1, 1, 1]))
    with pytest.raises(DataError, match=r"frame-000001.*is no rotation"):
        READER.read(root)


def test_a_missing_pose_is_a_lost_one(root: Path) -> None:
    (root / "seq-01" / "frame-000001.pose.txt").unlink()
    (root / "seq-01" / "frame-000003.pose.txt").write_text("")
    (capture,) = find_captures(root, READER)
    assert [frame.cam_from_world is None for frame in capture.frames] == [False, True, False, True, False, False]
    assert "2 frames have no pose" in capture.notes


def test_the_cameras_of_the_data_set_are_an_assumption(root: Path) -> None:
    with pytest.raises(DataError, match=r"image is 64 x 48, but nothing in the folder states its camera.* 640 x 480"):
        find_captures(root)
    notes = SevenScenes().read(root).notes
    assert any("assumed camera" in note and "525.0" in note and "585.0" in note for note in notes)


def test_other_intrinsics_mean_another_format(root: Path) -> None:
    reader = SevenScenes()
    assert reader.can_read(root)
    np.savetxt(root / "camera-intrinsics.txt", [[570.3, 0, 320], [0, 570.3, 240], [0, 0, 1]])
    assert not reader.can_read(root)
    np.savetxt(root / "camera-intrinsics.txt", [[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
    assert reader.can_read(root)


def kitchen(real_data: Path, *, warp: bool = True) -> Capture:
    (capture,) = find_captures(real_data / "7scenes_redkitchen", SevenScenes(warp=warp))
    return capture


def reprojection_error(capture: Capture, a: int, b: int) -> float:
    """Median relative difference between a's depth moved into b and b's own depth, in plain numpy."""
    views = [load_view(capture.frames[i]) for i in (a, b)]
    (da, ka, pa), (db, kb, pb) = ((v.depth.numpy(), v.intrinsics.numpy(), v.cam_from_world.numpy()) for v in views)
    y, x = np.nonzero(da)
    points = np.linalg.inv(ka) @ np.stack([x + 0.5, y + 0.5, np.ones_like(x)]) * da[y, x]
    points = pb[:, :3] @ (pa[:, :3].T @ (points - pa[:, 3:])) + pb[:, 3:]
    points = points[:, points[2] > 0.1]
    u, v = np.floor((kb @ points)[:2] / points[2]).astype(int)
    seen = (u >= 0) & (u < db.shape[1]) & (v >= 0) & (v < db.shape[0])
    z, other = points[2, seen], db[v[seen], u[seen]]
    error = np.abs(z - other)[other > 0] / other[other > 0]
    return float(np.median(error[error < 0.1]))  # more than 10 % is occlusion


def test_real_depth_fits_between_views(real_data: Path) -> None:
    capture = kitchen(real_data)
    assert len(capture) == 125
    # step 16 frames of the video = 2 of ours; the source states 0.44 % there and 0.73 % at step 80
    near = np.median([reprojection_error(capture, i, i + 2) for i in range(0, 120, 24)])
    far = np.median([reprojection_error(capture, i, i + 10) for i in range(0, 110, 24)])
    assert near < 0.0055
    assert far < 0.0095


def edge_score(depth: np.ndarray, gray: np.ndarray) -> float:
    """Mean colour gradient at depth edges, over its mean everywhere."""
    known = ndimage.binary_erosion(depth > 0, iterations=3)
    jump = ndimage.maximum_filter(depth, 3) - ndimage.minimum_filter(depth, 3)
    edges = (jump > 0.1) & known
    gradient = ndimage.gaussian_gradient_magnitude(gray, 1.5)
    return float(gradient[edges].mean() / gradient[known].mean())


def test_real_depth_edges_fit_the_color_only_when_warped(real_data: Path) -> None:
    warped, registered = kitchen(real_data), kitchen(real_data, warp=False)
    scores = []
    for i in range(0, 125, 25):
        gray = np.asarray(Image.fromarray(read_image(warped.frames[i].image)).convert("L"), dtype=float)
        scores.append([edge_score(load_view(c.frames[i]).depth.numpy(), gray) for c in (warped, registered)])
    with_warp, without = np.mean(scores, axis=0)
    assert with_warp > 1.4 * without
