"""Facts that lie beside images: each that changes geometry is used, refused or noted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from capture_layouts import (
    at_integers,
    one,
    small,
    write_colmap,
    write_nerfstudio,
    write_pose_list,
    write_redwood,
    write_scannet,
    write_three_d_match,
    write_tum,
)
from kornia.geometry.calibration import distort_points
from PIL import Image
from plane_world import PlaneWorld

from lorasub.data.decoding import load_view
from lorasub.data.depth import decode_depth
from lorasub.data.readers.pose_list import PoseList
from lorasub.data.readers.tum import TumRgbd
from lorasub.errors import DataError

LENS = (0.15, -0.05, 0.002, -0.001, 0.0)


def orb_slam(world: PlaneWorld, *more: str) -> str:
    names = zip(("fx", "fy", "cx", "cy"), at_integers(world), strict=True)
    return "\n".join(["%YAML:1.0", *(f"Camera.{name}: {value}" for name, value in names), *more, ""])


def with_depth_unit(root: Path, unit: float) -> None:
    """Every depth image of a sequence again, in another unit."""
    world = small()
    for i, path in enumerate(sorted((root / "depth").glob("*.png"))):
        world.save_depth(i, path, unit=unit)


@pytest.mark.parametrize(
    "line", ["DepthMapFactor: 1000.0", "DepthMapFactor: 1000 # as the sensor", "depth_scale: 0.001"]
)
def test_the_depth_scale_of_a_calibration_file_counts(tmp_path: Path, line: str) -> None:
    write_tum(tmp_path, small())
    with_depth_unit(tmp_path, 0.001)
    (tmp_path / "camera.yaml").write_text(orb_slam(small(), line))
    capture = one(tmp_path)
    assert "the depth unit is 0.001, from camera.yaml" in capture.notes
    small().check(capture, [0, 1, 2])
    with_depth_unit(tmp_path, 1 / 2000)
    small().check(one(tmp_path, TumRgbd(depth_unit=1 / 2000)), [0, 1, 2])  # an option wins


@pytest.mark.parametrize("scale", [4000.0, 0.00025])
def test_open3ds_depth_scale_counts(tmp_path: Path, scale: float) -> None:
    write_redwood(tmp_path, small())
    with_depth_unit(tmp_path, 0.00025)
    path = tmp_path / "camera_intrinsic.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"depth_scale": scale}))
    small().check(one(tmp_path), [0, 1, 2])


@pytest.mark.parametrize("scale", [0.0, -1000.0])
def test_a_depth_scale_that_is_none_is_told(tmp_path: Path, scale: float) -> None:
    write_tum(tmp_path, small())
    (tmp_path / "camera.yaml").write_text(orb_slam(small(), f"DepthMapFactor: {scale}"))
    with pytest.raises(DataError, match=r"camera\.yaml: the scale of depth is .*positive"):
        one(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        'Camera.type: "KannalaBrandt8"',
        "Camera.model: fisheye",
        "distortion_model: equidistant",
        "is_fisheye: true",
        "model: omnidirectional",
        "camera_model: EUCM",
    ],
)
def test_other_lenses_of_calibration_files_are_refused(tmp_path: Path, line: str) -> None:
    write_tum(tmp_path, small())
    (tmp_path / "camera.yaml").write_text(orb_slam(small(), line))
    with pytest.raises(DataError, match=r"camera\.yaml: the lens model .* is not supported"):
        one(tmp_path)


@pytest.mark.parametrize("line", ['Camera.type: "PinHole"', "is_fisheye: false", "fisheye: 0", "# not a fisheye"])
def test_perspective_lenses_are_read(tmp_path: Path, line: str) -> None:
    write_tum(tmp_path, small())
    (tmp_path / "camera.yaml").write_text(orb_slam(small(), line))
    small().check(one(tmp_path), [0, 1, 2])


def see_through_lens(root: Path, world: PlaneWorld, folders: tuple[str, str], unit: float) -> None:
    """Images and depth of a sequence again, as a camera with :data:`LENS` takes them; in closed form, not resampled."""
    height, width = world.size
    y, x = np.mgrid[:height, :width] + 0.5
    seen = torch.from_numpy(np.stack([x, y], -1).reshape(1, -1, 2))
    camera, lens = torch.from_numpy(world.intrinsics)[None], torch.tensor([LENS], dtype=torch.float64)
    pinhole = seen.clone()
    for _ in range(50):  # the inverse of the lens, by fixed-point iteration
        pinhole = pinhole + seen - distort_points(pinhole, camera, lens)
    px, py = pinhole.reshape(height, width, 2).numpy().transpose(2, 0, 1)
    rays = np.stack(
        [(px - world.center[0]) / world.focal[0], (py - world.center[1]) / world.focal[1], np.ones_like(px)], -1
    )
    for i in range(world.count):
        pose = world.world_from_cam[i]
        directions = rays @ pose[:3, :3].T
        depth = (world.offset - world.normal @ pose[:3, 3]) / (directions @ world.normal)
        points = directions * depth[..., None] + pose[:3, 3]
        image = sorted((root / folders[0]).glob("*.png"))[i]
        Image.fromarray(world.color(points)).save(image)
        world.save_depth(i, sorted((root / folders[1]).glob("*.png"))[i], unit=unit, depth=depth)


LAYOUTS: dict[str, tuple[Callable[[Path, PlaneWorld], object], tuple[str, str], float, str]] = {
    "tum": (write_tum, ("rgb", "depth"), 1 / 5000, "calibration.txt"),
    "redwood": (write_redwood, ("color", "depth"), 0.001, "intrinsics.txt"),
    "scannet": (write_scannet, ("color", "depth"), 0.001, "intrinsic/intrinsic_color.txt"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_depth_is_undistorted_together_with_its_image(tmp_path: Path, layout: str) -> None:
    write, folders, unit, calibration = LAYOUTS[layout]
    world = small()
    write(tmp_path, world)
    see_through_lens(tmp_path, world, folders, unit)
    (tmp_path / calibration).write_text(" ".join(map(str, (*at_integers(world), *LENS))))
    capture = one(tmp_path)
    assert capture.frames[0].distortion == LENS
    # undistorted depth takes the nearest pixel: half a pixel on this plane is a centimetre
    world.check(capture, [0, 1, 2], share=0.8, depth_error=0.02)


def test_depth_of_3dmatch_is_undistorted_too(tmp_path: Path) -> None:
    world = small()
    write_three_d_match(tmp_path, world)
    (tmp_path / "camera-intrinsics.txt").write_text(" ".join(map(str, (*world.focal, *world.center, *LENS))))
    plain, bent = (load_view(frame).depth.numpy() for frame in one(tmp_path).frames[:2])
    assert abs(plain - world.depth(0)).max() > 0.01
    assert abs(bent - world.depth(1)).max() > 0.01


@pytest.mark.parametrize("suffix", [".npy", ".png"])
def test_depth_goes_with_poses_that_were_scaled(tmp_path: Path, suffix: str) -> None:
    world = small()
    content = write_nerfstudio(tmp_path, world, applied_scale=0.5)
    for i, frame in enumerate(content["frames"]):
        for row in frame["transform_matrix"][:3]:
            row[3] *= 0.5
        world.save_depth(i, tmp_path / "images" / f"depth_{i}.png", unit=0.0001)
        if suffix == ".png":
            frame |= {"depth_file_path": f"images/depth_{i}.png", "depth_unit_scale_factor": 0.0001}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    world.check(one(tmp_path), [0, 1, 2], scale=2.0)


def test_a_stated_unit_holds_for_floats_too(tmp_path: Path) -> None:
    world = small()
    write_nerfstudio(tmp_path, world, depth_unit_scale_factor=0.001)
    for i in range(3):
        np.save(tmp_path / "images" / f"{i}.npy", 1000 * world.depth(i))  # millimetres
    world.check(one(tmp_path), [0, 1, 2])


@pytest.mark.parametrize("change", [{"w": 0, "h": 0}, {"w": -64}, {"depth_unit_scale_factor": "mm"}])
def test_numbers_that_are_none_are_told(tmp_path: Path, change: dict) -> None:
    write_nerfstudio(tmp_path, small(), **change)
    with pytest.raises(DataError, match=r"transforms\.json: the entry of 0\.png lacks or garbles"):
        one(tmp_path)


def test_depth_of_more_pixels_than_any_camera_has_is_told(tmp_path: Path) -> None:
    path = tmp_path / "depth.png"
    Image.new("L", (20_000, 10_000)).save(path, compress_level=1)
    with pytest.raises(DataError, match=r"depth\.png: the depth file is refused.*200000000 pixels"):
        decode_depth(path)


@pytest.mark.parametrize("word", ["nan", "inf", "3.5"])
def test_an_id_that_is_no_number_of_an_image_is_told(tmp_path: Path, word: str) -> None:
    world = small()
    rows = [[i + 3, *world.world_from_cam[i, :3, 3], *world.quaternion(i)] for i in range(3)]
    write_pose_list(tmp_path, world, rows)
    text = (tmp_path / "poses.txt").read_text()
    (tmp_path / "poses.txt").write_text(text.replace("4.000000000", word, 1))
    with pytest.raises(DataError, match=r"poses\.txt: lines begin with the number of an image"):
        one(tmp_path, PoseList(images="rgb/*.png", poses="poses.txt", camera=at_integers(world)))


@pytest.mark.parametrize("separator", [" ", "; ", "\t"])
@pytest.mark.parametrize("files", [("groundtruth.txt",), ("groundtruth.txt", "calibration.txt")])
def test_numbers_with_decimal_commas(tmp_path: Path, separator: str, files: tuple[str, ...]) -> None:
    write_tum(tmp_path, small())
    (tmp_path / "calibration.txt").write_text(" ".join(map(str, at_integers(small()))))
    for name in files:
        text = (tmp_path / name).read_text().replace("# ground truth\n", "")
        (tmp_path / name).write_text(text.replace(".", ",").replace(" ", separator))
    small().check(one(tmp_path), [0, 1, 2])


@pytest.mark.parametrize("separator", [",", ", ", ";", " ; "])
def test_commas_between_numbers_stay_commas(tmp_path: Path, separator: str) -> None:
    write_tum(tmp_path, small())
    (tmp_path / "calibration.txt").write_text(" ".join(map(str, at_integers(small()))))
    text = (tmp_path / "groundtruth.txt").read_text().replace("# ground truth\n", "")
    (tmp_path / "groundtruth.txt").write_text(text.replace(" ", separator))
    small().check(one(tmp_path), [0, 1, 2])


def row_by_row(world: PlaneWorld) -> list[float]:
    fx, fy, cx, cy = at_integers(world)
    return [fx, 0, cx, 0, fy, cy, 0, 0, 1]


@pytest.mark.parametrize("form", ["columns", "rows", "nested"])
def test_open3ds_matrix_in_either_order(tmp_path: Path, form: str) -> None:
    write_redwood(tmp_path, small())
    rows = np.array(row_by_row(small())).reshape(3, 3)
    stated = {"columns": rows.T.flatten(), "rows": rows.flatten(), "nested": rows}[form].tolist()
    camera = {"width": 64, "height": 48, "intrinsic_matrix": stated}
    (tmp_path / "camera_intrinsic.json").write_text(json.dumps(camera))
    small().check(one(tmp_path), [0, 1, 2])


@pytest.mark.parametrize("matrix", [[1.0] * 9, [60.0, 0, 0, 0], [60, 1, 0, 0, 58, 0, 30, 24, 1]])
def test_a_matrix_that_is_no_cameras_is_told(tmp_path: Path, matrix: list[float]) -> None:
    write_redwood(tmp_path, small())
    (tmp_path / "camera_intrinsic.json").write_text(json.dumps({"width": 64, "height": 48, "intrinsic_matrix": matrix}))
    with pytest.raises(DataError, match=r"camera_intrinsic\.json: .*intrinsic_matrix"):
        one(tmp_path)


def test_scannets_numbers_may_have_zeros_before_them(tmp_path: Path) -> None:
    world = small()
    write_scannet(tmp_path, world)
    for path in [*(tmp_path / "pose").iterdir(), *(tmp_path / "depth").iterdir()]:
        path.rename(path.with_name(f"{int(path.stem):06d}{path.suffix}"))
    capture = one(tmp_path)
    assert capture.notes == ()
    world.check(capture, [0, 1, 2], depth_error=0.025)


def test_scannets_depth_may_be_floats_and_what_belongs_to_no_image_is_noted(tmp_path: Path) -> None:
    world = small()
    write_scannet(tmp_path, world)
    for i in range(3):
        (tmp_path / "depth" / f"{i}.png").unlink()
        np.save(tmp_path / "depth" / f"{i}.npy", world.depth(i)[::2, ::2])
    (tmp_path / "pose" / "7.txt").write_text("x")
    capture = one(tmp_path)
    assert capture.notes == ("1 files of pose/ belong to no image",)
    world.check(capture, [0, 1, 2], depth_error=0.025)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark(tmp_path: Path, encoding: str) -> None:
    write_tum(tmp_path, small())
    (tmp_path / "calibration.txt").write_text(" ".join(map(str, at_integers(small()))))
    for name in ("rgb.txt", "groundtruth.txt", "calibration.txt"):
        (tmp_path / name).write_bytes((tmp_path / name).read_text().encode(encoding))
    small().check(one(tmp_path), [0, 1, 2])


def test_a_line_that_was_written_twice_is_one_frame(tmp_path: Path) -> None:
    write_tum(tmp_path, small())
    (tmp_path / "calibration.txt").write_text(" ".join(map(str, at_integers(small()))))
    text = (tmp_path / "rgb.txt").read_text()
    (tmp_path / "rgb.txt").write_text(text + text.splitlines()[-1] + "\n")
    small().check(one(tmp_path), [0, 1, 2])


COLMAP: dict[str, Callable[[str], str]] = {
    "blank lines before images": lambda text: text.replace("# comment\n", "# comment\n\n\n"),
    "a blank line at the end": lambda text: text + "\n\n",
}


@pytest.mark.parametrize("change", COLMAP)
def test_colmaps_text_with_blank_lines(tmp_path: Path, change: str) -> None:
    world = small()
    write_colmap(tmp_path, world, binary=False)
    path = tmp_path / "sparse" / "0" / "images.txt"
    path.write_text(COLMAP[change](path.read_text()))
    world.check(one(tmp_path), [0, 1, 2], share=0, depth_error=0.02)


def test_colmaps_names_are_relative_and_other_models_are_noted(tmp_path: Path) -> None:
    world = small()
    write_colmap(tmp_path, world, binary=False)
    write_colmap(tmp_path, world, binary=True, folder="sparse/1")
    path = tmp_path / "sparse" / "0" / "images.txt"
    path.write_text(path.read_text().replace(" 0.png", " /data/images/0.png"))
    assert one(tmp_path).notes == (
        "1 of 3 entries skipped, no such image: /data/images/0.png ...",
        "not read: other models beside 0 in sparse: 1",
    )
