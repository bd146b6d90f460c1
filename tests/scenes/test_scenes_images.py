"""Pictures as textures: where they lie, how they are filtered, and what folders are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from warp_probes import look_up

from lorasub.errors import ConfigError, DataError
from lorasub.scenes.color import srgb_to_linear
from lorasub.scenes.description import Pattern
from lorasub.scenes.images import ATLAS_SIZE, ImageAtlas
from lorasub.scenes.materials import draw_materials
from lorasub.scenes.ranges import TextureRanges
from lorasub.scenes.streams import Draws, Spread


def write(folder: Path, name: str, pixels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(folder / name)


def flat(value: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width, 3), value)


@pytest.fixture(scope="module")
def quarters() -> ImageAtlas:
    """A picture whose upper left is red, upper right green, lower left blue and lower right black."""
    image = torch.zeros(1, 3, ATLAS_SIZE, ATLAS_SIZE)
    half = ATLAS_SIZE // 2
    image[0, 0, :half, :half] = 1
    image[0, 1, :half, half:] = 1
    image[0, 2, half:, :half] = 1
    return ImageAtlas.of(image)


@pytest.mark.parametrize("face", [0, 1, 2])
def test_pictures_stand_upright_on_every_face(quarters: ImageAtlas, face: int) -> None:
    right, up = {0: (1, 2), 1: (0, 2), 2: (0, 1)}[face]

    def at(x: float, y: float) -> tuple[float, float, float]:
        point = [0.37, 0.37, 0.37]
        point[right], point[up] = x, y
        return point[0], point[1], point[2]

    # in features; the picture spans 0 to 1 to the right and, as rows go down, -1 to 0 upward
    places = [at(0.25, -0.25), at(0.75, -0.25), at(0.25, -0.75), at(0.75, -0.75)]
    found = look_up(quarters, np.array(places).T, face)
    assert torch.allclose(found, torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]), atol=1e-6)


def test_neighbouring_pictures_are_mirrored_so_that_there_is_no_seam(quarters: ImageAtlas) -> None:
    places = [(1.25, 0, -0.25), (1.75, 0, -0.25), (-0.25, 0, -0.25), (0.25, 0, 0.25)]
    found = look_up(quarters, np.array(places).T, face=1)
    green, red = torch.tensor([0.0, 1, 0]), torch.tensor([1.0, 0, 0])
    assert torch.allclose(found, torch.stack([green, red, red, red]), atol=1e-6)


def test_a_ramp_is_interpolated_linearly() -> None:
    ramp = (torch.arange(ATLAS_SIZE) + 0.5) / ATLAS_SIZE
    atlas = ImageAtlas(ImageAtlas.of(torch.zeros(1, 3, ATLAS_SIZE, ATLAS_SIZE)).texels.clone())
    atlas.texels[:, 0, : ATLAS_SIZE**2] = ramp.repeat(ATLAS_SIZE)
    x = torch.linspace(0.02, 0.98, 41)
    found = look_up(atlas, np.array([(float(value), 0.0, -0.5) for value in x]).T, face=1)
    assert torch.allclose(found[:, 0], x, atol=1e-5)


@pytest.mark.parametrize("step", range(ATLAS_SIZE.bit_length()))
def test_what_is_finer_than_a_pixel_is_averaged(step: int) -> None:
    """Copies of half the size, one after the other, against the means of blocks of the picture."""
    image = torch.rand(2, 3, ATLAS_SIZE, ATLAS_SIZE, generator=torch.Generator().manual_seed(step))
    side = ATLAS_SIZE >> step
    blocks = srgb_to_linear(image[1]).reshape(3, side, 1 << step, side, 1 << step).mean((2, 4))
    x, y = side // 3, side // 2
    place = np.array([[(x + 0.5) / side], [0.0], [-(y + 0.5) / side]])
    found = look_up(ImageAtlas.of(image), place, face=1, footprint=1.0 / side, image=1)
    assert torch.allclose(found[0], blocks[:, y, x], atol=1e-5)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, value in (("b.png", 255), ("a.PNG", 0), ("c.bmp", 128)):
        write(tmp_path, name, flat(value))
    (tmp_path / "notes.txt").write_text("no image")
    atlas = ImageAtlas.from_folder(tmp_path)
    expected = torch.tensor([0.0, 1.0, ((128 / 255 + 0.055) / 1.055) ** 2.4])
    assert torch.allclose(atlas.texels[0, :, 0], expected, atol=1e-6)
    assert torch.allclose(atlas.texels, expected[None, :, None].expand_as(atlas.texels), atol=1e-6)


def test_the_middle_square_of_a_wide_image_is_taken(tmp_path: Path) -> None:
    pixels = np.zeros((40, 120, 3))
    pixels[:, 40:80] = 255
    write(tmp_path, "wide.png", pixels)
    assert float(ImageAtlas.from_folder(tmp_path).texels[0, 0, -1]) > 0.97


def test_folders_that_cannot_be_used_are_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing is not a folder"):
        ImageAtlas.from_folder(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no image"):
        ImageAtlas.from_folder(tmp_path / "empty")
    write(tmp_path / "broken", "good.png", flat(3))
    whole = (tmp_path / "broken" / "good.png").read_bytes()
    (tmp_path / "broken" / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"half\.png cannot be decoded"):
        ImageAtlas.from_folder(tmp_path / "broken")


def draws(seed: int) -> Draws:
    return Draws((seed, "template"), [(seed, index) for index in range(3)], Spread(1.0, 1.0), 2000)


def test_pictures_are_drawn_last_so_that_other_materials_stay(tmp_path: Path) -> None:
    for index in range(4):
        write(tmp_path, f"{index}.png", flat(index))
    with_pictures = draw_materials(draws(1), TextureRanges(patterns=("image",), images=str(tmp_path)))
    without = draw_materials(draws(1), TextureRanges(patterns=("plain",)))
    assert set(with_pictures.image.flatten().tolist()) == {0, 1, 2, 3}
    assert bool((without.image == 0).all())
    assert bool((with_pictures.pattern == int(Pattern.IMAGE)).all())
    for field in dataclasses.fields(without):
        if field.name not in ("pattern", "image", "scale"):
            assert torch.equal(getattr(with_pictures, field.name), getattr(without, field.name)), field.name


@pytest.mark.parametrize("ranges", [TextureRanges(patterns=("image",)), TextureRanges(images="photos")])
def test_the_pattern_and_the_folder_go_together(ranges: TextureRanges) -> None:
    with pytest.raises(ConfigError, match="go together"):
        draw_materials(draws(1), ranges)
