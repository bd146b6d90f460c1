"""What looks like something else than it is: readers use the file's own word for it, refuse it, or note it by name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from capture_layouts import (
    at_integers,
    indices,
    one,
    write_colmap,
    write_nerfstudio,
    write_opencv_cameras,
    write_redwood,
    write_scannet,
    write_three_d_match,
    write_tum,
)
from PIL import Image

from lorasub.data.depth import DepthFile
from lorasub.data.readers.calibration import read_calibration
from lorasub.errors import DataError


def rewrite(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def transpose_log(path: Path) -> None:
    rows = path.read_text().splitlines()
    for first in range(0, len(rows), 5):
        matrix = np.array([row.split() for row in rows[first + 1 : first + 5]])
        rows[first + 1 : first + 5] = [" ".join(row) for row in matrix.T]
    path.write_text("\n".join(rows))


def transpose_text(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        np.savetxt(path, np.loadtxt(path).T)


def transpose_json(path: Path, key: str) -> None:
    def change(content: dict) -> None:
        for frame in content["frames"]:
            frame[key] = np.array(frame[key]).T.tolist()

    rewrite(path, change)


@pytest.mark.parametrize(
    ("write", "transpose"),
    [
        (write_nerfstudio, lambda root: transpose_json(root / "transforms.json", "transform_matrix")),
        (
            lambda root, world: write_opencv_cameras(root, world, paths=True),
            lambda root: transpose_json(root / "opencv_cameras.json", "w2c"),
        ),
        (write_redwood, lambda root: transpose_log(root / "trajectory.log")),
        (write_three_d_match, lambda root: transpose_text(root, "**/*.pose.txt")),
        (write_scannet, lambda root: transpose_text(root, "pose/*.txt")),
    ],
    ids=["nerfstudio", "opencv_cameras", "redwood", "3dmatch", "scannet"],
)
def test_matrices_stored_column_by_column_are_refused(tmp_path: Path, world, write, transpose) -> None:
    write(tmp_path, world)
    transpose(tmp_path)
    with pytest.raises(DataError, match=r"0 0 0 1; is it stored column by column") as told:
        one(tmp_path)
    assert re.search(r"transforms\.json|opencv_cameras\.json|trajectory\.log|pose\.txt|pose/\d+\.txt", str(told.value))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("suffix", [".npy", ".tiff"])
def test_numbers_of_depth_are_told_by_their_type(tmp_path: Path, suffix: str, dtype: type) -> None:
    path = tmp_path / f"depth{suffix}"
    stored = np.full((4, 5), 1500 if dtype is np.uint16 else 1.5, dtype)
    np.save(path, stored) if suffix == ".npy" else Image.fromarray(stored).save(path)
    assert DepthFile(path=path, unit=0.001, float_unit=1.0).load().numpy() == pytest.approx(1.5)


@pytest.mark.parametrize("suffix", [".npy", ".tiff"])
def test_depth_in_floats_is_in_world_units_whatever_its_suffix(tmp_path: Path, world, suffix: str) -> None:
    content = write_nerfstudio(tmp_path, world)
    for i in indices(world):
        Image.fromarray(world.depth(i).astype(np.float32)).save(tmp_path / "images" / f"{i}.tiff")
        np.save(tmp_path / "images" / f"{i}.npy", np.round(world.depth(i) * 1000).astype(np.uint16))
        content["frames"][i]["depth_file_path"] = f"images/{i}{suffix}"
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    world.check(one(tmp_path), indices(world))


def test_depth_along_minus_z_is_refused_and_one_mark_is_not(tmp_path: Path) -> None:
    np.save(tmp_path / "gl.npy", -np.linspace(1, 3, 20, dtype=np.float32).reshape(4, 5))
    with pytest.raises(DataError, match=r"gl\.npy: all depth is negative \(-3 to -1\)"):
        DepthFile(path=tmp_path / "gl.npy", unit=1.0).load()
    np.save(tmp_path / "nothing.npy", np.full((4, 5), -1.0, np.float32))
    assert not DepthFile(path=tmp_path / "nothing.npy", unit=1.0).load().any()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("calibration.txt", "depth: fx=580 fy=580 cx=319 cy=239\ncolor: fx=525 fy=525 cx=319 cy=239\n"),
        ("camera.yaml", "Camera1.fx: 580\nCamera1.fy: 580\nCamera1.cx: 1\nCamera1.cy: 1\nCamera2.fx: 525\n"),
    ],
)
def test_a_file_of_several_cameras_does_not_say_which_is_meant(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name}: fx is stated as 580 and as 525: it holds several cameras"):
        read_calibration(tmp_path / name)
    (tmp_path / name).write_text(text.replace("525", "580"))
    assert float(read_calibration(tmp_path / name).intrinsics[0, 0]) == 580


def test_colmap_images_without_their_empty_lines(tmp_path: Path, world) -> None:
    write_colmap(tmp_path, world, binary=False)
    path = tmp_path / "sparse" / "0" / "images.txt"
    lines = [line for line in path.read_text().splitlines() if line.endswith(".png")]
    path.write_text("\n".join(lines))
    world.check(one(tmp_path), indices(world), share=0)


def test_depth_of_frames_under_another_name_is_noted(tmp_path: Path, world) -> None:
    write_three_d_match(tmp_path, world)
    for path in list(tmp_path.glob("**/*.depth.png")):
        path.rename(path.with_name(path.name.replace(".depth.png", ".depth.proj.png")))
    capture = one(tmp_path)
    assert not capture.has_depth
    assert any("not read" in note and ".depth.proj.png and 5 more" in note for note in capture.notes)


def test_numbers_and_names_that_cannot_be_are_told(tmp_path: Path, world) -> None:
    write_nerfstudio(tmp_path, world)
    path = tmp_path / "transforms.json"
    whole = path.read_text()
    for key, value in (("fl_x", 10**400), ("w", float("inf")), ("k1", 10**400)):
        rewrite(path, lambda content, key=key, value=value: content.update({key: value}))
        with pytest.raises(DataError, match=r"transforms\.json"):
            one(tmp_path)
        path.write_text(whole)
    for name in ("1" * 300, "a\0b", "\ud800"):
        rewrite(path, lambda content, name=name: content["frames"][1].update(file_path=name))
        assert "1 of 6 entries skipped" in " ".join(one(tmp_path).notes)
        path.write_text(whole)
    path.write_text(whole.replace('"w"', '"camera_angle_x": 0, "old_w"').replace('"fl_x"', '"old"'))
    with pytest.raises(DataError, match=r"transforms\.json"):
        one(tmp_path)
    path.write_text(whole.replace('"w": 64', '"w": ' + "9" * 5000))
    with pytest.raises(DataError, match=r"transforms\.json"):
        one(tmp_path)


def test_focal_lengths_in_other_units_are_refused(tmp_path: Path, world) -> None:
    content = write_nerfstudio(tmp_path, world)
    path = tmp_path / "transforms.json"
    parts = {"fl_x": content["fl_x"] / 64, "fl_y": content["fl_y"] / 48, "cx": 0.48, "cy": 0.52}
    path.write_text(json.dumps(content | parts))
    with pytest.raises(DataError, match=r"focal lengths are in pixels, got fx=0\.9375"):
        one(tmp_path)
    for degrees in (40.0, 56.0):
        angle = {key: value for key, value in content.items() if not key.startswith("fl_")}
        path.write_text(json.dumps(angle | {"camera_angle_x": degrees}))
        with pytest.raises(DataError, match=rf"camera_angle_x, which is {degrees:g}: a field of view"):
            one(tmp_path)


def test_the_right_camera_is_still_read(tmp_path: Path, world) -> None:
    write_tum(tmp_path, world)
    fx, fy, cx, cy = at_integers(world)
    (tmp_path / "calibration.txt").write_text(f"fx: {fx}\nfy: {fy}\ncx: {cx}\ncy: {cy}\n")
    world.check(one(tmp_path), indices(world))
