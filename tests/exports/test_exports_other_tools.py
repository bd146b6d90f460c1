"""What is written is read by the libraries that other people read it with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from lorasub.exports.cameras import write_colmap, write_tum
from lorasub.exports.point_cloud import PointCloud, write_glb, write_ply

VIEWS, HEIGHT, WIDTH = 4, 20, 28


@pytest.fixture
def world_from_cam() -> np.ndarray:
    """``[S, 4, 4]``."""
    poses = np.tile(np.eye(4), (VIEWS, 1, 1))
    angles = [[0, 0, 0], [20, -30, 10], [5, 170, 90], [-80, 3, 200]]
    poses[:, :3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    poses[:, :3, 3] = [[0, 0, 0], [0.5, -0.2, 0.1], [1.0, 2.0, 3.0], [-4.0, 0.3, 1.2]]
    return poses


@pytest.fixture
def cam_from_world(world_from_cam: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.linalg.inv(world_from_cam)[:, :3])


@pytest.fixture
def intrinsics() -> torch.Tensor:
    k = torch.tensor([[30.0, 0, 13.0], [0, 31.0, 11.0], [0, 0, 1]], dtype=torch.float64).repeat(VIEWS, 1, 1)
    k[2, 0, 0] = 40.0
    return k


@pytest.fixture
def cloud() -> PointCloud:
    return PointCloud(torch.randn(50, 3) + torch.tensor([0.0, 0, 6]), torch.randint(0, 256, (50, 3), dtype=torch.uint8))


def test_pycolmap_reads_our_models(
    tmp_path: Path, cam_from_world: torch.Tensor, intrinsics: torch.Tensor, cloud: PointCloud
) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    names = ["0.png", "left/1.png", "2.png", "3.png"]
    write_colmap(tmp_path, names, cam_from_world, intrinsics, (HEIGHT, WIDTH), cloud=cloud)
    model = pycolmap.Reconstruction(str(tmp_path))
    assert model.num_images() == VIEWS
    assert model.num_points3D() == 50
    by_name = {image.name: image for image in model.images.values()}
    assert set(by_name) == set(names)
    for i, name in enumerate(names):
        image = by_name[name]
        pose = image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world
        np.testing.assert_allclose(pose.matrix(), cam_from_world[i], atol=1e-8)
        camera = model.cameras[image.camera_id]
        assert (camera.width, camera.height) == (WIDTH, HEIGHT)
        np.testing.assert_allclose(camera.calibration_matrix(), intrinsics[i], atol=1e-8)
        # COLMAP's own projection agrees with ours, principal point and pixel centres included
        point = np.array([0.2, -0.1, 3.0])
        expected = (intrinsics[i].numpy() @ point)[:2] / 3.0
        np.testing.assert_allclose(camera.img_from_cam(point[None])[0], expected, atol=1e-8)
    points = model.points3D
    order = sorted(points)
    np.testing.assert_allclose(np.array([points[k].xyz for k in order]), cloud.points, atol=1e-6)
    np.testing.assert_array_equal(np.array([points[k].color for k in order]), cloud.colors)


def test_evo_reads_our_trajectories(tmp_path: Path, world_from_cam: np.ndarray, cam_from_world: torch.Tensor) -> None:
    file_interface = pytest.importorskip("evo.tools.file_interface")
    from evo.core import metrics

    times = [10.5, 11.25, 12.0, 13.125]
    write_tum(tmp_path / "trajectory.txt", cam_from_world, times)
    trajectory = file_interface.read_tum_trajectory_file(str(tmp_path / "trajectory.txt"))
    valid, details = trajectory.check()
    assert valid, details
    np.testing.assert_allclose(trajectory.timestamps, times)
    np.testing.assert_allclose(np.array(trajectory.poses_se3), world_from_cam, atol=1e-7)
    # a rotation of the whole and nothing else is no error at all after alignment, as evo measures it
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [40, 50, 60], degrees=True).as_matrix()
    turned = torch.from_numpy(np.linalg.inv(turn @ world_from_cam)[:, :3])
    write_tum(tmp_path / "turned.txt", turned, times)
    other = file_interface.read_tum_trajectory_file(str(tmp_path / "turned.txt"))
    other.align(trajectory)
    error = metrics.APE(metrics.PoseRelation.full_transformation)
    error.process_data((trajectory, other))
    assert error.get_statistic(metrics.StatisticsType.max) < 1e-6


def test_trimesh_reads_our_clouds(tmp_path: Path, cloud: PointCloud) -> None:
    write_ply(tmp_path / "points.ply", cloud)
    loaded = trimesh.load(tmp_path / "points.ply", process=False)
    np.testing.assert_allclose(loaded.vertices, cloud.points, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(loaded.colors)[:, :3], cloud.colors)
    write_glb(tmp_path / "points.glb", cloud)
    (points,) = trimesh.load(tmp_path / "points.glb").dump()
    # glTF: y up, z towards the viewer
    np.testing.assert_allclose(points.vertices * [1, -1, -1], cloud.points, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(points.colors)[:, :3], cloud.colors)


def test_ply_header_is_what_other_readers_expect(tmp_path: Path, cloud: PointCloud) -> None:
    write_ply(tmp_path / "points.ply", cloud)
    header = (tmp_path / "points.ply").read_bytes().split(b"end_header")[0].decode()
    assert "format binary_little_endian 1.0" in header
    assert "element vertex 50" in header
    for name in ("float x", "float y", "float z", "uchar red", "uchar green", "uchar blue"):
        assert f"property {name}" in header
