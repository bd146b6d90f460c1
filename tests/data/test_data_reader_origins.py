"""Captures as other systems leave them, lost poses, and damage: read alike, or told in words."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from capture_layouts import (
    CHECKS,
    ENCODINGS,
    LAYOUTS,
    encode,
    logs_of_recorders,
    one,
    small,
    texts,
    tum_with_calibration,
    write_clearpose,
    write_colmap,
    write_nerfstudio,
    write_scannet,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasub.data.decoding import load_view
from lorasub.data.readers.discovery import find_captures
from lorasub.errors import DataError

NAMED_FILES = ("tum", "nerfstudio", "opencv_cameras", "colmap")


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


MUTATIONS: dict[str, Callable[[Path], None]] = {
    "windows line ends": windows_line_ends,
    "upper-case suffixes": upper_case_suffixes,
    "files of systems": files_of_systems,
    "windows separators": windows_separators,
    "logs of recorders": logs_of_recorders,
}


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
