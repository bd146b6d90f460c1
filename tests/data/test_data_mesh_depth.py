"""Depth of a mesh over a sensor's: closed forms, and the glass of the TraceBot set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from lorasub.data.frames import pinhole
from lorasub.data.masks import MaskFile
from lorasub.data.mesh_depth import MeshDepth
from lorasub.errors import DataError
from lorasub.geometry import invert_pose

pytest.importorskip("embreex")

IDENTITY = torch.eye(3, 4, dtype=torch.float64)


class Flat:
    """A sensor that sees a wall."""

    def __init__(self, depth: float, size: tuple[int, int] | None = None) -> None:
        self.depth, self.size = depth, size

    def load(self, image_size: tuple[int, int]) -> torch.Tensor:
        return torch.full(self.size or image_size, self.depth)


@pytest.fixture
def sphere(tmp_path: Path) -> Path:
    """Of radius 0.5, around (0, 0, 3), in millimetres."""
    path = tmp_path / "sphere.ply"
    mesh = trimesh.creation.icosphere(subdivisions=5, radius=500)
    mesh.apply_translation([0, 0, 3000])
    mesh.export(path)
    return path


def test_a_plane_is_rendered_exactly(tmp_path: Path, world) -> None:
    axes = np.linalg.svd(world.normal[None])[2][1:]  # two directions in the plane
    corners = world.normal * world.offset + np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) @ axes * 20
    trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]]).export(tmp_path / "plane.ply")
    stored = trimesh.load(tmp_path / "plane.ply").vertices  # PLY is in single precision
    np.testing.assert_allclose(stored @ world.normal, world.offset, atol=1e-6)
    for index in range(world.count):
        pose = torch.from_numpy(np.linalg.inv(world.world_from_cam[index])[:3])
        source = MeshDepth(
            path=tmp_path / "plane.ply", cam_from_object=pose, intrinsics=torch.from_numpy(world.intrinsics)
        )
        np.testing.assert_allclose(source.load(world.size), world.depth(index), rtol=1e-5)


def test_it_lies_over_the_sensor_where_the_object_is(sphere: Path) -> None:
    source = MeshDepth(
        path=sphere, cam_from_object=IDENTITY, intrinsics=pinhole(60, 60, 30, 30), sensor=Flat(4.0), unit=0.001
    )
    depth = source.load((60, 60))
    assert depth[0, 0] == 4
    assert depth[30, 30].item() == pytest.approx(2.5, abs=2e-3)
    # the ray (x, y, 1) t meets the ball where |t (x, y, 1) - (0, 0, 3)| = 0.5
    x, y = (35.5 - 30) / 60, (27.5 - 30) / 60
    a = x * x + y * y + 1
    assert depth[27, 35].item() == pytest.approx((3 - np.sqrt(9 - a * 8.75)) / a, abs=2e-3)
    # seen from behind, from 1 unit beyond, with the camera turned about its y axis
    behind = invert_pose(torch.tensor([[-1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 4.5]]).double())
    turned = MeshDepth(path=sphere, cam_from_object=behind, intrinsics=pinhole(60, 60, 30, 30), unit=0.001)
    assert turned.load((60, 60))[30, 30].item() == pytest.approx(1.0, abs=2e-3)
    assert turned.load((60, 60))[0, 0] == 0


def test_a_mask_says_where_the_object_is_seen(sphere: Path, tmp_path: Path) -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[30:, :] = 255  # something hides the upper half
    Image.fromarray(mask).save(tmp_path / "mask.png")
    source = MeshDepth(
        path=sphere,
        cam_from_object=IDENTITY,
        intrinsics=pinhole(60, 60, 30, 30),
        sensor=Flat(4.0),
        mask=MaskFile(path=tmp_path / "mask.png"),
        unit=0.001,
    )
    depth = source.load((60, 60))
    assert (depth[:30] == 4).all()
    assert depth[30, 30].item() == pytest.approx(2.5, abs=2e-3)
    assert depth[59, 0] == 0  # the mask says object, no ray meets it: not known
    Image.fromarray(mask[::2, ::2]).save(tmp_path / "mask.png")
    assert torch.equal(source.load((60, 60)), depth)


def test_what_cannot_be_rendered_is_told(sphere: Path, tmp_path: Path) -> None:
    options = {"cam_from_object": IDENTITY, "intrinsics": pinhole(60, 60, 30, 30)}
    with pytest.raises(DataError, match="depth is 30 x 20, the image 60 x 60"):
        MeshDepth(path=sphere, sensor=Flat(1.0, (20, 30)), **options).load((60, 60))
    with pytest.raises(DataError, match=r"nothing\.ply: the mesh does not exist"):
        MeshDepth(path=tmp_path / "nothing.ply", **options).load((60, 60))
    cut = tmp_path / "cut.ply"
    cut.write_bytes(sphere.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"cut\.ply: the mesh cannot be read .* truncated"):
        MeshDepth(path=cut, **options).load((60, 60))
    trimesh.PointCloud(np.eye(3)).export(tmp_path / "points.ply")
    with pytest.raises(DataError, match=r"points\.ply: it holds no triangles"):
        MeshDepth(path=tmp_path / "points.ply", **options).load((60, 60))
