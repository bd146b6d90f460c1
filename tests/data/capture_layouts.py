"""Writes the plane world of conftest.py in every layout that has a reader."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plane_world import PlaneWorld
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from lorasub.data.readers.discovery import find_captures

FINE = 0.0001  # depth steps small enough not to blur the comparison


def indices(world) -> list[int]:
    return list(range(world.count))


def at_integers(world) -> tuple[float, float, float, float]:
    """The world's camera as a calibration states it that counts pixel centres from 0."""
    return (*world.focal, world.center[0] - 0.5, world.center[1] - 0.5)


def write_three_d_match(root: Path, world) -> None:
    root.mkdir(parents=True, exist_ok=True)
    np.savetxt(root / "camera-intrinsics.txt", world.intrinsics)
    for i in indices(world):
        stem = root / "seq-01" / f"frame-{i:06d}"
        world.save_image(i, stem.with_suffix(".color.png"))
        world.save_depth(i, stem.with_suffix(".depth.png"))
        np.savetxt(stem.with_suffix(".pose.txt"), world.world_from_cam[i])


def write_scannet(root: Path, world, camera: str = "intrinsic/intrinsic_color.txt") -> None:
    (root / "pose").mkdir(parents=True)
    (root / camera).parent.mkdir(exist_ok=True)
    k = np.eye(4)
    k[0, 0], k[1, 1], k[0, 2], k[1, 2] = at_integers(world)
    np.savetxt(root / camera, k)
    for i in indices(world):
        world.save_image(i, root / "color" / f"{i}.png")
        # half the resolution, the same field of view
        world.save_depth(i, root / "depth" / f"{i}.png", depth=world.depth(i)[::2, ::2])
        np.savetxt(root / "pose" / f"{i}.txt", world.world_from_cam[i])


def write_tum(root: Path, world, *, pose_delay: float = 0.004) -> None:
    stamps = [100.0 + 0.1 * i for i in indices(world)]
    lines = {"rgb.txt": ["# color images"], "depth.txt": ["# depth maps"], "groundtruth.txt": ["# ground truth"]}
    for i, stamp in enumerate(stamps):
        world.save_image(i, root / "rgb" / f"{stamp:.6f}.png")
        world.save_depth(i, root / "depth" / f"{stamp + 0.011:.6f}.png", unit=1 / 5000)
        lines["rgb.txt"].append(f"{stamp:.6f} rgb/{stamp:.6f}.png")
        lines["depth.txt"].append(f"{stamp + 0.011:.6f} depth/{stamp + 0.011:.6f}.png")
        values = [*world.world_from_cam[i, :3, 3], *world.quaternion(i)]
        lines["groundtruth.txt"].append(f"{stamp + pose_delay:.6f} " + " ".join(f"{value:.9f}" for value in values))
        # a pose that is further away in time and must not be taken
        lines["groundtruth.txt"].append(f"{stamp + 0.05:.6f} 9 9 9 0 0 0 1")
    for name, content in lines.items():
        (root / name).write_text("\n".join(content) + "\n")


def write_redwood(root: Path, world) -> None:
    log = []
    for i in indices(world):
        world.save_image(i, root / "color" / f"{i:05d}.png")
        world.save_depth(i, root / "depth" / f"{i:05d}.png")
        log.append(f"{i} {i} {i + 1}")
        log += [" ".join(map(str, row)) for row in world.world_from_cam[i]]
    (root / "trajectory.log").write_text("\n".join(log) + "\n")
    fx, fy, cx, cy = at_integers(world)
    camera = {"width": 64, "height": 48, "intrinsic_matrix": [fx, 0, 0, 0, fy, 0, cx, cy, 1]}
    (root / "camera_intrinsic.json").write_text(json.dumps(camera))


def write_nerfstudio(root: Path, world, **top) -> dict:
    frames = []
    for i in indices(world):
        world.save_image(i, root / "images" / f"{i}.png")
        np.save(root / "images" / f"{i}.npy", world.depth(i))
        opengl = world.world_from_cam[i] @ np.diag([1.0, -1, -1, 1])
        frames.append(
            {"file_path": f"images/{i}.png", "transform_matrix": opengl.tolist(), "depth_file_path": f"images/{i}.npy"}
        )
    fx, fy, cx, cy = *world.focal, *world.center
    content = {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": 64, "h": 48, "frames": frames} | top
    (root / "transforms.json").write_text(json.dumps(content))
    return content


def write_opencv_cameras(root: Path, world, *, paths: bool) -> None:
    exr = pytest.importorskip("OpenEXR")
    frames = []
    for i in indices(world):
        stem = root / "renderings" / f"{i:08d}"
        world.save_image(i, Path(f"{stem}_rgba.png"))
        depth = world.depth(i).astype(np.float32)
        depth[0, 0] = 1e10  # Blender's background
        exr.File({}, {"RGB": np.repeat(depth[..., None], 3, -1)}).write(f"{stem}_depth.exr")
        fx, fy, cx, cy = *world.focal, *world.center
        frame = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "w2c": np.linalg.inv(world.world_from_cam[i]).tolist()}
        frames.append(frame | ({"file_path": f"renderings/{i:08d}_rgba.png"} if paths else {}))
    (root / "opencv_cameras.json").write_text(json.dumps({"frames": frames}))


def write_clearpose(root: Path, world, **changes) -> None:
    entries = {}
    for i in indices(world):
        name = f"{100 * i:06d}"
        world.save_image(i, root / f"{name}-color.png")
        world.save_depth(i, root / f"{name}-depth_true.png", unit=FINE)
        world.save_depth(i, root / f"{name}-depth.png", unit=FINE, depth=np.full(world.size, 1.5))
        labels = np.repeat([0, 7, 199, 200], world.size[1] // 4)  # nothing, two objects of glass, something else
        Image.fromarray(np.tile(labels.astype(np.uint8), (world.size[0], 1))).save(root / f"{name}-label.png")
        camera = world.intrinsics - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
        entries[name] = {
            "cls_indexes": np.arange(3),
            "factor_depth": 1 / FINE,
            "intrinsic_matrix": camera,
            "rotation_translation_matrix": world.world_from_cam[i, :3],
        } | changes
    savemat(root / "metadata.mat", entries, do_compression=True)


def colmap_points(world) -> tuple[np.ndarray, list[list[int]]]:
    """Some points on the plane, and which of them each image observes (every second one, those inside the image)."""
    rng = np.random.default_rng(0)
    points = np.concatenate([world.points(i).reshape(-1, 3)[rng.choice(48 * 64, 25)] for i in indices(world)])
    seen = []
    for i in indices(world):
        camera = np.linalg.inv(world.world_from_cam[i])
        local = points @ camera[:3, :3].T + camera[:3, 3]
        u, v = (local @ world.intrinsics.T)[:, :2].T / local[:, 2]
        inside = (u > 0) & (u < 64) & (v > 0) & (v < 48) & (np.arange(len(points)) % 2 == 0)
        seen.append(np.nonzero(inside)[0].tolist())
    return points, seen


def write_colmap(
    root: Path, world, *, binary: bool, model: str = "PINHOLE", folder: str = "sparse/0"
) -> list[list[int]]:
    out = root / folder
    out.mkdir(parents=True, exist_ok=True)
    points, seen = colmap_points(world)
    params = (*world.focal, *world.center) if model == "PINHOLE" else (60.0, 31.0, 25.0, 0.01, 0.0, 0.0, 0.0, 0.0)
    motions = []
    for i in indices(world):
        world.save_image(i, root / "images" / f"{i}.png")
        camera = np.linalg.inv(world.world_from_cam[i])
        x, y, z, w = Rotation.from_matrix(camera[:3, :3]).as_quat()
        motions.append([w, x, y, z, *camera[:3, 3]])
    if not binary:
        (out / "cameras.txt").write_text(f"# comment\n1 {model} 64 48 {' '.join(map(str, params))}\n")
        lines = ["# comment"]
        for i, motion in enumerate(motions):
            lines.append(f"{i + 1} {' '.join(map(repr, map(float, motion)))} 1 {i}.png")
            lines.append(" ".join(["3.0 4.0 -1", *(f"1.0 2.0 {k + 1}" for k in seen[i])]) if i else "")
        (out / "images.txt").write_text("\n".join(lines) + "\n")
        text = [f"{k + 1} {p[0]!r} {p[1]!r} {p[2]!r} 1 2 3 0.5 1 0 2 0" for k, p in enumerate(points.tolist())]
        (out / "points3D.txt").write_text("\n".join(text) + "\n")
    else:
        number = {"PINHOLE": 1, "OPENCV_FISHEYE": 5}[model]
        cameras = struct.pack("<QiiQQ", 1, 1, number, 64, 48) + struct.pack(f"<{len(params)}d", *params)
        (out / "cameras.bin").write_bytes(cameras)
        images = struct.pack("<Q", world.count)
        for i, motion in enumerate(motions):
            observed = [-1, *(k + 1 for k in seen[i])] if i else []
            images += struct.pack("<i7di", i + 1, *motion, 1) + f"{i}.png".encode() + b"\0"
            images += struct.pack("<Q", len(observed)) + b"".join(struct.pack("<ddq", 1.0, 2.0, k) for k in observed)
        (out / "images.bin").write_bytes(images)
        content = struct.pack("<Q", len(points))
        for k, p in enumerate(points):
            content += struct.pack("<Q3d3BdQ", k + 1, *p, 1, 2, 3, 0.5, 2) + struct.pack("<4i", 1, 0, 2, 0)
        (out / "points3D.bin").write_bytes(content)
    return seen


def write_pose_list(root: Path, world, rows: list[list[float]]) -> None:
    for i in indices(world):
        world.save_image(i, root / "rgb" / f"{i + 3:03d}.png")
        world.save_depth(i, root / "depth" / f"{i + 3:03d}.png", unit=FINE)
    (root / "poses.txt").write_text("\n".join(" ".join(f"{value:.9f}" for value in row) for row in rows) + "\n")


def small() -> PlaneWorld:
    return PlaneWorld(count=3)


def one(root: Path, format="auto"):
    (capture,) = find_captures(root, format)
    return capture


def tum_with_calibration(root: Path, world) -> None:
    write_tum(root, world)
    (root / "calibration.txt").write_text(" ".join(map(str, at_integers(world))))


LAYOUTS: dict[str, Callable[[Path, PlaneWorld], object]] = {
    "3dmatch": write_three_d_match,
    "scannet": write_scannet,
    "tum": tum_with_calibration,
    "redwood": write_redwood,
    "nerfstudio": write_nerfstudio,
    "opencv_cameras": lambda root, world: write_opencv_cameras(root, world, paths=True),
    "colmap": lambda root, world: write_colmap(root, world, binary=False),
}
#: What `PlaneWorld.check` can ask of each: coarser depth, sparse depth, a background.
CHECKS = {
    "scannet": {"depth_error": 0.025},
    "colmap": {"share": 0, "depth_error": 0.02},
    "opencv_cameras": {"share": 0.99},
}


def texts(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.suffix in (".txt", ".json", ".log")]


def encode(root: Path, encoding: str) -> None:
    for path in texts(root):
        path.write_bytes(path.read_text().encode(encoding))


def logs_of_recorders(root: Path) -> None:
    (root / "a_recorder.log").write_text("started\nstopped, 3 frames\n")


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")


def images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (32, 24), (90, 120, 60)).save(folder / name)


def tables(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("1 2 3\n")
