"""Object masks: decoded, taken through the lens, cut and resized with their images, and gathered in batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lorasub.data.decoding import load_view
from lorasub.data.frames import Capture, Frame, pinhole
from lorasub.data.masks import MaskFile
from lorasub.data.real_scenes import SuccessiveScenes, ViewFormat
from lorasub.errors import DataError
from lorasub.structures import SceneBatch

SIZE = (48, 64)


def disc(size: tuple[int, int] = SIZE) -> np.ndarray:
    """A disc off the centre."""
    rows, columns = (np.mgrid[: size[0], : size[1]] + 0.5) * SIZE[0] / size[0]
    return (rows - 20) ** 2 + (columns - 40) ** 2 < 15**2


def in_mode(mask: np.ndarray, mode: str) -> Image.Image:
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    if mode == "I;16":
        return Image.fromarray(mask.astype(np.uint16))  # as small a number as there is
    if mode == "P":
        image = Image.fromarray(mask.astype(np.uint8) * 3, mode="L").convert("P")
        image.putpalette([9, 9, 9] * 256)  # colours say nothing
        return image
    if mode in ("RGBA", "LA"):
        image = grey.convert(mode)
        image.putalpha(Image.fromarray(255 - np.array(grey)))
        return image
    if mode == "RGB":
        return Image.merge("RGB", (Image.new("L", grey.size), grey, Image.new("L", grey.size)))
    return grey.convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_what_is_not_zero_is_inside(tmp_path: Path, mode: str) -> None:
    in_mode(disc(), mode).save(tmp_path / "mask.png")
    found = MaskFile(path=tmp_path / "mask.png").load(SIZE)
    assert found.dtype == torch.bool
    assert np.array_equal(found.numpy(), disc())


def test_a_mask_of_another_resolution_covers_the_same_view(tmp_path: Path) -> None:
    in_mode(disc((24, 32)), "L").save(tmp_path / "mask.png")
    assert np.array_equal(
        MaskFile(path=tmp_path / "mask.png").load(SIZE).numpy(), np.kron(disc((24, 32)), [[1, 1]] * 2)
    )
    in_mode(disc((48, 48)), "L").save(tmp_path / "square.png")
    with pytest.raises(DataError, match=r"square\.png: the mask is 48 x 48, its image 64 x 48"):
        MaskFile(path=tmp_path / "square.png").load(SIZE)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.png: the mask does not exist"):
        MaskFile(path=tmp_path / "no.png").load(SIZE)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    with pytest.raises(DataError, match=r"cut\.png: the mask cannot be decoded .* truncated"):
        MaskFile(path=tmp_path / "cut.png").load(SIZE)


@pytest.mark.parametrize("distortion", [(), (-0.2, 0.05, 0.01, -0.01)])
@pytest.mark.parametrize("size", [None, (28, 28), (56, 42)])
def test_a_mask_stays_on_what_its_image_shows(
    tmp_path: Path, distortion: tuple[float, ...], size: tuple[int, int] | None
) -> None:
    in_mode(disc(), "L").save(tmp_path / "mask.png")
    # the image is the mask: whatever is done to both, they stay alike
    frame = Frame(
        name="a",
        image=tmp_path / "mask.png",
        intrinsics=pinhole(50, 50, 34, 22),
        object_mask=MaskFile(path=tmp_path / "mask.png"),
        distortion=distortion,
    )
    view = load_view(frame, size)
    assert view.object_mask.shape == view.image.shape[1:]
    assert 0.05 < view.object_mask.float().mean() < 0.95
    clear = (view.image[0] < 32) | (view.image[0] > 223)  # not on the edge, where colours are mixed
    assert clear.float().mean() > 0.8
    assert torch.equal(view.object_mask[clear], (view.image[0] > 127)[clear])
    assert view.nbytes == view.image.nbytes + view.depth.nbytes + view.object_mask.nbytes


def scene(folder: Path, masks: list[bool], label: int | None = None) -> SceneBatch:
    frames = []
    for i, known in enumerate(masks):
        Image.new("RGB", SIZE[::-1]).save(folder / f"{i}.png")
        in_mode(disc(), "L").save(folder / "mask.png")
        mask = MaskFile(path=folder / "mask.png") if known else None
        frames.append(Frame(name=f"{i}", image=folder / f"{i}.png", object_mask=mask))
    capture = Capture(name="c", root=folder, frames=tuple(frames), metric=True, format="test", label=label)
    return SuccessiveScenes([capture], num_views=len(masks), view_format=ViewFormat(size=SIZE))[0]


def test_what_no_frame_knows_stays_absent_and_views_without_a_mask_get_an_empty_one(tmp_path: Path) -> None:
    nothing = scene(tmp_path, [False, False])
    assert nothing.labels is None
    assert nothing.object_masks is None
    some = scene(tmp_path, [False, True], label=1)
    assert some.labels.tolist() == [1]
    assert some.object_masks.shape == (1, 2, *SIZE)
    assert not some.object_masks[0, 0].any()
    assert np.array_equal(some.object_masks[0, 1].numpy(), disc())
    both = SceneBatch.concatenate([nothing, some])
    assert both.labels.tolist() == [-1, 1]
    assert not both.object_masks[0].any()
