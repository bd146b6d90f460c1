"""Colour images of every kind, against values computed here."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays
from PIL import Image

from lorasub.data import images
from lorasub.data.images import image_size, read_header, read_image
from lorasub.errors import DataError

RAMP = np.linspace(4000, 60000, 24 * 32).reshape(24, 32)


def write_pgm(path: Path, values: np.ndarray) -> None:
    path.write_bytes(b"P5\n%d %d\n65535\n" % values.shape[::-1] + values.astype(">u2").tobytes())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_of_grey_are_divided_by_257(tmp_path: Path, name: str) -> None:
    values = RAMP.astype(np.uint16)
    path = tmp_path / name
    if name == "a.pgm":
        write_pgm(path, values)
    else:
        Image.fromarray(values).save(path)
    found = read_image(path)
    assert found.shape == (24, 32, 3)
    np.testing.assert_array_equal(found[..., 0], np.round(values / 257))
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


@given(values=arrays.arrays(np.uint16, (3, 5)))
@settings(max_examples=30, deadline=None)
def test_no_sixteen_bit_image_is_clipped(values: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        Image.fromarray(values).save(path)
        assert np.abs(read_image(path)[..., 1] * 257.0 - values).max() <= 128.5


def test_floats_between_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray((RAMP / 65535).astype(np.float32)).save(tmp_path / "a.tiff")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tiff")[..., 0], np.round(np.float32(RAMP / 65535) * 255))
    values = (RAMP / 65535).astype("<f4")
    (tmp_path / "a.pfm").write_bytes(b"Pf\n32 24\n-1.0\n" + values[::-1].tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pfm")[..., 0], np.round(values * 255))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((RAMP / 1000).astype(np.float32), "floats from 4 to 60.*mode F.*depth map"),
        (np.full((4, 4), np.nan, np.float32), "floats from nan to nan"),
        ((RAMP * 10).astype(np.int32), r"32-bit integers from 40000 to 600000.*mode I"),
        (np.arange(16, dtype=np.int32).reshape(4, 4), "32-bit integers from 0 to 15"),
    ],
)
def test_numbers_whose_white_is_not_known_are_refused(tmp_path: Path, values: np.ndarray, words: str) -> None:
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=rf"a\.tiff: .*{words}"):
        read_image(tmp_path / "a.tiff")


def test_other_modes_become_the_colours_that_they_show(tmp_path: Path) -> None:
    red = Image.new("RGB", (16, 8), (200, 30, 20))
    clear = Image.new("RGBA", (16, 8), (200, 30, 20, 0))
    palette = red.quantize(4)
    cases = {
        "rgba.png": (clear, (255, 255, 255)),
        "rgb.png": (red, (200, 30, 20)),
        "palette.png": (palette, (200, 30, 20)),
        "grey.png": (Image.new("L", (16, 8), 77), (77, 77, 77)),
        "grey_alpha.png": (Image.new("LA", (16, 8), (77, 255)), (77, 77, 77)),
        "bits.png": (Image.new("1", (16, 8), 1), (255, 255, 255)),
        "cmyk.tif": (red.convert("CMYK"), (200, 30, 20)),
        "palette.gif": (palette, (200, 30, 20)),
    }
    for name, (image, color) in cases.items():
        image.save(tmp_path / name)
        found = read_image(tmp_path / name)
        assert found.shape == (8, 16, 3), name
        assert np.abs(found.astype(int) - color).max() <= 1, name
    see_through = palette.copy()
    see_through.info["transparency"] = see_through.getpixel((0, 0))
    see_through.save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png") == 255).all()


def test_photos_of_phones(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (64, 48), (200, 30, 20)).save(tmp_path / "IMG_1.HEIC")
    assert np.abs(read_image(tmp_path / "IMG_1.HEIC").astype(int) - (200, 30, 20)).max() < 12


@pytest.mark.parametrize("tag", range(1, 9))
def test_orientation_tags(tmp_path: Path, tag: int) -> None:
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:4, :8] = 250  # the upper left quarter tells all eight apart
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # of Pillow's transpositions
    stored = Image.fromarray(upright)
    if tag > 1:
        stored = stored.transpose(Image.Transpose(back[tag]))
    exif = Image.Exif()
    exif[0x0112] = tag
    stored.save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    assert np.abs(read_image(tmp_path / "a.jpg", upright=True).astype(int) - upright).max() < 12
    assert read_image(tmp_path / "a.jpg").shape[:2] == stored.size[::-1]
    assert read_header(tmp_path / "a.jpg").upright_size == (16, 8)
    assert image_size(tmp_path / "a.jpg") == stored.size


def test_huge_images_are_named_with_their_size(tmp_path: Path) -> None:
    Image.new("1", (20000, 10000)).save(tmp_path / "pano.png")
    for read in (read_image, read_header, image_size):
        with pytest.raises(DataError, match=r"pano\.png: the image is 20000 x 10000, more than 178 megapixels"):
            read(tmp_path / "pano.png")
    assert Image.MAX_IMAGE_PIXELS  # Pillow's own limit stands again for everybody else


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"what is this", "no image of a kind that Pillow reads"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for read in (read_image, read_header):
        with pytest.raises(DataError, match=words) as caught:
            read(path)
        assert "truncated" not in str(caught.value)
        assert str(caught.value).count(str(path)) == 1


def test_a_cut_image_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    with pytest.raises(DataError, match=r"a\.jpg: the image cannot be decoded.*truncated"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "a.heif"])
def test_photos_of_phones_without_the_package_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # the head of an HEIC file; Pillow may have been taught to read it by another test
    (tmp_path / name).write_bytes(b"\x00\x00\x00\x24ftypheic" + bytes(64))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(images, "_register_heif", images._register_heif.__wrapped__)
    known = {extension: kind for extension, kind in Image.EXTENSION.items() if kind != "HEIF"}
    monkeypatch.setattr(Image, "EXTENSION", known)
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind not in ("HEIF", "AVIF")])
    with pytest.raises(DataError, match=rf"{name}: .*pillow-heif: pip install 'lorasub\[heic\]'"):
        read_image(tmp_path / name)
