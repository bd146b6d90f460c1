"""`view`: cameras and points are where they should be, headless recordings, clear errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from lorasub.cli.main import main
from lorasub.cli.view import add_capture
from lorasub.data.readers.discovery import find_captures
from lorasub.exports import PointCloud, write_depth_npy, write_image, write_nerfstudio, write_ply
from lorasub.files import write_json

SIZE = (24, 32)
K = np.array([[30.0, 0, 16.0], [0, 30.0, 12.0], [0, 0, 1]])


def world_from_cam() -> np.ndarray:
    """Three cameras that look at the plane z = 2 from z = 0, turned about their axes."""
    poses = np.tile(np.eye(4), (3, 1, 1))
    for i in range(3):
        poses[i, :3, :3] = Rotation.from_euler("z", 20 * i, degrees=True).as_matrix()
        poses[i, :3, 3] = [0.3 * i, -0.1 * i, 0]
    return poses


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """In our own layout; the third view has no pose."""
    root = tmp_path / "capture"
    frames = []
    for i, pose in enumerate(world_from_cam()):
        write_image(root / f"{i}.png", torch.rand(3, *SIZE))
        write_depth_npy(root / f"{i}.npy", torch.full(SIZE, 2.0))
        frame = {"name": str(i), "image": f"{i}.png", "depth": f"{i}.npy", "depth_unit": 1.0, "intrinsics": K.tolist()}
        frames.append(frame | ({} if i == 2 else {"cam_from_world": np.linalg.inv(pose)[:3].tolist()}))
    write_json(root / "capture.json", {"version": 1, "metric": True, "frames": frames})
    return root


class Recorder:
    """Stands in for a server: notes what it is asked to draw."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple, dict[str, Any]]] = []
        self.scene = self.gui = self

    def __getattr__(self, name: str):
        return lambda *args, **options: self.calls.append((name, args, options))

    def of(self, name: str) -> list[tuple[tuple, dict[str, Any]]]:
        return [(args, options) for called, args, options in self.calls if called == name]


def test_cameras_and_points_are_where_they_should_be(capture: Path) -> None:
    server = Recorder()
    (found,) = find_captures(capture)
    row = add_capture(server, found, 10, 400, 32)
    assert row["views"] == 3
    assert row["points"] == 400
    frusta = server.of("add_camera_frustum")
    assert [args[0] for args, _ in frusta] == ["/capture/cameras/0", "/capture/cameras/1"]
    for (_, options), pose in zip(frusta, world_from_cam(), strict=False):
        np.testing.assert_allclose(options["position"], pose[:3, 3], atol=1e-6)
        rotation = Rotation.from_quat(np.roll(options["wxyz"], -1)).as_matrix()
        np.testing.assert_allclose(rotation, pose[:3, :3], atol=1e-6)
        assert options["fov"] == pytest.approx(2 * np.arctan(12 / 30))
        assert options["aspect"] == pytest.approx(32 / 24)
        assert options["image"].shape == (24, 32, 3)
    ((_, points, colors), _) = server.of("add_point_cloud")[0]
    assert points.shape == colors.shape == (400, 3)
    np.testing.assert_allclose(points[:, 2], 2, atol=1e-5)
    (((up,), _),) = server.of("set_up_direction")
    # the mean of the cameras' up directions: -y, turned by half of 20 degrees
    np.testing.assert_allclose(up / np.linalg.norm(up), [np.sin(np.pi / 18), -np.cos(np.pi / 18), 0], atol=1e-6)
    assert [options["label"] for _, options in server.of("add_image")] == ["2"]


def test_what_predict_wrote_is_shown_with_its_points(tmp_path: Path) -> None:
    poses = torch.from_numpy(np.linalg.inv(world_from_cam())[:, :3]).float()
    for i in range(3):
        write_image(tmp_path / "scene" / "images" / f"{i:03d}.png", torch.rand(3, *SIZE))
    names = [f"images/{i:03d}.png" for i in range(3)]
    intrinsics = torch.from_numpy(K).float().expand(3, 3, 3)
    write_nerfstudio(tmp_path / "scene" / "transforms.json", names, poses, intrinsics, SIZE)
    cloud = PointCloud(torch.rand(90, 3), torch.randint(0, 256, (90, 3), dtype=torch.uint8))
    write_ply(tmp_path / "scene" / "points.ply", cloud)
    (found,) = find_captures(tmp_path)
    server = Recorder()
    assert add_capture(server, found, 2, 50, 64)["views"] == 2
    ((_, points, colors), _) = server.of("add_point_cloud")[0]
    np.testing.assert_allclose(points, cloud.points[::2])
    np.testing.assert_array_equal(colors, cloud.colors[::2])
    np.testing.assert_allclose(server.of("add_camera_frustum")[1][1]["position"], world_from_cam()[1, :3, 3], atol=1e-6)


def test_a_recording_is_written_without_a_browser(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("viser")
    zstandard = pytest.importorskip("zstandard")
    file = tmp_path / "out" / "capture.viser"
    assert main(["view", str(capture), "--save", str(file), "--port", "8917", "--json"]) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed[printed.index('{\n  "captures"') : printed.rindex("\n}") + 2])
    assert result["captures"] == [{"capture": "capture", "views": 3, "points": 2 * 24 * 32}]
    content = file.read_bytes()
    # viser's format: 8 bytes with the size, then zstandard
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(content[8:])
    for node in (b"/capture/cameras/0", b"/capture/cameras/1", b"/capture/points"):
        assert node in plain


def test_without_the_extra_it_says_what_to_install(
    capture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    assert main(["view", str(capture)]) == 2
    assert "pip install 'lorasub[view]'" in capsys.readouterr().err


def test_wrong_options_are_told(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(capture), "--max_views", "0"]) == 2
    assert "--max_views must be at least 1, got 0" in capsys.readouterr().err


def test_nothing_listens_beyond_this_machine_by_default(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []

    class Server(Recorder):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            started.append(options)

    monkeypatch.setitem(sys.modules, "viser", SimpleNamespace(ViserServer=Server))
    assert main(["view", str(capture)]) == 0
    assert started[0]["host"] == "127.0.0.1"
