"""Poses, encodings, projections and axes, against closed forms and matrices written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.transform import Rotation

from lorasub import geometry


def random_poses(*shape: int, seed: int = 0) -> torch.Tensor:
    count = math.prod(shape)
    rotations = torch.from_numpy(Rotation.random(count, random_state=seed).as_matrix())
    generator = torch.Generator().manual_seed(seed)
    translations = torch.randn(count, 3, 1, generator=generator, dtype=torch.float64) * 3
    return torch.cat([rotations, translations], -1).reshape(*shape, 3, 4)


def homogeneous(pose: torch.Tensor) -> torch.Tensor:
    last = pose.new_tensor([0, 0, 0, 1]).expand(*pose.shape[:-2], 1, 4)
    return torch.cat([pose, last], -2)


INTRINSICS = torch.tensor([[80.0, 1.5, 30.0], [0.0, 90.0, 25.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def test_pose_algebra_equals_that_of_4x4_matrices() -> None:
    a, b = random_poses(2, 3), random_poses(2, 3, seed=1)
    torch.testing.assert_close(homogeneous(geometry.invert_pose(a)), torch.linalg.inv(homogeneous(a)))
    torch.testing.assert_close(homogeneous(geometry.compose_poses(a, b)), homogeneous(a) @ homogeneous(b))
    relative = homogeneous(b) @ torch.linalg.inv(homogeneous(a))
    torch.testing.assert_close(homogeneous(geometry.relative_pose(a, b)), relative)
    torch.testing.assert_close(geometry.camera_centers(a), torch.linalg.inv(homogeneous(a))[..., :3, 3])


def test_compose_broadcasts() -> None:
    a, b = random_poses(2, 1), random_poses(2, 3, seed=1)
    torch.testing.assert_close(geometry.compose_poses(a, b), geometry.compose_poses(a.expand(2, 3, 3, 4), b))


@pytest.mark.parametrize("grid", [(), (5,), (4, 6), (0,)])
def test_points_move_as_homogeneous_vectors(grid: tuple[int, ...]) -> None:
    pose, points = random_poses(2, 3), torch.randn(2, 3, *grid, 3, dtype=torch.float64)
    found = geometry.world_to_camera(points, pose)
    ones = torch.ones_like(points[..., :1])
    expected = torch.einsum("bsij,bs...j->bs...i", homogeneous(pose), torch.cat([points, ones], -1))[..., :3]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(geometry.camera_to_world(found, pose), points)


def test_poses_stay_in_float32_under_autocast() -> None:
    pose = random_poses(4).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = geometry.compose_poses(pose, geometry.invert_pose(pose))
        half = geometry.invert_pose(pose.bfloat16())
    assert found.dtype == half.dtype == torch.float32
    torch.testing.assert_close(found, torch.eye(3, 4).expand(4, 3, 4), atol=1e-5, rtol=0)


def test_encoding_by_hand() -> None:
    """A half turn about y, focal lengths that see exactly 90 degrees vertically and 60 horizontally."""
    pose = torch.tensor([[-1.0, 0, 0, 1], [0, 1, 0, 2], [0, 0, -1, 3]], dtype=torch.float64)
    height, width = 40, 60
    k = torch.tensor([[30 / math.tan(math.pi / 6), 0, 30], [0, 20.0, 20], [0, 0, 1]], dtype=torch.float64)
    encoding = geometry.encode_pose(pose, k, (height, width))
    torch.testing.assert_close(encoding[:3], pose[:, 3])
    torch.testing.assert_close(encoding[3:7].abs(), torch.tensor([0.0, 1, 0, 0], dtype=torch.float64))
    torch.testing.assert_close(encoding[7:], torch.tensor([math.pi / 2, math.pi / 3], dtype=torch.float64))
    decoded, intrinsics = geometry.decode_pose(encoding, (height, width))
    torch.testing.assert_close(decoded, pose)
    torch.testing.assert_close(intrinsics, k)


def test_encoding_round_trip_moves_only_the_principal_point() -> None:
    pose, size = random_poses(2, 3), (48, 64)
    k = INTRINSICS.expand(2, 3, 3, 3).clone()
    k[..., 0, 1] = 0
    decoded, intrinsics = geometry.decode_pose(geometry.encode_pose(pose, k, size), size)
    torch.testing.assert_close(decoded, pose)
    k[..., 0, 2], k[..., 1, 2] = 32, 24
    torch.testing.assert_close(intrinsics, k)


def test_decoding_agrees_with_vggt(golden) -> None:
    tensors = load_file(golden / "vggt_small_landscape.safetensors")
    encoding = tensors["output/pose_enc"]
    cam_from_world, intrinsics = geometry.decode_pose(encoding, tuple(tensors["input/images"].shape[-2:]))
    torch.testing.assert_close(cam_from_world, tensors["output/extrinsics"])
    # the reference lets a field of view of 0 become an infinite focal length
    seen = (encoding[..., 7:] > geometry.pose_encoding.MIN_FOV).all(-1)
    assert seen.any()
    torch.testing.assert_close(intrinsics[seen], tensors["output/intrinsics"][seen], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fov", [0.0, -1.0, math.pi, 10.0])
def test_impossible_fields_of_view_decode_to_finite_cameras(fov: float) -> None:
    encoding = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, fov, fov], requires_grad=True)
    _, intrinsics = geometry.decode_pose(encoding, (32, 32))
    assert intrinsics.isfinite().all()
    assert (intrinsics.diagonal() > 0).all()
    intrinsics.sum().backward()
    assert encoding.grad is not None
    assert encoding.grad.isfinite().all()


def test_gradients_of_encoding_and_decoding() -> None:
    encoding = geometry.encode_pose(random_poses(3), INTRINSICS.expand(3, 3, 3), (48, 64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: geometry.decode_pose(e, (48, 64)), (encoding,))


def test_unprojection_by_hand() -> None:
    """Pixel (row 2, column 3) is sampled at (3.5, 2.5); undo K by solving the linear system."""
    depth = torch.zeros(4, 5, dtype=torch.float64)
    depth[2, 3] = 7.0
    point = geometry.unproject_depth(depth, INTRINSICS)[2, 3]
    expected = 7.0 * np.linalg.solve(INTRINSICS.numpy(), np.array([3.5, 2.5, 1.0]))
    np.testing.assert_allclose(point.numpy(), expected)


def test_projection_undoes_unprojection() -> None:
    depth = torch.rand(2, 3, 4, 5, dtype=torch.float64) + 0.5
    k = INTRINSICS.expand(2, 3, 3, 3)
    points = geometry.unproject_depth(depth, k)
    pixels = geometry.project_points(points, k)
    torch.testing.assert_close(pixels, geometry.pixel_centers(4, 5, dtype=torch.float64).expand(2, 3, 4, 5, 2))
    torch.testing.assert_close(points[..., 2], depth)


def test_projection_of_points_beside_a_batch_of_cameras() -> None:
    points, k = torch.rand(2, 7, 3, dtype=torch.float64) + 0.5, INTRINSICS.expand(2, 3, 3)
    homogeneous_pixels = points @ INTRINSICS.T
    expected = homogeneous_pixels[..., :2] / homogeneous_pixels[..., 2:]
    torch.testing.assert_close(geometry.project_points(points, k), expected)
    assert geometry.project_points(torch.zeros(2, 7, 3), k.float()).isfinite().all()


def test_world_points_are_seen_where_they_came_from() -> None:
    pose, depth = random_poses(2), torch.rand(2, 4, 5, dtype=torch.float64) + 1
    k = INTRINSICS.expand(2, 3, 3)
    world = geometry.world_points_from_depth(depth, k, pose)
    seen = torch.einsum("nij,nhwj->nhwi", k @ pose[..., :3], world) + (k @ pose[..., 3:])[:, None, None, :, 0]
    torch.testing.assert_close(seen[..., 2], depth)
    torch.testing.assert_close(
        seen[..., :2] / seen[..., 2:], geometry.pixel_centers(4, 5, dtype=torch.float64).expand(2, 4, 5, 2)
    )


def test_opengl_camera_by_hand() -> None:
    """A Blender camera 5 above the ground, unrotated, looks down: what lies below it has positive OpenCV depth."""
    world_from_cam_gl = torch.eye(4)
    world_from_cam_gl[2, 3] = 5.0
    cam_from_world = geometry.cam_from_world_from_opengl(world_from_cam_gl)
    below, right, up = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    seen = geometry.world_to_camera(torch.stack([below, right, up]), cam_from_world)
    torch.testing.assert_close(seen, torch.tensor([[0.0, 0, 5], [1, 0, 5], [0, -1, 5]]))


def test_opengl_there_and_back() -> None:
    poses = random_poses(2, 3)
    back = geometry.cam_from_world_from_opengl(geometry.opengl_from_cam_from_world(poses))
    torch.testing.assert_close(back, poses)
