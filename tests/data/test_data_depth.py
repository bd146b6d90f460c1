"""Decoding depth files, warping and drawing depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lorasub.data.depth import DepthFile, SparseDepth, WarpedDepth, decode_depth, splat_points
from lorasub.data.frames import pinhole
from lorasub.errors import DataError

STORED = np.array([[0, 1000, 65535], [1, 2500, 300]], np.uint16)
METRES = [[0, 1.0, 0], [0.001, 2.5, 0.3]]


def write_pfm(path: Path, values: np.ndarray) -> None:
    header = f"Pf\n{values.shape[1]} {values.shape[0]}\n-1.0\n".encode()
    path.write_bytes(header + values[::-1].astype("<f4").tobytes())  # rows from the bottom up


def write_exr(path: Path, values: np.ndarray, channel: str) -> None:
    exr = pytest.importorskip("OpenEXR")
    exr.File({"compression": exr.ZIP_COMPRESSION}, {channel: values}).write(str(path))


def test_sixteen_bit_png(tmp_path: Path) -> None:
    Image.fromarray(STORED).save(tmp_path / "d.png")
    depth = DepthFile(path=tmp_path / "d.png", unit=0.001).load((2, 3))
    assert depth.dtype == torch.float32
    torch.testing.assert_close(depth, torch.tensor(METRES))


def test_sixteen_bit_tiff(tmp_path: Path) -> None:
    Image.fromarray(STORED).save(tmp_path / "d.tiff")
    torch.testing.assert_close(DepthFile(path=tmp_path / "d.tiff", unit=0.001).load(), torch.tensor(METRES))


@pytest.mark.parametrize("largest", [65535, 10000])
def test_pgm_is_big_endian_and_never_stretched(tmp_path: Path, largest: int) -> None:
    values = np.minimum(STORED, largest)
    header = f"P5\n# a comment\n3 2\n{largest}\n".encode()
    (tmp_path / "d.pgm").write_bytes(header + values.astype(">u2").tobytes())
    assert (decode_depth(tmp_path / "d.pgm") == values).all()


def test_pfm_npy_and_exr_hold_world_units(tmp_path: Path) -> None:
    values = np.array([[0.5, np.nan, 2.25], [np.inf, -1.0, 0.0]], np.float32)
    expected = torch.tensor([[0.5, 0, 2.25], [0, 0, 0]])
    write_pfm(tmp_path / "d.pfm", values)
    np.save(tmp_path / "d.npy", values)
    write_exr(tmp_path / "d.exr", values, "Z")
    for name in ("d.pfm", "d.npy", "d.exr"):
        torch.testing.assert_close(DepthFile(path=tmp_path / name, unit=1.0).load(), expected, msg=name)


@pytest.mark.parametrize("channel", ["Y", "V", "whatever"])
def test_exr_channel_may_have_any_name(tmp_path: Path, channel: str) -> None:
    values = np.array([[0.5, 0.25]], np.float16)
    write_exr(tmp_path / "d.exr", values, channel)
    assert decode_depth(tmp_path / "d.exr").tolist() == [[0.5, 0.25]]


def test_rotated_bits(tmp_path: Path) -> None:
    # the formula of readDepth.m in rgbd-utils, in plain integers
    metres = [[0.25, 0.5], [1.0, 3.1]]
    tenths = [[round(value * 10000) for value in row] for row in metres]
    stored = [[((value << 3) | (value >> 13)) & 0xFFFF for value in row] for row in tenths]
    Image.fromarray(np.array(stored, np.uint16)).save(tmp_path / "d.png")
    depth = DepthFile(path=tmp_path / "d.png", unit=0.0001, rotate_bits=3).load()
    torch.testing.assert_close(depth, torch.tensor(metres))


def test_depth_beyond_the_sensor_is_dropped(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.array([[1.0, 7.0, 1e300]]))
    assert DepthFile(path=tmp_path / "d.npy", unit=1.0, farthest=5.0).load().tolist() == [[1.0, 0.0, 0.0]]
    assert DepthFile(path=tmp_path / "d.npy", unit=1.0).load().tolist() == [[1.0, 7.0, 0.0]]


@pytest.mark.parametrize("name", ["d.png", "d.npy", "d.pgm", "d.pfm", "d.exr", "d.tiff"])
def test_truncated_files_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    values = np.random.default_rng(0).integers(1, 60000, (64, 64)).astype(np.uint16)
    if name == "d.npy":
        np.save(path, values)
    elif name == "d.pgm":
        path.write_bytes(b"P5\n64 64\n65535\n" + values.astype(">u2").tobytes())
    elif name == "d.pfm":
        write_pfm(path, values)
    elif name == "d.exr":
        write_exr(path, values.astype(np.float32), "Z")
    else:
        Image.fromarray(values).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"{name}.*truncated"):
        decode_depth(path)


def test_other_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        decode_depth(tmp_path / "d.png")
    with pytest.raises(DataError, match=r"not '\.txt'"):
        decode_depth(tmp_path / "d.txt")
    Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match="one channel"):
        decode_depth(tmp_path / "rgb.png")
    np.save(tmp_path / "wide.npy", np.ones((10, 40)))
    with pytest.raises(DataError, match="40 x 10 but its image is 64 x 48"):
        DepthFile(path=tmp_path / "wide.npy", unit=1.0).load((48, 64))
    with pytest.raises(DataError, match="unit must be positive"):
        DepthFile(path=tmp_path / "wide.npy", unit=0.0)


def test_pickled_npy_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickle"):
        decode_depth(tmp_path / "d.npy")


def test_of_points_on_one_pixel_the_nearest_stays() -> None:
    k = pinhole(10.0, 10.0, 2.0, 1.5)
    points = torch.tensor([[0.0, 0.0, 4.0], [0.0, 0.0, 2.0], [0.0, 0.0, -1.0], [3.0, 0.0, 1.0]])
    depth = splat_points(points, k.float(), (3, 4))
    assert depth[1, 2] == 2.0
    assert depth.count_nonzero() == 1


def test_sparse_points_fall_on_their_pixels() -> None:
    k = pinhole(10.0, 10.0, 2.0, 1.5)
    # seen at (2 + 10 * -0.15, 1.5 + 10 * 0.1) = (0.5, 2.5): the centre of row 2, column 0
    depth = SparseDepth(points=torch.tensor([[-0.3, 0.2, 2.0]]), intrinsics=k).load((3, 4))
    assert depth[2, 0] == 2.0
    assert depth.count_nonzero() == 1


def test_warped_depth_of_a_slanted_plane(tmp_path: Path) -> None:
    # plane z = 2 + 0.3 x of the depth camera, in closed form; the colour camera stands 5 cm to the left
    height, width = 60, 80
    _, columns = np.mgrid[:height, :width] + 0.5
    ray_x = (columns - 40) / 90
    np.save(tmp_path / "d.npy", 2 / (1 - 0.3 * ray_x))
    offset = torch.eye(3, 4)
    offset[0, 3] = 0.05
    warped = WarpedDepth(
        depth=DepthFile(path=tmp_path / "d.npy", unit=1.0),
        depth_intrinsics=pinhole(90, 90, 40, 30),
        color_intrinsics=pinhole(70, 70, 40, 30),
        color_from_depth=offset,
    ).load((height, width))
    known = warped.numpy() > 0
    # in the colour camera's frame the same plane is z = 2 + 0.3 (x - 0.05)
    expected = (2 - 0.3 * 0.05) / (1 - 0.3 * (columns - 40) / 70)
    inner = np.zeros_like(known)
    inner[12:48, 14:66] = True
    assert known[inner].mean() > 0.97
    # a splatted point can be half a pixel from the pixel's centre
    assert np.abs(warped.numpy() - expected)[known].max() < 0.3 * 2.3**2 / 2 / 70 * 1.1
    assert not known[:4].any()  # the colour camera sees more than the depth camera did


@pytest.mark.parametrize(
    ("channels", "chosen"),
    [
        (("ViewLayer.Combined.A", "ViewLayer.Combined.R", "ViewLayer.Depth.Z", "ViewLayer.Normal.Z"), 2),
        (("beauty.A", "beauty.Depth.Z", "beauty.R"), 1),
        (("A", "B", "G", "R", "Z"), 4),
        (("A", "B", "G", "R", "depth.V"), 4),
        (("Image.V",), 0),
        (("A", "Y"), 1),
    ],
)
def test_exr_depth_among_other_layers(tmp_path: Path, channels: tuple[str, ...], chosen: int) -> None:
    exr = pytest.importorskip("OpenEXR")
    values = {name: np.full((4, 6), 0.5 + place, np.float32) for place, name in enumerate(channels)}
    exr.File({"compression": exr.ZIP_COMPRESSION}, values).write(str(tmp_path / "d.exr"))
    assert (decode_depth(tmp_path / "d.exr") == 0.5 + chosen).all()


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        (("R", "G", "B", "A"), "none of its channels is depth by its name: .*R"),
        (("Normal.X", "Normal.Z", "Position.Z"), "none of its channels is depth"),
        (("left.Depth.Z", "right.Depth.Z"), "several channels may be depth: left.Depth.Z, right.Depth.Z"),
    ],
)
def test_exr_without_a_plausible_channel_lists_them(tmp_path: Path, channels: tuple[str, ...], words: str) -> None:
    exr = pytest.importorskip("OpenEXR")
    values = {name: np.full((4, 6), 0.5 + place, np.float32) for place, name in enumerate(channels)}
    exr.File({"compression": exr.ZIP_COMPRESSION}, values).write(str(tmp_path / "d.exr"))
    with pytest.raises(DataError, match=words):
        decode_depth(tmp_path / "d.exr")


def test_a_channel_of_exr_can_be_named(tmp_path: Path) -> None:
    exr = pytest.importorskip("OpenEXR")
    values = {name: np.full((4, 6), depth, np.float32) for name, depth in (("left.Depth.Z", 1.5), ("right.Depth.Z", 2))}
    exr.File({"compression": exr.ZIP_COMPRESSION}, values).write(str(tmp_path / "d.exr"))
    assert (DepthFile(path=tmp_path / "d.exr", unit=1.0, channel="right.Depth.Z").load() == 2).all()
    with pytest.raises(DataError, match=r"no channel 'depth'; there are left\.Depth\.Z, right\.Depth\.Z"):
        decode_depth(tmp_path / "d.exr", "depth")


def test_whole_files_that_are_not_supported_are_not_called_truncated(tmp_path: Path) -> None:
    np.save(tmp_path / "pickled.npy", np.array([[None, 1.0]], object), allow_pickle=True)
    np.save(tmp_path / "scalar.npy", np.float32(3.0))
    np.save(tmp_path / "colours.npy", np.zeros((4, 4, 3)))
    (tmp_path / "pointer.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "empty.png").touch()
    for name, words in (
        ("pickled.npy", "holds Python objects, which are not unpickled.*numpy.save"),
        ("scalar.npy", "one channel of numbers"),
        ("colours.npy", "one channel of numbers"),
        ("pointer.png", "Git LFS pointer"),
        ("empty.png", "the file is empty"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            decode_depth(tmp_path / name)
        assert "truncated" not in str(caught.value)


def test_pgm_in_plain_text(tmp_path: Path) -> None:
    (tmp_path / "d.pgm").write_text("P2\n# plain\n3 2\n65535\n" + " ".join(map(str, STORED.flatten())) + "\n")
    assert (decode_depth(tmp_path / "d.pgm") == STORED).all()
    (tmp_path / "c.pgm").write_bytes(b"P6\n3 2\n255\n" + bytes(18))
    with pytest.raises(DataError, match=r"one channel.*this is P6"):
        decode_depth(tmp_path / "c.pgm")


@pytest.mark.parametrize(
    "header", [b"P5\n4 3\n65535\n", b"P5 4 3 65535 ", b"P5\r\n4 3\r\n65535\r\n", b"P5\n# c 1 2\n4\n3\n# d\n65535\n"]
)
def test_headers_of_pgm_as_the_format_allows_them(tmp_path: Path, header: bytes) -> None:
    values = np.array([[10, 13, 32, 35], [1, 256, 2560, 9], [65535, 0, 7, 8]], dtype=">u2")
    (tmp_path / "d.pgm").write_bytes(header + values.tobytes())
    assert (decode_depth(tmp_path / "d.pgm") == values).all()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("d.pfm", b"PF\n4 3\n-1.0\n" + bytes(144), "one channel .Pf., this file holds three"),
        ("d.pgm", b"P5\n4 3\n", "the header of a PGM file is not there"),
    ],
)
def test_what_a_whole_file_lacks_is_said(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        decode_depth(tmp_path / name)


def test_depth_without_a_pixel_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.zeros((0, 4)))
    with pytest.raises(DataError, match=r"d\.npy: the depth file holds no pixel"):
        DepthFile(path=tmp_path / "d.npy", unit=1.0).load((3, 4))


def test_a_picture_of_depth_is_not_taken_for_depth(tmp_path: Path) -> None:
    """Of an image with a palette the stored numbers are indices of colours."""
    colors = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(colors).quantize(16).save(tmp_path / "depth.png")
    with pytest.raises(DataError, match=r"depth\.png.*colours of a palette"):
        decode_depth(tmp_path / "depth.png")
