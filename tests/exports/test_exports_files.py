"""What is written comes back: by our readers, and by the libraries of others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation

from lorasub.data.decoding import load_view
from lorasub.data.readers.discovery import find_captures
from lorasub.data.real_scenes import SuccessiveScenes, ViewFormat
from lorasub.errors import DataError
from lorasub.exports.cameras import write_colmap, write_nerfstudio, write_tum
from lorasub.exports.images import write_depth_npy, write_depth_png, write_image
from lorasub.exports.point_cloud import (
    PointCloud,
    point_cloud_from_depth,
    point_cloud_from_points,
    read_ply,
    write_glb,
    write_ply,
)
from lorasub.exports.scene_folders import write_capture
from lorasub.structures import SceneBatch

VIEWS, HEIGHT, WIDTH = 3, 20, 28


@pytest.fixture
def cameras() -> tuple[torch.Tensor, torch.Tensor]:
    """Extrinsics ``[S, 3, 4]`` and intrinsics ``[S, 3, 3]`` from scipy's rotations."""
    rotations = Rotation.from_euler("xyz", [[0, 0, 0], [20, -30, 10], [5, 170, 90]], degrees=True).as_matrix()
    centers = np.array([[0, 0, 0], [0.5, -0.2, 0.1], [1.0, 2.0, 3.0]])
    poses = [np.hstack([r.T, -r.T @ c[:, None]]) for r, c in zip(rotations, centers, strict=True)]
    k = np.array([[30.0, 0, 13.0], [0, 31.0, 11.0], [0, 0, 1]])
    return torch.tensor(np.array(poses)).float(), torch.tensor(np.repeat(k[None], VIEWS, 0)).float()


@pytest.fixture
def batch(cameras: tuple[torch.Tensor, torch.Tensor]) -> SceneBatch:
    """A scene in other units than its source's: one unit is 2.5 m."""
    depth = 1 + torch.rand(1, VIEWS, HEIGHT, WIDTH)
    depth[0, 1, :5] = 0
    return SceneBatch(
        images=(torch.randint(0, 256, (1, VIEWS, 3, HEIGHT, WIDTH)) / 255).float(),
        intrinsics=cameras[1][None],
        cam_from_world=cameras[0][None],
        pose_valid=torch.tensor([[True, True, False]]),
        depth=depth,
        valid=depth > 0,
        world_points=torch.zeros(1, VIEWS, HEIGHT, WIDTH, 3),
        scale=torch.tensor([2.5]),
        metric=torch.tensor([True]),
        scene_ids=("some/scene",),
        frame_ids=(("a", "b", "c"),),
    )


def test_point_cloud_is_where_the_pixels_are(cameras: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, depth = torch.zeros(VIEWS, 3, HEIGHT, WIDTH), torch.zeros(VIEWS, HEIGHT, WIDTH)
    depth[1, 4, 9], images[1, :, 4, 9] = 2.0, torch.tensor([1.0, 0.5, 0.0])
    cloud = point_cloud_from_depth(images, depth, cameras[1], cameras[0])
    assert cloud.colors.tolist() == [[255, 128, 0]]
    local = np.array([(9.5 - 13) / 30, (4.5 - 11) / 31, 1]) * 2
    pose = cameras[0][1].double().numpy()
    np.testing.assert_allclose(cloud.points[0], pose[:, :3].T @ (local - pose[:, 3]), atol=1e-5)


def test_only_the_most_confident_points_are_kept() -> None:
    images, points = torch.rand(1, 3, 10, 10), torch.rand(1, 10, 10, 3)
    confidence = torch.arange(100.0).reshape(1, 10, 10)
    valid = torch.ones(1, 10, 10, dtype=torch.bool)
    valid[0, 9] = False  # the most confident ones are not valid
    cloud = point_cloud_from_points(images, points, valid, confidence=confidence, keep=0.2)
    assert torch.equal(cloud.points, points.reshape(-1, 3)[72:90])
    thinned = point_cloud_from_points(images, points, valid, max_points=7)
    assert len(thinned) == 7
    assert torch.equal(thinned.points[[0, -1]], points.reshape(-1, 3)[[0, 89]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0.0}, "keep is a fraction"),
        ({"keep": 0.5}, "needs a confidence"),
        ({"max_points": 0}, "at least 1"),
    ],
)
def test_wrong_point_cloud_options(options: dict, message: str) -> None:
    valid = torch.ones(1, 2, 2, dtype=torch.bool)
    with pytest.raises(DataError, match=message):
        point_cloud_from_points(torch.rand(1, 3, 2, 2), torch.rand(1, 2, 2, 3), valid, **options)


def test_a_cloud_of_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one valid point"):
        point_cloud_from_points(torch.rand(1, 3, 2, 2), torch.rand(1, 2, 2, 3), torch.zeros(1, 2, 2, dtype=torch.bool))
    nan = torch.full((1, 2, 2, 3), torch.nan)
    with pytest.raises(DataError, match="at least one valid point"):
        point_cloud_from_points(torch.rand(1, 3, 2, 2), nan, torch.ones(1, 2, 2, dtype=torch.bool))


def test_ply_comes_back(tmp_path: Path) -> None:
    cloud = PointCloud(torch.randn(50, 3), torch.randint(0, 256, (50, 3), dtype=torch.uint8))
    write_ply(tmp_path / "new" / "cloud.ply", cloud)
    again = read_ply(tmp_path / "new" / "cloud.ply")
    assert torch.equal(again.points, cloud.points)
    assert torch.equal(again.colors, cloud.colors)
    header = (tmp_path / "new" / "cloud.ply").read_bytes()[:200]
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\n")
    assert b"element vertex 50" in header
    (tmp_path / "cut.ply").write_bytes(b"ply\nformat")
    with pytest.raises(DataError, match=r"cut\.ply: cannot be read as PLY"):
        read_ply(tmp_path / "cut.ply")


def test_glb_has_gltf_axes_and_cameras(tmp_path: Path, cameras: tuple[torch.Tensor, torch.Tensor]) -> None:
    cloud = PointCloud(torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 4.0]]), torch.tensor([[255, 0, 0], [0, 9, 0]]).byte())
    poses, intrinsics = cameras
    write_glb(tmp_path / "a.glb", cloud, cam_from_world=poses, intrinsics=intrinsics, image_size=(HEIGHT, WIDTH))
    scene = trimesh.load(tmp_path / "a.glb")
    assert set(scene.geometry) == {"points", "camera_0", "camera_1", "camera_2"}
    transform, name = scene.graph["points"]
    points = trimesh.transform_points(scene.geometry[name].vertices, transform)
    np.testing.assert_allclose(points, [[1, -2, -3], [-1, -0.5, -4]], atol=1e-6)
    assert scene.geometry["points"].colors[:, :3].tolist() == [[255, 0, 0], [0, 9, 0]]


def test_depth_png(tmp_path: Path) -> None:
    depth = torch.tensor([[0.5, 0.0, 65.534], [torch.nan, -1.0, 1.2344]])
    write_depth_png(tmp_path / "d.png", depth)
    with Image.open(tmp_path / "d.png") as image:
        assert image.text["unit"] == "0.001"
        assert np.array(image).tolist() == [[500, 0, 65534], [0, 0, 1234]]
    with pytest.raises(DataError, match=r"70 does not fit into 16 bits with a unit of 0\.001.*at least 0\.0011"):
        write_depth_png(tmp_path / "d.png", torch.tensor([[70.0]]))
    assert (tmp_path / "d.png").stat().st_size > 0  # the old file is still there
    write_depth_png(tmp_path / "d.png", torch.tensor([[70.0]]), unit=0.01)
    with pytest.raises(DataError, match="one \\[H, W\\] image"):
        write_depth_png(tmp_path / "d.png", torch.ones(1, 2, 3))


def test_depth_npy(tmp_path: Path) -> None:
    depth = torch.rand(4, 5)
    write_depth_npy(tmp_path / "d.npy", depth)
    assert np.array_equal(np.load(tmp_path / "d.npy"), depth.numpy())


def test_tum_trajectory(tmp_path: Path, cameras: tuple[torch.Tensor, torch.Tensor]) -> None:
    write_tum(tmp_path / "t.txt", cameras[0], timestamps=[1.5, 2.5, 3.5])
    rows = np.loadtxt(tmp_path / "t.txt")
    assert rows[:, 0].tolist() == [1.5, 2.5, 3.5]
    for row, pose in zip(rows, cameras[0].double().numpy(), strict=True):
        np.testing.assert_allclose(Rotation.from_quat(row[4:]).as_matrix(), pose[:, :3].T, atol=1e-6)
        np.testing.assert_allclose(row[1:4], -pose[:, :3].T @ pose[:, 3], atol=1e-6)
    with pytest.raises(DataError, match="2 timestamps for 3 poses"):
        write_tum(tmp_path / "t.txt", cameras[0], timestamps=[1.0, 2.0])


def test_nerfstudio_comes_back(tmp_path: Path, cameras: tuple[torch.Tensor, torch.Tensor]) -> None:
    poses, intrinsics = cameras
    depth = 1 + torch.rand(VIEWS, HEIGHT, WIDTH)
    names, depth_names = [f"images/{i}.png" for i in range(VIEWS)], [f"depth/{i}.png" for i in range(VIEWS)]
    for i in range(VIEWS):
        write_image(tmp_path / names[i], torch.rand(3, HEIGHT, WIDTH))
        write_depth_png(tmp_path / depth_names[i], depth[i], unit=0.0005)
    write_nerfstudio(
        tmp_path / "transforms.json",
        names,
        poses,
        intrinsics,
        (HEIGHT, WIDTH),
        depth_paths=depth_names,
        depth_unit=0.0005,
    )
    (capture,) = find_captures(tmp_path)
    assert capture.format == "nerfstudio"
    for i, frame in enumerate(capture.frames):
        torch.testing.assert_close(frame.cam_from_world.float(), poses[i], atol=1e-6, rtol=0)
        torch.testing.assert_close(frame.intrinsics.float(), intrinsics[i])
        torch.testing.assert_close(load_view(frame).depth, depth[i], atol=0.0003, rtol=0)
    # the convention itself: an OpenGL camera at the origin that looks along our +z looks along its own -z
    first = np.array(json.loads((tmp_path / "transforms.json").read_text())["frames"][0]["transform_matrix"])
    np.testing.assert_allclose(first, np.diag([1, -1, -1, 1]), atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_colmap_comes_back(tmp_path: Path, cameras: tuple[torch.Tensor, torch.Tensor], scale: float) -> None:
    poses, intrinsics = cameras
    names = [f"{i}.png" for i in range(VIEWS)]
    for name in names:
        write_image(tmp_path / "images" / name, torch.rand(3, HEIGHT, WIDTH))
    points = torch.randn(40, 3) + torch.tensor([0, 0, 4.0])
    cloud = PointCloud(points, torch.randint(0, 256, (40, 3), dtype=torch.uint8))
    write_colmap(tmp_path / "sparse" / "0", names, poses, intrinsics * scale, (HEIGHT, WIDTH), cloud=cloud)
    (capture,) = find_captures(tmp_path)
    assert capture.format == "colmap"
    for i, frame in enumerate(capture.frames):
        torch.testing.assert_close(frame.cam_from_world.float(), poses[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(frame.intrinsics[0, 0].float(), intrinsics[i, 0, 0] * scale)
    rows = [line.split() for line in (tmp_path / "sparse/0/points3D.txt").read_text().splitlines() if line[0] != "#"]
    np.testing.assert_allclose(np.array([row[1:4] for row in rows], float), points, atol=1e-5)


def test_our_own_layout_comes_back_in_the_units_of_the_source(tmp_path: Path, batch: SceneBatch) -> None:
    write_capture(tmp_path / "scene", batch)
    (capture,) = find_captures(tmp_path)
    assert capture.format == "lorasub"
    assert capture.metric
    again = SuccessiveScenes([capture], num_views=3, view_format=ViewFormat(size=(HEIGHT, WIDTH)))[0]
    assert torch.equal(again.images, batch.images)
    assert torch.equal(again.pose_valid, batch.pose_valid)
    assert torch.equal(again.valid, batch.valid)
    torch.testing.assert_close(again.depth, batch.depth * 2.5)
    torch.testing.assert_close(again.intrinsics, batch.intrinsics)
    torch.testing.assert_close(again.cam_from_world[:, :2, :, :3], batch.cam_from_world[:, :2, :, :3])
    torch.testing.assert_close(again.cam_from_world[:, :2, :, 3], batch.cam_from_world[:, :2, :, 3] * 2.5)


def test_our_own_layout_keeps_masks_and_labels(tmp_path: Path, batch: SceneBatch) -> None:
    masks = torch.rand(batch.valid.shape) > 0.5
    several = batch.replace(labels=torch.tensor([1]), object_masks=masks)
    several = SceneBatch.concatenate([several, several.replace(labels=None, object_masks=~masks)])
    for scene, label in ((0, 1), (1, None)):
        write_capture(tmp_path / f"{scene}", several, scene=scene)
        (capture,) = find_captures(tmp_path / f"{scene}")
        assert capture.label == label
        again = SuccessiveScenes([capture], num_views=3, view_format=ViewFormat(size=(HEIGHT, WIDTH)))[0]
        assert torch.equal(again.object_masks[0], several.object_masks[scene])
        assert (again.labels is None) if label is None else (again.labels.tolist() == [label])


def test_our_own_layout_of_another_version_or_damaged(tmp_path: Path, batch: SceneBatch) -> None:
    write_capture(tmp_path, batch)
    path = tmp_path / "capture.json"
    content = json.loads(path.read_text())
    for change, message in (
        ({"version": 2}, "newer lorasub"),
        ({"frames": [{"name": "a"}]}, "'image'"),
        ({"frames": [content["frames"][0] | {"depth": "../d.npy"}]}, "leads out"),
        ({"frames": [content["frames"][0]] * 2}, "several frames are called"),
        ({"frames": []}, "holds no frame"),
        ({"frames": [content["frames"][0] | {"object_mask": "../m.png"}]}, "leads out"),
        ({"label": "real"}, "garbles 'str' object"),
        ({"label": -1}, "its label is -1; classes count from 0"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(DataError, match=message):
            find_captures(tmp_path)
    with pytest.raises(DataError, match="scene 1 was asked for"):
        write_capture(tmp_path, batch, scene=1)
