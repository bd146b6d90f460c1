"""Folders that no reader recognises, captures beside each other, and what the data module says of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from capture_layouts import (
    images,
    logs_of_recorders,
    one,
    small,
    tables,
    write_nerfstudio,
    write_redwood,
    write_tum,
)

from lorasub.data.readers.discovery import find_captures
from lorasub.data.real import PosedRGBD
from lorasub.data.sources import Decoding, EvaluationSet, HeldOut
from lorasub.errors import DataError

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


@pytest.mark.parametrize(
    "names",
    [
        ["a.jpg", "b.PNG"],
        ["holiday/a.jpg"],
        ["cameras/a.jpg"],
        ["depth_of_field.jpg"],
        ["Segovia/a.jpg", "PV/b.jpg"],
        ["mountain-range.png", "normal_1.png"],
    ],
)
def test_folders_of_photos_are_photos(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        images((tmp_path / name).parent, Path(name).name)
    (tmp_path / "notes.txt").write_text("by the sea")
    assert {capture.format for capture in find_captures(tmp_path)} == {"images"}


@pytest.mark.parametrize("format", ["auto", "images"])
@pytest.mark.parametrize("where", ["a.jpg", "images/a.jpg"])
def test_a_database_beside_photos_is_noted_by_name(tmp_path: Path, where: str, format: str) -> None:
    images((tmp_path / where).parent, "a.jpg")
    (tmp_path / "database.db").write_bytes(b"SQLite format 3\0")
    (note,) = one(tmp_path, format).notes
    assert "not read: database.db" in note
    assert "no poses" in note


def test_a_database_above_the_named_folder_is_not_looked_for(tmp_path: Path) -> None:
    images(tmp_path / "images", "a.jpg")
    (tmp_path / "database.db").write_bytes(b"SQLite format 3\0")
    assert one(tmp_path / "images").notes == ()


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


def test_one_capture_that_cannot_be_read_need_not_stop_the_others(tmp_path: Path) -> None:
    write_nerfstudio(tmp_path / "a", small(), camera_model="OPENCV_FISHEYE")
    write_nerfstudio(tmp_path / "b", small())
    told: list[tuple[Path, DataError]] = []
    captures = find_captures(tmp_path, on_error=lambda folder, error: told.append((folder, error)))
    assert [capture.name for capture in captures] == [f"{tmp_path.name}/b"]
    assert [folder.name for folder, _ in told] == ["a"]
    with pytest.raises(DataError, match="OPENCV_FISHEYE"):
        find_captures(tmp_path)


def test_entries_without_any_image_are_named(tmp_path: Path) -> None:
    content = write_nerfstudio(tmp_path, small())
    for i, frame in enumerate(content["frames"]):
        frame["file_path"] = f"C:\\data\\{i}.png"
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"holds no frame with an image \(3 of 3 entries skipped, no such image: C:"):
        one(tmp_path)


@pytest.mark.parametrize("folder", ["depth", "masks"])
def test_a_folder_of_depth_maps_is_no_folder_of_photos(tmp_path: Path, folder: str) -> None:
    images(tmp_path / folder, "0.png")
    with pytest.raises(DataError, match=f"{folder}: the folder's own name"):
        find_captures(tmp_path / folder)


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


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a.DNG", "b.dng"], r"sensor took them \(2 files \.dng\): develop"),
        (["clip.MOV"], r"videos \(1 files \.mov\): take frames out: ffmpeg"),
        (["a.jxl"], r"not read \(1 files \.jxl\): convert"),
        (["scene.tar.gz", "b.zip"], r"archives \(2 files \.gz, \.zip\): unpack"),
        (["sub/run.bag"], r"recordings \(1 files \.bag\)"),
    ],
)
def test_a_folder_of_what_is_no_image_says_what_it_is(tmp_path: Path, names: list[str], says: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"II*\0" + bytes(64))
    with pytest.raises(DataError, match=says):
        find_captures(tmp_path)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["000001.JPG", "Barn_COLMAP_SfM.log", "Barn_trans.txt"], "Tanks and Temples"),
        (["r-1315403270.61.ppm", "d-1315403270.60.pgm"], "NYU Depth v2"),
    ],
)
def test_more_layouts_that_are_not_read_are_named(tmp_path: Path, names: list[str], says: str) -> None:
    for name in names:
        images(tmp_path, name) if name[-3:] in ("JPG", "ppm", "pgm") else tables(tmp_path, name)
    with pytest.raises(DataError, match=says):
        find_captures(tmp_path)
