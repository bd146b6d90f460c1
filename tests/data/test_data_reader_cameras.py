"""Facts that a source states about its cameras: used, refused or noted."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from capture_layouts import (
    CHECKS,
    LAYOUTS,
    at_integers,
    one,
    small,
    texts,
    write_colmap,
    write_nerfstudio,
    write_redwood,
    write_scannet,
    write_three_d_match,
    write_tum,
)
from PIL import Image

from lorasub.data.decoding import load_view, stands_upright
from lorasub.data.readers.discovery import find_captures
from lorasub.data.readers.nerfstudio import Nerfstudio
from lorasub.data.readers.seven_scenes import SevenScenes
from lorasub.errors import DataError


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5, 2])
@pytest.mark.parametrize("layout", ["nerfstudio", "colmap", "redwood", "opencv_cameras"])
def test_cameras_are_scaled_to_images_of_another_size(tmp_path: Path, layout: str, factor: float) -> None:
    world = small()
    LAYOUTS[layout](tmp_path, world)
    if layout == "opencv_cameras":
        path = tmp_path / "opencv_cameras.json"
        content = json.loads(path.read_text())
        for frame in content["frames"]:
            frame |= {"w": 64, "h": 48}
        path.write_text(json.dumps(content))
    scaled = dataclasses.replace(
        world,
        size=(round(48 * factor), round(64 * factor)),
        focal=(60 * factor, 58 * factor),
        center=(31 * factor, 25 * factor),
    )
    images = [p for p in sorted(tmp_path.rglob("*.png")) if p.parent.name in ("images", "color", "renderings")]
    for i, path in enumerate(images):
        scaled.save_image(i, path)
    capture = one(tmp_path)
    (note,) = [note for note in capture.notes if "calibrated" in note]
    assert f"{scaled.size[1]} x {scaled.size[0]}" in note
    assert "64 x 48" in note
    # depth keeps its own grid: a value is of a place up to a pixel of it away
    scaled.check(capture, [0, 1, 2], share=0, depth_error=0.04)


@pytest.mark.parametrize("layout", ["nerfstudio", "colmap", "redwood"])
def test_sizes_that_no_scale_explains_name_both(tmp_path: Path, layout: str) -> None:
    world = small()
    LAYOUTS[layout](tmp_path, world)
    cut = dataclasses.replace(world, size=(48, 40))
    images = [path for path in sorted(tmp_path.rglob("*.png")) if path.parent.name in ("images", "color")]
    for i, path in enumerate(images):
        cut.save_image(i, path)
    with pytest.raises(DataError, match="image is 40 x 48, its camera was calibrated at 64 x 48"):
        load_view(one(tmp_path).frames[0])


@pytest.mark.parametrize("tag", [5, 6, 7, 8])
@pytest.mark.parametrize("layout", ["nerfstudio", "colmap"])
def test_the_stated_size_decides_whether_an_image_is_turned(tmp_path: Path, layout: str, tag: int) -> None:
    world = small()
    LAYOUTS[layout](tmp_path, world)
    back = {5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}[tag]
    exif = Image.Exif()
    exif[0x0112] = tag
    for path in (tmp_path / "images").glob("*.png"):
        lying = Image.open(path).transpose(Image.Transpose[back])
        lying.save(path.with_suffix(".jpg"), exif=exif, quality=98)
        path.unlink()
    for path in texts(tmp_path):
        path.write_text(path.read_text().replace(".png", ".jpg"))
    capture = one(tmp_path)
    assert any("turned" in note for note in capture.notes)
    world.check(capture, [0, 1, 2], **CHECKS.get(layout, {}))
    # the same files for a camera of the stored pixels: left alone
    for path in texts(tmp_path):
        path.write_text(
            path.read_text().replace('"w": 64, "h": 48', '"w": 48, "h": 64').replace("PINHOLE 64 48", "PINHOLE 48 64")
        )
    assert not stands_upright(one(tmp_path).frames[0])


def test_assumed_cameras_are_noted_and_only_for_their_size(tmp_path: Path) -> None:
    world = dataclasses.replace(small(), size=(480, 640), focal=(525.0, 525.0), center=(320.0, 240.0))
    write_tum(tmp_path / "tum", world)
    write_redwood(tmp_path / "redwood", world)
    (tmp_path / "redwood" / "camera_intrinsic.json").unlink()
    for capture in find_captures(tmp_path):
        assert any(note.startswith("assumed camera") for note in capture.notes)
        world.check(capture, [0, 1, 2])
    world.save_image(1, tmp_path / "tum" / "rgb" / "100.100000.png")
    Image.new("RGB", (320, 240)).save(tmp_path / "tum" / "rgb" / "100.100000.png")
    with pytest.raises(DataError, match=r"100\.100000\.png: the image is 320 x 240, but nothing in the folder states"):
        find_captures(tmp_path / "tum")


FORMS = {
    "3 x 3": lambda fx, fy, cx, cy: f"{fx} 0 {cx}\n0 {fy} {cy}\n0 0 1\n",
    "4 x 4": lambda fx, fy, cx, cy: f"{fx} 0 {cx} 0\n0 {fy} {cy} 0\n0 0 1 0\n0 0 0 1\n",
    "numpy": lambda fx, fy, cx, cy: f"[[{fx}, 0, {cx}],\n [0, {fy}, {cy}],\n [0, 0, 1]]\n",
    "flat": lambda fx, fy, cx, cy: f"{fx} 0 {cx} 0 {fy} {cy} 0 0 1\n",
    "four": lambda fx, fy, cx, cy: f"# fx fy cx cy\n{fx} {fy} {cx} {cy}\n",
    "with zero distortion": lambda fx, fy, cx, cy: f"{fx} {fy} {cx} {cy} 0 0 0 0 0\n",
    "names": lambda fx, fy, cx, cy: f"fx: {fx}\nfy: {fy}\ncx: {cx}\ncy: {cy}\n",
}


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("name", ["calibration.txt", "intrinsics.K.txt", "Camera-Intrinsics.TXT"])
def test_a_calibration_file_beside_tum_is_used(tmp_path: Path, name: str, form: str) -> None:
    world = small()
    write_tum(tmp_path, world)
    (tmp_path / name).write_text(FORMS[form](*at_integers(world)))
    capture = one(tmp_path)
    assert f"camera from {name}" in capture.notes
    world.check(capture, [0, 1, 2])


def test_distortion_in_a_calibration_file_counts(tmp_path: Path) -> None:
    write_tum(tmp_path, small())
    (tmp_path / "calibration.txt").write_text("60 58 30.5 24.5 0.1 -0.05 0.001 0.002 0\n")
    assert one(tmp_path).frames[0].distortion == (0.1, -0.05, 0.001, 0.002, 0.0)


@pytest.mark.parametrize("content", ["nothing here", "1 2 3\n4 5 6\n", "0.9 1.1 0.5 0.5\n", "1 0 0\n0 0 1\n0 1 0\n"])
def test_a_calibration_file_that_says_nothing_is_an_error(tmp_path: Path, content: str) -> None:
    write_tum(tmp_path, small())
    (tmp_path / "calibration.txt").write_text(content)
    with pytest.raises(DataError, match=r"calibration\.txt"):
        one(tmp_path)


@pytest.mark.parametrize("name", ["intrinsics.K.txt", "calibration.txt"])
def test_a_calibration_file_makes_frames_of_seven_scenes_those_of_one_camera(tmp_path: Path, name: str) -> None:
    world = small()
    write_three_d_match(tmp_path, world)
    (tmp_path / "camera-intrinsics.txt").rename(tmp_path / name)
    capture = one(tmp_path)
    assert capture.format == "3dmatch"
    world.check(capture, [0, 1, 2])
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match="image is 64 x 48, but nothing in the folder states its camera"):
        one(tmp_path)
    assert any(note.startswith("assumed camera") for note in SevenScenes().read(tmp_path).notes)


@pytest.mark.parametrize(
    "place", ["intrinsic/intrinsic_color.txt", "intrinsics_color.txt", "intrinsic_color.txt", "intrinsics.txt"]
)
def test_scannet_with_its_camera_elsewhere(tmp_path: Path, place: str) -> None:
    world = small()
    write_scannet(tmp_path, world, place)
    np.savetxt((tmp_path / place).with_name("intrinsics_depth.txt"), np.eye(4) * 300)
    capture = one(tmp_path)
    assert capture.format == "scannet"
    world.check(capture, [0, 1, 2], **CHECKS["scannet"])


LENSES = [
    {"is_fisheye": True},
    {"fisheye": True},
    {"latlong": True},
    {"equirectangular": True},
    {"ftheta_p0": 0.0},
    {"ftheta_p4": 0.1, "ftheta_p0": 0.0},
    {"k4": 0.3},
    {"camera_model": "OPENCV_FISHEYE"},
    {"camera_model": "EQUIRECTANGULAR"},
    {"camera_model": "FISHEYE624"},
    {"rolling_shutter": [0, 0, 1, 0]},
    {"transform_matrix_start": [[1, 0, 0, 0]]},
]


@pytest.mark.parametrize("lens", LENSES, ids=str)
@pytest.mark.parametrize("place", ["top", "frame"])
def test_lenses_that_are_not_perspective_are_refused(tmp_path: Path, lens: dict, place: str) -> None:
    content = write_nerfstudio(tmp_path, small())
    (content if place == "top" else content["frames"][2]).update(lens)
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="not supported"):
        one(tmp_path)


@pytest.mark.parametrize(
    "lens", [{"is_fisheye": False}, {"k4": 0}, {"latlong": None}, {"rolling_shutter": [0, 0, 0, 0]}], ids=str
)
def test_flags_that_are_off_change_nothing(tmp_path: Path, lens: dict) -> None:
    write_nerfstudio(tmp_path, small(), **lens)
    small().check(one(tmp_path), [0, 1, 2])


def test_keys_that_nothing_looks_at_are_noted(tmp_path: Path) -> None:
    content = write_nerfstudio(tmp_path, small(), from_na=True, aabb_scale=4)
    content["frames"][1]["mask_path"] = "masks/1.png"
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    assert one(tmp_path).notes == ("transforms.json: not read: from_na, mask_path",)


def test_instant_ngps_depth_has_its_own_unit(tmp_path: Path) -> None:
    world = small()
    content = write_nerfstudio(tmp_path, world)
    for i, frame in enumerate(content["frames"]):
        del frame["depth_file_path"]
        frame["depth_path"] = f"depth/{i}.png"
        world.save_depth(i, tmp_path / "depth" / f"{i}.png", unit=1 / 5000)
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps(content | {"integer_depth_scale": 1 / 5000}))
    world.check(one(tmp_path), [0, 1, 2])
    for off, why in (
        ({"integer_depth_scale": 0.001, "enable_depth_loading": False}, "enable_depth_loading"),
        ({}, "no integer"),
    ):
        path.write_text(json.dumps(content | off))
        capture = one(tmp_path)
        assert not capture.has_depth
        assert any("depth_path of 3 frames is not read" in note and why in note for note in capture.notes)


@pytest.mark.parametrize("unit", [0.001, 0.0002])
def test_nerfstudios_depth_unit(tmp_path: Path, unit: float) -> None:
    world = small()
    content = write_nerfstudio(tmp_path, world)
    for i, frame in enumerate(content["frames"]):
        frame["depth_file_path"] = f"depth\\{i}.PNG"
        world.save_depth(i, tmp_path / "depth" / f"{i}.png", unit=unit)
    (tmp_path / "transforms.json").write_text(json.dumps(content | {"depth_unit_scale_factor": unit}))
    world.check(one(tmp_path), [0, 1, 2])


def test_nerf_synthetic_is_one_capture_of_its_splits(tmp_path: Path) -> None:
    world = dataclasses.replace(small(), focal=(60.0, 60.0), center=(32.0, 24.0))
    entries = write_nerfstudio(tmp_path, world)["frames"]
    (tmp_path / "transforms.json").unlink()
    for name, chosen in (("train", [0]), ("val", [1]), ("test", [2])):
        frames = []
        for i in chosen:
            world.save_image(i, tmp_path / name / f"r_{i}.png")
            frames.append(
                {"file_path": f"./{name}/r_{i}", "rotation": 0.1, "transform_matrix": entries[i]["transform_matrix"]}
            )
        angle = 2 * np.arctan(32 / 60)
        (tmp_path / f"transforms_{name}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    capture = one(tmp_path)
    assert [frame.name for frame in capture.frames] == ["test/r_2.png", "train/r_0.png", "val/r_1.png"]
    assert capture.notes == ()
    world.check(capture, [2, 0, 1], share=0)
    assert len(one(tmp_path, Nerfstudio(file="transforms_train.json"))) == 1


def test_other_transforms_beside_are_noted(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path, small())
    (tmp_path / "transforms_clean.json").write_text("{}")
    assert one(tmp_path).notes == ("not read: transforms_clean.json",)


@pytest.mark.parametrize("number", [11, 15, -1])
def test_a_lens_that_a_newer_colmap_knows_is_no_damage(tmp_path: Path, number: int) -> None:
    write_colmap(tmp_path, small(), binary=True)
    path = tmp_path / "sparse" / "0" / "cameras.bin"
    content = bytearray(path.read_bytes())
    content[12:16] = struct.pack("<i", number)
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"cameras\.bin: camera model number {number} is not supported") as caught:
        one(tmp_path)
    assert "truncated" not in str(caught.value)
    assert "image_undistorter" in str(caught.value)


YAMLS = {
    "camera_info.yaml": (
        "image_width: 64\nimage_height: 48\n"
        "camera_matrix:\n  rows: 3\n  cols: 3\n  data: [{0}, 0, {2}, 0, {1}, {3}, 0, 0, 1]\n"
        "distortion_model: plumb_bob\ndistortion_coefficients: {{rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}}\n"
    ),
    "calibration.yaml": (
        "%YAML:1.0\n---\nCamera.fx: {0}\nCamera.fy: {1}\nCamera.cx: {2}\nCamera.cy: {3}\n"
        "Camera.width: 64\nCamera.height: 48\n"
    ),
    "camera.yaml": (
        "%YAML:1.0\nK: !!opencv-matrix\n   rows: 3\n   cols: 3\n   dt: d\n"
        "   data: [{0}, 0, {2}, 0, {1}, {3}, 0, 0, 1]\n"
    ),
    "camera.json": '{{"fx": {0}, "fy": {1}, "cx": {2}, "cy": {3}, "width": 64, "height": 48}}',
}


@pytest.mark.parametrize("name", sorted(YAMLS))
def test_calibration_as_robots_write_it(tmp_path: Path, name: str) -> None:
    world = small()
    write_tum(tmp_path, world)
    (tmp_path / name).write_text(YAMLS[name].format(*at_integers(world)))
    world.check(one(tmp_path), [0, 1, 2])


def test_a_fisheye_calibration_is_refused(tmp_path: Path) -> None:
    write_tum(tmp_path, small())
    text = YAMLS["camera_info.yaml"].format(*at_integers(small())).replace("plumb_bob", "equidistant")
    (tmp_path / "camera_info.yaml").write_text(text)
    with pytest.raises(DataError, match="lens model equidistant is not supported"):
        one(tmp_path)


@pytest.mark.parametrize(("scale", "told"), [(1, False), (1.35, True)])
def test_a_principal_point_far_from_the_middle_is_noted(tmp_path: Path, scale: float, told: bool) -> None:
    write_scannet(tmp_path, small())
    k = np.diag([60.0, 58.0, 1, 1])
    k[:2, 2] = 31 * scale, 24 * scale
    np.savetxt(tmp_path / "intrinsic" / "intrinsic_color.txt", k)
    assert any("do the intrinsics belong to another resolution" in note for note in one(tmp_path).notes) is told


def test_resized_copies_alone_are_enough_for_colmap(tmp_path: Path) -> None:
    write_colmap(tmp_path, small(), binary=True)
    (tmp_path / "images").rename(tmp_path / "images_4")
    for path in (tmp_path / "images_4").glob("*.png"):
        Image.open(path).resize((16, 12)).save(path)
    capture = one(tmp_path)
    assert capture.notes == ("images are 16 x 12, their cameras were calibrated at 64 x 48: intrinsics are scaled",)
    assert load_view(capture.frames[0]).intrinsics[0, 0] == 15
