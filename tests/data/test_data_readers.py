"""Every layout, written here from the same known world and read back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from capture_layouts import (
    FINE,
    at_integers,
    indices,
    write_clearpose,
    write_colmap,
    write_nerfstudio,
    write_opencv_cameras,
    write_pose_list,
    write_redwood,
    write_scannet,
    write_three_d_match,
    write_tum,
)
from PIL import Image
from scipy.spatial.transform import Rotation

from lorasub.data.check.observations import decode, observe
from lorasub.data.decoding import load_view
from lorasub.data.readers.clearpose import ClearPose
from lorasub.data.readers.discovery import find_captures
from lorasub.data.readers.nerfstudio import Nerfstudio
from lorasub.data.readers.pose_list import PoseList
from lorasub.data.readers.redwood import Redwood
from lorasub.data.readers.tum import TumRgbd
from lorasub.errors import DataError


def one(root: Path, format="auto"):
    (capture,) = find_captures(root, format)
    return capture


def test_three_d_match(tmp_path: Path, world) -> None:
    write_three_d_match(tmp_path, world)
    capture = one(tmp_path)
    assert capture.format == "3dmatch"
    assert capture.metric
    world.check(capture, indices(world))


def test_scannet(tmp_path: Path, world) -> None:
    write_scannet(tmp_path, world)
    np.savetxt(tmp_path / "pose" / "3.txt", np.full((4, 4), -np.inf))
    capture = one(tmp_path)
    assert capture.format == "scannet"
    assert capture.notes == ("1 frame has no pose",)
    assert capture.frames[3].cam_from_world is None
    good = [i for i in indices(world) if i != 3]
    frames = tuple(capture.frames[i] for i in good)
    world.check(type(capture)(name="x", root=tmp_path, frames=frames, metric=True, format="x"), good, depth_error=0.025)


def test_tum(tmp_path: Path, world) -> None:
    write_tum(tmp_path, world)
    capture = one(tmp_path, TumRgbd(camera=at_integers(world)))
    world.check(capture, indices(world))
    assert capture.notes == ()
    # without its camera: the benchmark's is for images of 640 x 480
    with pytest.raises(DataError, match=r"image is 64 x 48, but nothing in the folder states its camera.* 640 x 480"):
        one(tmp_path)
    (tmp_path / "calibration.txt").write_text(" ".join(map(str, at_integers(world))))
    capture = one(tmp_path)
    assert capture.format == "tum"
    assert capture.notes == ("camera from calibration.txt",)
    world.check(capture, indices(world))


def test_tum_leaves_out_what_is_too_far_in_time(tmp_path: Path, world) -> None:
    write_tum(tmp_path, world, pose_delay=-0.03)
    capture = one(tmp_path, TumRgbd(camera=at_integers(world), max_difference=0.015))
    assert not capture.has_poses
    assert capture.has_depth
    assert capture.notes == ("6 of 6 images have no pose within 0.015 s",)


def test_tum_with_quaternions_in_another_order(tmp_path: Path, world) -> None:
    write_tum(tmp_path, world)
    (tmp_path / "groundtruth.txt").write_text("100.0 0.7 0.1 0.1 0.7 1.2 -0.3 2.0\n")
    with pytest.raises(DataError, match=r"groundtruth\.txt.*columns in another order"):
        one(tmp_path)
    (tmp_path / "groundtruth.txt").write_text("100.0 0.7 0.1\n")
    with pytest.raises(DataError, match="expected 8 columns"):
        one(tmp_path)


def test_redwood(tmp_path: Path, world) -> None:
    write_redwood(tmp_path, world)
    capture = one(tmp_path)
    assert capture.format == "redwood"
    world.check(capture, indices(world))


def test_redwood_without_a_camera_says_what_it_took(tmp_path: Path, world) -> None:
    write_redwood(tmp_path, world)
    (tmp_path / "camera_intrinsic.json").unlink()
    with pytest.raises(DataError, match="image is 64 x 48, but nothing in the folder states its camera"):
        one(tmp_path)
    note = Redwood().read(tmp_path).notes[0]
    assert note == "assumed camera: no file states it; took PrimeSense's fx, fy, cx, cy = (525.0, 525.0, 319.5, 239.5)"
    world.check(one(tmp_path, Redwood(camera=at_integers(world))), indices(world))


def test_redwood_with_something_missing(tmp_path: Path, world) -> None:
    write_redwood(tmp_path, world)
    (tmp_path / "color" / "00002.png").unlink()
    with pytest.raises(DataError, match=r"6 poses in trajectory\.log, 5 images in color/ and 6 in depth/"):
        one(tmp_path)
    log = tmp_path / "trajectory.log"
    log.write_text(log.read_text()[:-60])
    with pytest.raises(DataError, match=r"trajectory\.log: .*(truncated|record 5)"):
        one(tmp_path)


def test_nerfstudio(tmp_path: Path, world) -> None:
    write_nerfstudio(tmp_path, world)
    capture = one(tmp_path)
    assert capture.format == "nerfstudio"
    assert not capture.metric
    world.check(capture, indices(world))


def test_nerfstudio_with_a_camera_for_each_frame_and_missing_images(tmp_path: Path, world) -> None:
    content = write_nerfstudio(tmp_path, world)
    camera = {name: content.pop(name) for name in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    content["frames"] = [{**frame, **camera} for frame in reversed(content["frames"])]
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    (tmp_path / "images" / "2.png").unlink()
    capture = one(tmp_path)
    assert capture.notes == ("1 of 6 entries skipped, no such image: images/2.png ...",)
    world.check(capture, [0, 1, 3, 4, 5])


def test_nerf_synthetic_style_of_field_of_view(tmp_path: Path, world) -> None:
    world.focal, world.center = (60.0, 60.0), (32.0, 24.0)
    content = write_nerfstudio(tmp_path, world)
    frames = [{**frame, "file_path": frame["file_path"].removesuffix(".png")} for frame in content["frames"]]
    angle = 2 * np.arctan(32 / 60)
    (tmp_path / "transforms.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    world.check(one(tmp_path), indices(world))


def distorted(world, k: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """View 0 through a lens: which undistorted ray does each pixel see? (fixed point iteration; then the plane)"""
    target = world.rays()[..., :2]
    x, y = target[..., 0].copy(), target[..., 1].copy()
    for _ in range(100):
        r2 = x * x + y * y
        radial = 1 + k[0] * r2 + k[1] * r2 * r2
        dx, dy = 2 * k[2] * x * y + k[3] * (r2 + 2 * x * x), k[2] * (r2 + 2 * y * y) + 2 * k[3] * x * y
        x, y = (target[..., 0] - dx) / radial, (target[..., 1] - dy) / radial
    pose = world.world_from_cam[0]
    directions = np.stack([x, y, np.ones_like(x)], -1) @ pose[:3, :3].T
    depth = (world.offset - world.normal @ pose[:3, 3]) / (directions @ world.normal)
    return world.color(directions * depth[..., None] + pose[:3, 3]), depth


def test_distortion_is_removed_from_image_and_depth(tmp_path: Path, world) -> None:
    k = (0.25, -0.05, 0.01, -0.008)
    write_nerfstudio(tmp_path, world, **dict(zip(("k1", "k2", "p1", "p2"), k, strict=True)))
    image, depth = distorted(world, k)
    assert np.abs(image.astype(float) - world.image(0)).mean() > 1  # the lens does something
    Image.fromarray(image).save(tmp_path / "images" / "0.png")
    np.save(tmp_path / "images" / "0.npy", depth)
    view = load_view(one(tmp_path).frames[0])
    found = view.image.permute(1, 2, 0).numpy().astype(float)
    inner = (slice(8, -8), slice(8, -8))
    assert np.abs(found - world.image(0))[inner].max() < 3
    # depth is the nearest pixel's, up to half a pixel away in each direction
    slope = sum(np.abs(along).max() for along in np.gradient(world.depth(0)))
    assert np.abs(view.depth.numpy() - world.depth(0))[inner].max() < 0.5 * slope * 1.05
    assert np.abs(depth - world.depth(0))[inner].max() > 1.5 * 0.5 * slope  # the lens would be noticed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera_model": "OPENCV_FISHEYE"}, "OPENCV_FISHEYE is not supported"),
        ({"frames": {}}, "a list 'frames'"),
        ({"frames": [{"file_path": "images/0.png"}]}, "entry of 0.png lacks or garbles 'transform_matrix'"),
        ({"frames": [{"transform_matrix": []}]}, "a frame has no file_path"),
        ({"frames": [{"file_path": "../../secret.png"}]}, "leads out of the folder"),
        ({"frames": [{"file_path": "images/7.png", "transform_matrix": []}]}, "holds no frame with an image"),
        ({"frames": [{"file_path": "images/0.png", "transform_matrix": [[1, 2], [3, 4]]}]}, "not 4 x 4"),
        ({"fl_x": "wide"}, "'wide'"),
    ],
)
def test_wrong_transforms_are_told(tmp_path: Path, world, change: dict, message: str) -> None:
    write_nerfstudio(tmp_path, world, **change)
    with pytest.raises(DataError, match=message):
        one(tmp_path)


def test_truncated_json_is_named(tmp_path: Path, world) -> None:
    write_nerfstudio(tmp_path, world)
    path = tmp_path / "transforms.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(DataError, match=r"transforms\.json is not valid JSON.*truncated"):
        one(tmp_path, Nerfstudio())


@pytest.mark.parametrize("paths", [True, False])
def test_opencv_cameras(tmp_path: Path, world, paths: bool) -> None:
    write_opencv_cameras(tmp_path, world, paths=paths)
    capture = one(tmp_path)
    assert capture.format == "opencv_cameras"
    world.check(capture, indices(world), share=0.999)
    assert load_view(capture.frames[0]).depth[0, 0] == 0


def test_renderings_as_the_papers_blender_scripts_leave_them(tmp_path: Path, world) -> None:
    root = tmp_path / "0525"
    write_opencv_cameras(root, world, paths=True)
    path = root / "opencv_cameras.json"
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        # from the folder above, and as EXR, which tone mapping turned into PNG; the camera object was scaled
        frame["file_path"] = f"0525/{frame['file_path'].removesuffix('.png')}.exr"
        frame["w2c"] = (np.diag([1.3, 1.3, 1.3, 1]) @ np.array(frame["w2c"])).tolist()
    path.write_text(json.dumps(content))
    capture = one(tmp_path)
    assert capture.name.endswith("/0525")
    assert [frame.name for frame in capture.frames] == [f"renderings/{i:08d}_rgba.png" for i in indices(world)]
    world.check(capture, indices(world), share=0.999)
    # the subject's folder may have got another name
    root.rename(tmp_path / "renamed")
    world.check(one(tmp_path), indices(world), share=0.999)


@pytest.mark.parametrize("stated", ["../secret_rgba.png", "0525/../../secret_rgba.png", "/etc/secret_rgba.png"])
def test_renderings_may_not_lead_out(tmp_path: Path, world, stated: str) -> None:
    write_opencv_cameras(tmp_path / "0525", world, paths=True)
    world.save_image(0, tmp_path / "secret_rgba.png")
    path = tmp_path / "0525" / "opencv_cameras.json"
    content = json.loads(path.read_text())
    content["frames"][0]["file_path"] = stated
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="leads out of the folder"):
        one(tmp_path / "0525")


def test_clearpose(tmp_path: Path, world) -> None:
    write_clearpose(tmp_path / "set1" / "scene1", world)
    capture = one(tmp_path)
    assert capture.format == "clearpose"
    assert capture.metric
    world.check(capture, indices(world))
    mask = load_view(capture.frames[1]).object_mask
    assert [mask[:, column].float().mean().item() for column in (15, 16, 47, 48)] == [0, 1, 1, 0]
    (tmp_path / "set1" / "scene1" / "000100-label.png").unlink()
    assert load_view(one(tmp_path).frames[1]).object_mask is None
    sensor = one(tmp_path, ClearPose(depth="sensor"))
    assert load_view(sensor.frames[0]).depth[20, 20].item() == pytest.approx(1.5)


def test_clearpose_that_is_damaged_is_named(tmp_path: Path, world) -> None:
    write_clearpose(tmp_path, world)
    (tmp_path / "000200-depth_true.png").unlink()
    assert one(tmp_path).notes == ("1 of 6 images have no depth_true.png",)
    path = tmp_path / "metadata.mat"
    whole = path.read_bytes()
    for size in (5, 100, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"metadata\.mat"):
            one(tmp_path)
    path.write_bytes(whole)
    world.save_image(0, tmp_path / "000050-color.png")
    with pytest.raises(DataError, match=r"metadata\.mat: it holds no entry '000050'"):
        one(tmp_path)


def test_clearpose_with_a_garbled_entry(tmp_path: Path, world) -> None:
    write_clearpose(tmp_path, world, factor_depth=0.0)
    with pytest.raises(DataError, match=r"metadata\.mat: entry '000000' lacks or garbles"):
        one(tmp_path)


def test_transparent_pixels_become_white(tmp_path: Path) -> None:
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:4] = (255, 0, 0, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = load_view(one(tmp_path).frames[0]).image
    assert image[:, 0, 0].tolist() == [255, 0, 0]
    assert image[:, 7, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("folder", ["sparse/0", "sparse", "some_model", "."])
def test_colmap(tmp_path: Path, world, binary: bool, folder: str) -> None:
    seen = write_colmap(tmp_path, world, binary=binary, folder=folder)
    capture = one(tmp_path)
    assert capture.format == "colmap"
    assert not capture.metric
    # a point is anywhere in its pixel: up to 0.7 pixels off, 2 cm on this plane
    world.check(capture, indices(world), share=0, depth_error=0.02)
    for i, frame in enumerate(capture.frames):
        known = int((load_view(frame).depth > 0).sum())
        # of two points on one pixel the nearer stays
        assert known == 0 if i == 0 else 0.9 * len(seen[i]) <= known <= len(seen[i])


def test_colmap_lens_that_is_not_perspective(tmp_path: Path, world) -> None:
    write_colmap(tmp_path, world, binary=True, model="OPENCV_FISHEYE")
    with pytest.raises(DataError, match=r"OPENCV_FISHEYE is not supported.*image_undistorter"):
        one(tmp_path)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("binary", [False, True])
def test_truncated_colmap_files_are_named(tmp_path: Path, world, name: str, binary: bool) -> None:
    write_colmap(tmp_path, world, binary=binary)
    path = tmp_path / "sparse" / "0" / f"{name}{'.bin' if binary else '.txt'}"
    content = path.read_bytes()
    # text is cut inside of a line: at the end of one nobody can tell
    cut = len(content) // 2 if binary else content.index(b" ", len(content) // 2) + (1 if name != "cameras" else -1)
    path.write_bytes(content[:cut])
    with pytest.raises(DataError, match=rf"{name}|sparse/0"):
        one(tmp_path)


def test_colmap_images_may_not_lead_out(tmp_path: Path, world) -> None:
    write_colmap(tmp_path, world, binary=False)
    path = tmp_path / "sparse" / "0" / "images.txt"
    path.write_text(path.read_text().replace("3.png", "../../3.png"))
    with pytest.raises(DataError, match="leads out of the folder"):
        one(tmp_path)


def test_pose_list_in_order(tmp_path: Path, world) -> None:
    write_pose_list(tmp_path, world, [[*world.world_from_cam[i, :3, 3], *world.quaternion(i)] for i in indices(world)])
    options = {"images": "rgb/*.png", "depth": "depth/*.png", "depth_unit": FINE, "poses": "poses.txt"}
    world.check(one(tmp_path, PoseList(camera=at_integers(world), **options)), indices(world))
    camera = (*world.focal, *world.center)
    world.check(one(tmp_path, PoseList(camera=camera, centres=0.5, **options)), indices(world))


def along_the_ray(world, folder: Path) -> None:
    for i in indices(world):
        lengths = np.linalg.norm(world.rays(), axis=-1)
        np.save(folder / f"{i:02d}.npy", world.depth(i) * lengths)


def test_distances_along_the_ray_become_depth(tmp_path: Path, world) -> None:
    rows = [[*world.world_from_cam[i, :3, 3], *world.quaternion(i)] for i in indices(world)]
    write_pose_list(tmp_path, world, rows)
    along_the_ray(world, tmp_path / "depth")
    options = {"images": "rgb/*.png", "depth": "depth/*.npy", "depth_unit": 1.0, "poses": "poses.txt"}
    reader = PoseList(camera=at_integers(world), **options, depth_along_ray=True)
    world.check(one(tmp_path, reader), indices(world), depth_error=1e-5)
    # a camera that is stated for images of twice the size
    twice = PoseList(camera=(*(2 * f for f in world.focal), *(2 * c for c in world.center)), centres=0.5, **options)
    twice = dataclasses.replace(twice, camera_size=(128, 96), depth_along_ray=True)
    world.check(one(tmp_path, twice), indices(world), depth_error=1e-5)
    with pytest.raises(AssertionError):
        world.check(one(tmp_path, dataclasses.replace(reader, depth_along_ray=False)), indices(world))


def test_distances_along_the_ray_in_transforms(tmp_path: Path, world) -> None:
    content = write_nerfstudio(tmp_path, world)
    along_the_ray(world, tmp_path / "images")
    for i, frame in enumerate(content["frames"]):
        frame["depth_file_path"] = f"images/{i:02d}.npy"
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    world.check(one(tmp_path, Nerfstudio(depth_along_ray=True)), indices(world), depth_error=1e-5)


def test_pose_list_with_masks(tmp_path: Path, world) -> None:
    write_pose_list(tmp_path, world, [])
    (tmp_path / "masks").mkdir()
    for i in indices(world):
        world.save_depth(
            i, tmp_path / "masks" / f"{i + 3:03d}.png", unit=1, depth=(np.arange(64) == i) * np.ones((48, 1))
        )
    reader = PoseList(images="rgb/*.png", masks="masks/*.png", camera=at_integers(world))
    for i, frame in enumerate(one(tmp_path, reader).frames):
        assert load_view(frame).object_mask.nonzero()[:, 1].unique().tolist() == [i]
    (tmp_path / "masks" / "005.png").unlink()
    with pytest.raises(DataError, match=r"6 images .* but 5 masks \(masks/\*\.png\)"):
        one(tmp_path, reader)


def test_pose_list_by_number_and_as_extrinsics(tmp_path: Path, world) -> None:
    rows = []
    for i in reversed(indices(world)):
        camera = np.linalg.inv(world.world_from_cam[i])
        rows.append([i + 3, *camera[:3, 3], *Rotation.from_matrix(camera[:3, :3]).as_quat()])
    write_pose_list(tmp_path, world, [*rows, [99, 0, 0, 0, 0, 0, 0, 1]])
    reader = PoseList(
        images="rgb/*.png",
        depth="depth/*.png",
        depth_unit=FINE,
        poses="poses.txt",
        camera=at_integers(world),
        cam_from_world=True,
    )
    world.check(one(tmp_path, reader), indices(world))


def test_pose_list_with_the_y_axis_up(tmp_path: Path, world) -> None:
    # a world mirrored along y, seen by a camera mirrored along y: x -> pixels is the same with a negative fy
    mirror = np.diag([1.0, -1, 1])
    rows = []
    for i in indices(world):
        rotation = mirror @ world.world_from_cam[i, :3, :3] @ mirror
        rows.append([*(mirror @ world.world_from_cam[i, :3, 3]), *Rotation.from_matrix(rotation).as_quat()])
    write_pose_list(tmp_path, world, rows)
    fx, fy, cx, cy = at_integers(world)
    reader = PoseList(
        images="rgb/*.png", depth="depth/*.png", depth_unit=FINE, poses="poses.txt", camera=(fx, -fy, cx, cy)
    )
    world.check(one(tmp_path, reader), indices(world))


def test_pose_list_that_does_not_fit(tmp_path: Path, world) -> None:
    rows = [[*world.world_from_cam[i, :3, 3], *world.quaternion(i)] for i in indices(world)]
    write_pose_list(tmp_path, world, rows[:4])
    reader = PoseList(images="rgb/*.png", poses="poses.txt", camera=at_integers(world))
    with pytest.raises(DataError, match="4 poses for 6 images"):
        one(tmp_path, reader)
    (tmp_path / "depth" / "005.png").unlink()
    with pytest.raises(DataError, match=r"6 images .* but 5 depth files"):
        one(tmp_path, PoseList(images="rgb/*.png", depth="depth/*.png", camera=at_integers(world)))
    (tmp_path / "poses.txt").write_text("1 2 3\n")
    with pytest.raises(DataError, match="lines must be"):
        one(tmp_path, reader)


def test_captures_are_found_below_a_folder(tmp_path: Path, world) -> None:
    write_redwood(tmp_path / "b" / "deep" / "er", world)
    write_nerfstudio(tmp_path / "a", world)
    (tmp_path / ".hidden").mkdir()
    write_redwood(tmp_path / ".hidden", world)
    captures = find_captures(tmp_path)
    assert [capture.format for capture in captures] == ["nerfstudio", "redwood"]
    assert [capture.name for capture in captures] == [f"{tmp_path.name}/a", f"{tmp_path.name}/b/deep/er"]
    assert [capture.format for capture in find_captures(tmp_path, "redwood")] == ["redwood"]


def write_depth_map(path: Path, depth: np.ndarray) -> None:
    """As COLMAP's own ``scripts/python/read_write_dense.py`` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = depth.shape
    path.write_bytes(f"{width}&{height}&1&".encode() + depth.T.flatten(order="F").astype("<f4").tobytes())


@pytest.mark.parametrize("kind", ["geometric", "photometric"])
def test_colmaps_dense_depth_is_read(tmp_path: Path, world, kind: str) -> None:
    write_colmap(tmp_path, world, binary=True)
    maps = tmp_path / "stereo" / "depth_maps"
    for i in indices(world):
        write_depth_map(maps / f"{i}.png.{kind}.bin", world.depth(i))
    write_depth_map(maps / "0.png.photometric.bin", world.depth(0))  # the geometric one wins
    capture = one(tmp_path)
    world.check(capture, indices(world), share=1)
    (note,) = capture.notes
    assert note.startswith("depth of 6 of 6 frames is COLMAP's own, from stereo/depth_maps")
    assert ("photometric" in note) == (kind == "photometric")
    # what poses were made from cannot prove them, nor can what was made from poses
    decoded = {index: decode(frame, 64) for index, frame in enumerate(capture.frames)}
    assert observe(capture, decoded).sparse


@pytest.mark.parametrize("content", [b"", b"4&3&1&", b"4&3&1&" + b"0" * 47, b"4&3&2&" + b"0" * 96, b"PNG", b"x&3&1&"])
def test_a_dense_depth_map_that_is_none_is_named(tmp_path: Path, world, content: bytes) -> None:
    write_colmap(tmp_path, world, binary=True)
    path = tmp_path / "stereo" / "depth_maps" / "1.png.geometric.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"1\.png\.geometric\.bin: "):
        load_view(one(tmp_path).frames[1])


def test_dense_depth_that_is_not_of_these_images_is_noted(tmp_path: Path, world) -> None:
    write_colmap(tmp_path, world, binary=True)
    write_depth_map(tmp_path / "stereo" / "depth_maps" / "other.png.geometric.bin", world.depth(0))
    write_depth_map(tmp_path / "dense" / "stereo" / "depth_maps" / "0.png.geometric.bin", world.depth(0))
    assert one(tmp_path).notes[0] == "stereo/depth_maps holds no depth map of any of these images"
    assert "not read: dense/stereo/depth_maps" in one(tmp_path).notes[1]


def test_a_reader_can_name_the_channel_of_depth(tmp_path: Path, world) -> None:
    exr = pytest.importorskip("OpenEXR")
    content = write_nerfstudio(tmp_path, world)
    for i, frame in enumerate(content["frames"]):
        depth = world.depth(i).astype(np.float32)
        exr.File({}, {"left.Depth.Z": depth, "right.Depth.Z": depth + 1}).write(str(tmp_path / "images" / f"{i}.exr"))
        frame["depth_file_path"] = f"images/{i}.exr"
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"several channels may be depth: .*depth_channel"):
        load_view(one(tmp_path).frames[0])
    world.check(one(tmp_path, Nerfstudio(depth_channel="left.Depth.Z")), indices(world))
