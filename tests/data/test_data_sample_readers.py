"""The readers of configs/sample_readers.py on made-up data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml
from PIL import Image

from configs.sample_readers import TraceBot
from lorasub.data.readers.discovery import find_captures
from lorasub.errors import DataError

SIZE = (60, 80)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A camera at the origin, two cubes of one kind at a depth of 1, and a smaller one whose mesh is in millimetres."""
    pytest.importorskip("embreex")
    for name, side in (("cube", 0.2), ("small", 100.0)):
        path = tmp_path / "objects" / name / "mesh.ply"
        path.parent.mkdir(parents=True)
        trimesh.creation.box([side] * 3).export(path)
    objects = [
        {"id": "cube", "name": "001_cube", "mesh": "cube/mesh.ply"},
        {"id": "small", "name": "002_small", "mesh": "small/mesh.ply", "scale": 0.001},
    ]
    (tmp_path / "objects" / "objects.yaml").write_text(yaml.safe_dump(objects))
    scene = tmp_path / "scenes" / "001"
    for folder in ("rgb", "depth", "masks"):
        (scene / folder).mkdir(parents=True)
    (scene / "camera_d435.yaml").write_text(yaml.safe_dump({"camera_matrix": [80, 0, 39.5, 0, 80, 29.5, 0, 0, 1]}))
    (scene / "groundtruth_handeye.txt").write_text("0 0 0 0 0 0 0 1\n1 nan nan nan nan nan nan nan\n")
    things = [("cube", -0.3, 1.1), ("small", 0.0, 1.05), ("cube", 0.3, 1.1)]
    poses = []
    for name, x, z in things:
        pose = np.eye(4)
        pose[:3, 3] = x, 0, z
        poses.append({"id": name, "pose": pose.flatten().tolist()})
    (scene / "poses.yaml").write_text(yaml.safe_dump(poses))
    for frame in ("000000", "000001"):
        Image.new("RGB", SIZE[::-1]).save(scene / "rgb" / f"{frame}.png")
        Image.fromarray(np.full(SIZE, 1900, np.uint16)).save(scene / "depth" / f"{frame}.png")
        for name, x in (("001_cube_000", -0.3), ("002_small_000", 0.0), ("001_cube_001", 0.3)):
            mask = np.zeros(SIZE, np.uint8)
            middle = 40 + round(80 * x)
            mask[28:32, middle - 2 : middle + 2] = 255
            Image.fromarray(mask).save(scene / "masks" / f"{name}_{frame}.png")
    return tmp_path


def test_tracebot_with_several_objects(root: Path) -> None:
    (capture,) = find_captures(root, TraceBot())
    depth, mask = capture.frames[0].depth.load(SIZE), capture.frames[0].object_mask.load(SIZE)
    assert [int(mask[:, left:right].sum()) for left, right in ((10, 25), (30, 50), (55, 75))] == [16, 16, 16]
    assert depth[mask].numpy() == pytest.approx(np.ones(48), abs=1e-4)  # the front of each cube
    assert depth[~mask].unique().tolist() == pytest.approx([1.9])
    # the second frame's pose is lost: nothing can be rendered, and nothing stops
    assert capture.frames[1].cam_from_world is None
    assert capture.frames[1].depth.load(SIZE).unique().tolist() == pytest.approx([1.9])


def test_tracebot_with_an_unknown_object(root: Path) -> None:
    path = root / "scenes" / "001" / "poses.yaml"
    path.write_text(path.read_text().replace("small", "large"))
    with pytest.raises(DataError, match=r"poses\.yaml: \['large'\] are not in objects\.yaml"):
        find_captures(root, TraceBot())
