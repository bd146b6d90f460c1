"""Captures as other people's tools and systems leave them: each family of trouble, over every layout it can befall."""

from __future__ import annotations

import dataclasses
import json
import re
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from capture_layouts import (
    at_integers,
    write_clearpose,
    write_colmap,
    write_nerfstudio,
    write_opencv_cameras,
    write_redwood,
    write_scannet,
    write_three_d_match,
    write_tum,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from plane_world import PlaneWorld

from lorasub.data.capture_settings import Decoding, HeldOut
from lorasub.data.decoding import load_view, stands_upright
from lorasub.data.readers.discovery import find_captures
from lorasub.data.readers.nerfstudio import Nerfstudio
from lorasub.data.readers.seven_scenes import SevenScenes
from lorasub.data.real import PosedRGBD
from lorasub.data.sources import EvaluationSet
from lorasub.errors import DataError


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
NAMED_FILES = ("tum", "nerfstudio", "opencv_cameras", "colmap")


def texts(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.suffix in (".txt", ".json", ".log")]


def encode(root: Path, encoding: str) -> None:
    for path in texts(root):
        path.write_bytes(path.read_text().encode(encoding))


def windows_line_ends(root: Path) -> None:
    for path in texts(root):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def upper_case_suffixes(root: Path) -> None:
    for path in [*root.rglob("*.png")]:
        path.rename(path.with_suffix(".PNG"))


def files_of_systems(root: Path) -> None:
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7Mac OS X        ")
        (path.parent / "Thumbs.db").write_bytes(b"\xd0\xcf")
        (path.parent / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


def windows_separators(root: Path) -> None:
    for path in texts(root):
        for folder in ("images", "rgb", "depth", "renderings"):
            slash = "\\\\" if path.suffix == ".json" else "\\"
            path.write_text(path.read_text().replace(f"{folder}/", f"{folder}{slash}"))


def logs_of_recorders(root: Path) -> None:
    (root / "a_recorder.log").write_text("started\nstopped, 3 frames\n")


MUTATIONS: dict[str, Callable[[Path], None]] = {
    "windows line ends": windows_line_ends,
    "upper-case suffixes": upper_case_suffixes,
    "files of systems": files_of_systems,
    "windows separators": windows_separators,
    "logs of recorders": logs_of_recorders,
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")


@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    mutations=st.sets(st.sampled_from(sorted(MUTATIONS))),
    encoding=st.sampled_from(ENCODINGS),
    linked=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_captures_of_other_systems_are_read_alike(
    layout: str, mutations: set[str], encoding: str, linked: bool
) -> None:
    world = small()
    with tempfile.TemporaryDirectory() as folder:
        root, kept = Path(folder) / "data", Path(folder) / "kept"
        (kept if linked else root).mkdir()
        LAYOUTS[layout](kept if linked else root, world)
        for name in sorted(mutations):
            MUTATIONS[name](kept if linked else root)
        encode(kept if linked else root, encoding)
        if linked:
            root.mkdir()
            (root / "scene").symlink_to(kept, target_is_directory=True)
        capture = one(root)
        assert capture.format == layout
        world.check(capture, [0, 1, 2], **CHECKS.get(layout, {}))


@given(
    encoding=st.sampled_from(ENCODINGS),
    name=st.sampled_from(["my photo {}.png", "a,b {}.png", "ünï {}.png", "#{}.png"]),
)
@settings(max_examples=12, deadline=None)
def test_names_may_hold_spaces_and_punctuation(encoding: str, name: str) -> None:
    world = small()
    for layout in NAMED_FILES:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            LAYOUTS[layout](root, world)
            images = sorted(path for path in root.rglob("*.png") if path.parent.name in ("images", "rgb", "renderings"))
            for i, path in enumerate(images):
                new = name.format(i).replace(".png", "_rgba.png") if layout == "opencv_cameras" else name.format(i)
                path.rename(path.with_name(new))
                if layout == "opencv_cameras":
                    depth = path.with_name(path.name.replace("rgba", "depth")).with_suffix(".exr")
                    depth.rename(depth.with_name(new.replace("rgba", "depth")).with_suffix(".exr"))
                for text in texts(root):
                    text.write_text(text.read_text().replace(path.name, new))
            encode(root, encoding)
            world.check(one(root), [0, 1, 2], **CHECKS.get(layout, {}))


def test_names_in_quotes_and_without_their_suffix(tmp_path: Path) -> None:
    world = small()
    tum_with_calibration(tmp_path, world)
    text = (tmp_path / "rgb.txt").read_text()
    (tmp_path / "rgb.txt").write_text(re.sub(r"(rgb/\S+)\.png", r'"\1"', text))
    world.check(one(tmp_path), [0, 1, 2])


# ------------------------------------------------------------------------------------------------------- lost poses


def lose_row(path: Path, row: int, columns: slice, word: str) -> None:
    lines = path.read_text().splitlines()
    words = lines[row].split()
    words[columns] = [word] * len(words[columns])
    lines[row] = " ".join(words)
    path.write_text("\n".join(lines) + "\n")


def lose(root: Path, layout: str, word: str) -> None:
    """Say that the pose of the second frame is lost."""
    if layout == "scannet":
        (root / "pose" / "1.txt").write_text(f"{' '.join([word] * 4)}\n" * 4)
    elif layout == "3dmatch":
        (root / "seq-01" / "frame-000001.pose.txt").write_text(f"{' '.join([word] * 4)}\n" * 4)
    elif layout == "tum":
        lose_row(root / "groundtruth.txt", 3, slice(1, 8), word)
    elif layout == "redwood":
        for row in range(6, 10):
            lose_row(root / "trajectory.log", row, slice(0, 4), word)
    elif layout == "colmap":
        lose_row(root / "sparse" / "0" / "images.txt", 3, slice(1, 8), word)
    else:
        path = root / ("transforms.json" if layout == "nerfstudio" else "opencv_cameras.json")
        content = json.loads(path.read_text())
        key = "transform_matrix" if layout == "nerfstudio" else "w2c"
        content["frames"][1][key] = [[float(word)] * 4] * 4
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("word", ["nan", "0", "inf"])
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_one_lost_pose_is_one_frame_without_pose(tmp_path: Path, layout: str, word: str) -> None:
    LAYOUTS[layout](tmp_path, small())
    lose(tmp_path, layout, word)
    capture = one(tmp_path)
    assert [frame.cam_from_world is None for frame in capture.frames] == [False, True, False]
    assert "1 frame has no pose" in capture.notes


@pytest.mark.parametrize("layout", ["scannet", "3dmatch"])
@pytest.mark.parametrize("empty", [True, False])
def test_one_missing_pose_file_is_one_frame_without_pose(tmp_path: Path, layout: str, empty: bool) -> None:
    LAYOUTS[layout](tmp_path, small())
    path = tmp_path / ("pose/1.txt" if layout == "scannet" else "seq-01/frame-000001.pose.txt")
    path.unlink()
    if empty:
        path.touch()
    assert [frame.cam_from_world is None for frame in one(tmp_path).frames] == [False, True, False]


def test_a_quaternion_in_another_order_is_still_told(tmp_path: Path) -> None:
    tum_with_calibration(tmp_path, small())
    path = tmp_path / "groundtruth.txt"
    lose_row(path, 1, slice(4, 8), "0.9")
    with pytest.raises(DataError, match="columns in another order"):
        one(tmp_path)


# ------------------------------------------------------------------------------------------------------------- sizes


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


# ------------------------------------------------------------------------------------------------- calibration files

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


# ------------------------------------------------------------------------------------------------- transforms.json

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


# ------------------------------------------------------------------------------------------ layouts nobody recognises


def images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (32, 24), (90, 120, 60)).save(folder / name)


def tables(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("1 2 3\n")


UNKNOWN = {
    "scannet without its camera": (
        ["color/0.jpg", "depth/0.png"],
        ["pose/0.txt"],
        ["pose/", "depth/", "'scannet'", "intrinsic"],
    ),
    "tum without its list": (
        ["rgb/0.png", "depth/0.png"],
        ["groundtruth.txt"],
        ["groundtruth.txt", "'tum'", "rgb.txt"],
    ),
    "hololens": (["PV/0.png"], ["2022_pv.txt", "pinhole_projection/rgb.txt"], ["HoloLens", "pv.txt"]),
    "sfm benchmark": (["images/0000.jpg"], ["gt_dense_cameras/0000.jpg.camera"], ["SfM benchmark"]),
    "kitti": (["image_2/0.png"], ["calib.txt", "poses.txt"], ["KITTI", "calib.txt", "poses.txt"]),
    "mvsnet": (["images/0.jpg"], ["cams/00000000_cam.txt"], ["MVSNet"]),
    "llff": (["images/0.jpg"], ["poses_bounds.npy"], ["LLFF", "poses_bounds.npy"]),
    "replica": (["results/frame0.jpg", "results/depth0.png"], ["traj.txt", "cam_params.json"], ["Replica", "traj.txt"]),
    "photos beside depth maps": (["a.jpg", "a_depth.png"], [], ["a_depth.png"]),
    "photos beside masks": (["images/a.jpg", "masks/a.png"], [], ["masks/"]),
}


@pytest.mark.parametrize("kind", sorted(UNKNOWN))
def test_an_unrecognised_folder_is_an_error_that_says_what_is_there(tmp_path: Path, kind: str) -> None:
    pictures, others, words = UNKNOWN[kind]
    for name in pictures:
        images((tmp_path / name).parent, Path(name).name)
    tables(tmp_path, *others)
    with pytest.raises(DataError, match="no reader recognises this layout") as caught:
        find_captures(tmp_path)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("names", [["a.jpg", "b.PNG"], ["holiday/a.jpg"], ["cameras/a.jpg"], ["depth_of_field.jpg"]])
def test_folders_of_photos_are_photos(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        images((tmp_path / name).parent, Path(name).name)
    (tmp_path / "notes.txt").write_text("by the sea")
    assert one(tmp_path).format == "images"


def test_images_alone_can_be_asked_for(tmp_path: Path) -> None:
    images(tmp_path, "a.jpg")
    tables(tmp_path, "poses.txt")
    assert [frame.name for frame in one(tmp_path, "images").frames] == ["a.jpg"]


def test_an_unrecognised_folder_beside_captures_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_nerfstudio(tmp_path / "good", small())
    images(tmp_path / "other" / "color", "0.jpg")
    tables(tmp_path, "other/pose/0.txt")
    assert one(tmp_path).name.endswith("/good")
    assert "other is left out" in caplog.text


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path / "kept", small())
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "kept")
    (tmp_path / "data" / "round").symlink_to(tmp_path / "data")
    assert one(tmp_path / "data").name == "data/a"


def test_logs_that_are_no_trajectories(tmp_path: Path) -> None:
    world = small()
    write_redwood(tmp_path, world)
    (tmp_path / "trajectory.log").rename(tmp_path / "scene.log")
    logs_of_recorders(tmp_path)
    world.check(one(tmp_path), [0, 1, 2])
    (tmp_path / "second.log").write_bytes((tmp_path / "scene.log").read_bytes())
    with pytest.raises(DataError, match=r"several logs are trajectories \(scene\.log, second\.log\)"):
        one(tmp_path)


# ----------------------------------------------------------------------------------------------------------- messages


def test_one_capture_that_cannot_be_read_need_not_stop_the_others(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path / "a", small(), camera_model="OPENCV_FISHEYE")
    write_nerfstudio(tmp_path / "b", small())
    told: list[tuple[Path, DataError]] = []
    captures = find_captures(tmp_path, on_error=lambda folder, error: told.append((folder, error)))
    assert [capture.name for capture in captures] == [f"{tmp_path.name}/b"]
    assert [folder.name for folder, _ in told] == ["a"]
    with pytest.raises(DataError, match="OPENCV_FISHEYE"):
        find_captures(tmp_path)


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


@pytest.mark.parametrize("name", ["pose/1.txt", "intrinsic/intrinsic_color.txt"])
@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"1 2\n", b"a b c d\n" * 4, b"\x80abc", "\u200b1 0 0 0\n".encode() * 4]
)
def test_messages_name_the_file_once_and_hold_no_error_numbers(tmp_path: Path, name: str, content: bytes) -> None:
    write_scannet(tmp_path, small())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        one(tmp_path)
    message = str(caught.value)
    assert message.count(str(tmp_path / name)) == 1
    assert "Errno" not in message
    assert message.isprintable()


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


@pytest.mark.parametrize("layout", ["tum", "nerfstudio", "scannet", "3dmatch"])
def test_one_missing_depth_file_is_one_frame_without_depth(tmp_path: Path, layout: str) -> None:
    LAYOUTS[layout](tmp_path, small())
    files = {"tum": "depth/100.111000.png", "nerfstudio": "images/1.npy", "scannet": "depth/1.png"}
    (tmp_path / files.get(layout, "seq-01/frame-000001.depth.png")).unlink()
    capture = one(tmp_path)
    assert [frame.depth is None for frame in capture.frames] == [False, True, False]
    if layout in ("tum", "nerfstudio"):
        assert f"1 depth files are not there: {files[layout]} ..." in capture.notes


def test_one_unreadable_image_does_not_stop_a_file_without_sizes(tmp_path: Path) -> None:
    content = write_nerfstudio(tmp_path, small())
    content = {"camera_angle_x": 1.0, "frames": content["frames"]}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    (tmp_path / "images" / "1.png").write_bytes(b"")
    capture = one(tmp_path)
    assert len(capture) == 3
    load_view(capture.frames[2])
    with pytest.raises(DataError, match=r"1\.png: .*the file is empty"):
        load_view(capture.frames[1])


def test_entries_without_any_image_are_named(tmp_path: Path) -> None:
    content = write_nerfstudio(tmp_path, small())
    for i, frame in enumerate(content["frames"]):
        frame["file_path"] = f"C:\\data\\{i}.png"
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"holds no frame with an image \(3 of 3 entries skipped, no such image: C:"):
        one(tmp_path)


@pytest.mark.parametrize(("scale", "told"), [(1, False), (1.35, True)])
def test_a_principal_point_far_from_the_middle_is_noted(tmp_path: Path, scale: float, told: bool) -> None:
    write_scannet(tmp_path, small())
    k = np.diag([60.0, 58.0, 1, 1])
    k[:2, 2] = 31 * scale, 24 * scale
    np.savetxt(tmp_path / "intrinsic" / "intrinsic_color.txt", k)
    assert any("do the intrinsics belong to another resolution" in note for note in one(tmp_path).notes) is told


@pytest.mark.parametrize("folder", ["depth", "masks"])
def test_a_folder_of_depth_maps_is_no_folder_of_photos(tmp_path: Path, folder: str) -> None:
    images(tmp_path / folder, "0.png")
    with pytest.raises(DataError, match=f"{folder}: the folder's own name"):
        find_captures(tmp_path / folder)


def test_resized_copies_alone_are_enough_for_colmap(tmp_path: Path) -> None:
    write_colmap(tmp_path, small(), binary=True)
    (tmp_path / "images").rename(tmp_path / "images_4")
    for path in (tmp_path / "images_4").glob("*.png"):
        Image.open(path).resize((16, 12)).save(path)
    capture = one(tmp_path)
    assert capture.notes == ("images are 16 x 12, their cameras were calibrated at 64 x 48: intrinsics are scaled",)
    assert load_view(capture.frames[0]).intrinsics[0, 0] == 15


def test_the_data_module_says_once_what_readers_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = dataclasses.replace(small(), size=(480, 640), focal=(525.0, 525.0), center=(320.0, 240.0))
    write_tum(tmp_path / "room", world)
    write_tum(tmp_path / "other", world)
    data = PosedRGBD(
        "room",
        base_folder=str(tmp_path),
        num_views=1,
        held_out=HeldOut(fraction=0.5),
        evaluation={"other": EvaluationSet(root="other")},
        predict_root="other",
    )
    for loaders in (data.train_dataloader, data.val_dataloader, data.test_dataloader, data.test_dataloader):
        loaders()
    assumed = [record for record in caplog.records if "assumed camera" in record.getMessage()]
    assert [Path(record.getMessage().split(": ")[0]).name for record in assumed] == ["room", "other"]
    data.predict_dataloader()
    assert sum("assumed camera" in record.getMessage() for record in caplog.records) == 3
    assert all(record.levelname == "WARNING" for record in assumed)


def test_damaged_captures_are_left_out_of_a_fit_if_asked(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path / "a", small(), camera_model="OPENCV_FISHEYE")
    write_nerfstudio(tmp_path / "b", small())
    data = PosedRGBD(str(tmp_path), num_views=1, decoding=Decoding(skip_damaged=True))
    with pytest.warns(UserWarning, match=r"skipping the capture .*a: .*OPENCV_FISHEYE"):
        assert len(data.captures) == 1
    (tmp_path / "b" / "transforms.json").write_text("{")
    with pytest.warns(UserWarning, match="skipping"), pytest.raises(DataError, match="OPENCV_FISHEYE"):
        PosedRGBD(str(tmp_path), num_views=1, decoding=Decoding(skip_damaged=True)).dataset("train")


@pytest.mark.parametrize("name", ["cameras.txt", "images.txt", "points3D.txt"])
def test_colmap_text_that_is_no_text_is_named(tmp_path: Path, name: str) -> None:
    write_colmap(tmp_path, small(), binary=False)
    path = tmp_path / "sparse" / "0" / name
    path.write_bytes(b"1 PINHOLE 64 48 \x80\x81\n")
    with pytest.raises(DataError, match=rf"sparse/0/{name}: cannot be read as text") as caught:
        one(tmp_path)
    assert str(caught.value).count(str(path)) == 1


def damage(path: Path, kind: str, random: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    if kind == "cut":
        content = content[: int(random.integers(0, len(content)))]
    elif kind == "emptied":
        content = bytearray()
    elif kind == "replaced":
        content = bytearray(random.integers(0, 256, 200, np.uint8).tobytes())
    else:
        for place in random.integers(0, len(content), 1 + len(content) // 200):
            content[place] = int(random.integers(0, 256))
    path.write_bytes(content)


@given(
    layout=st.sampled_from([*sorted(LAYOUTS), "colmap, binary", "clearpose"]),
    kind=st.sampled_from(["cut", "emptied", "replaced", "flipped"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_damage_is_an_error_in_words_or_none_at_all(layout: str, kind: str, seed: int) -> None:
    writers = LAYOUTS | {
        "colmap, binary": lambda root, world: write_colmap(root, world, binary=True),
        "clearpose": write_clearpose,
    }
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        writers[layout](root, small())
        files = sorted(path for path in root.rglob("*") if path.is_file())
        path = files[int(random.integers(len(files)))]
        damage(path, kind, random)
        told = str(root)
        try:
            for frame in find_captures(root)[0].frames:
                load_view(frame)
        except DataError as error:
            told = str(error)
        assert str(root) in told
        assert "Errno" not in told
