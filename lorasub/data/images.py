"""Colour images from files: every kind that cameras, phones and scientific tools write, as 8-bit RGB."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from lorasub.data.text import reason
from lorasub.errors import DataError
from lorasub.files import content_fault

_HEIF_SUFFIXES = (".heic", ".heif", ".hif")
#: Endings of image files, the most usual first.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jpe", ".jfif", ".gif", ".avif"),
    *_HEIF_SUFFIXES,
)
#: More pixels than this are refused: Pillow's own limit, beyond which files are taken for decompression bombs.
LARGEST = 2 * 89_478_485
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_limit = threading.Lock()


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Size and orientation from the head of an image file.

    Attributes:
        size: (width, height) as stored.
        orientation: the camera's orientation tag (EXIF), 1 to 8; 1 where there is none.
    """

    size: tuple[int, int]
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) after following the orientation tag."""
        return (self.size[1], self.size[0]) if self.orientation >= 5 else self.size


def read_header(path: Path) -> ImageHeader:
    """Read the head of an image file; nothing is decoded.

    Raises:
        DataError: the file is missing, no image, or too large.
    """
    with _opened(path) as image:
        return ImageHeader(image.size, _orientation(image))


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) from the head of an image file, as stored.

    Raises:
        DataError: as :func:`read_header`.
    """
    return read_header(path).size


def read_image(path: Path, *, upright: bool = False) -> npt.NDArray[np.uint8]:
    """Decode a colour image to ``[H, W, 3]`` uint8, laid on white where it is transparent.

    16-bit grey is divided by 257; floats must lie in [0, 1]. Of several pages the first counts.

    Args:
        path: any format of Pillow; HEIC with the package pillow-heif.
        upright: follow the camera's orientation tag (EXIF).

    Raises:
        DataError: the file is missing, damaged, no image, too large, or holds numbers that are no colours.
    """
    with _opened(path) as image:
        turn = _TURNS.get(_orientation(image)) if upright else None
        pixels = _to_rgb(image, path)
        return np.array(pixels if turn is None else pixels.transpose(turn))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An open image; whatever Pillow raises meanwhile becomes a DataError."""
    if not path.is_file():
        raise DataError(f"{path}: the image does not exist")
    heif = path.suffix.lower() not in _HEIF_SUFFIXES or _register_heif()
    try:
        with _limit:
            Image.MAX_IMAGE_PIXELS, usual = None, Image.MAX_IMAGE_PIXELS
            try:
                image = Image.open(path)
            finally:
                Image.MAX_IMAGE_PIXELS = usual
        with image:
            width, height = image.size
            if width * height > LARGEST:
                raise DataError(
                    f"{path}: the image is {width} x {height}, more than {LARGEST // 10**6} megapixels, which is "
                    "refused (a small file may unpack to anything); make it smaller"
                )
            yield image
    except UnidentifiedImageError as error:
        fault = content_fault(path) or "it is no image of a kind that Pillow reads; colours are 8 or 16 bits"
        if not heif:
            fault = "HEIC needs the package pillow-heif: pip install 'lorasub[heic]'"
        raise DataError(f"{path}: the image cannot be decoded ({fault})") from error
    # Pillow reports damage as OSError, SyntaxError, ValueError, EOFError or struct.error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError, MemoryError) as error:
        damage = "" if isinstance(error, OSError) and error.errno else "it is damaged or of an unusual kind: "
        fault = content_fault(path) or damage + reason(error, path)
        raise DataError(f"{path}: the image cannot be decoded ({fault})") from error


@functools.cache
def _register_heif() -> bool:
    """Teach Pillow the format of phones; false if the package for it is missing."""
    try:
        from pillow_heif import register_heif_opener
    except ModuleNotFoundError:
        return False
    register_heif_opener()
    return True


def _orientation(image: Image.Image) -> int:
    # a PNG's tag may stand behind its pixels: then looking for it would decode the whole image
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a garbled tag is none: Pillow's parser fails in many ways, and the pixels may be fine
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_grey_of_numbers(image, path)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _grey_of_numbers(image: Image.Image, path: Path) -> npt.NDArray[np.uint8]:
    """8-bit grey of 16-bit integers or floats; Pillow's own conversion would clip them to white or black."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    # 16 bits come as "I;16", or widened to "I" from PGM
    if image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in ("PNG", "PPM") and 0 <= low <= high <= 65535
    ):
        return (values / 257).round().astype(np.uint8)
    if image.mode == "F" and 0 <= low <= high <= 1:
        return (values * 255).round().astype(np.uint8)
    raise DataError(
        f"{path}: the image is one channel of {'floats' if image.mode == 'F' else '32-bit integers'} from {low:g} to "
        f"{high:g} (Pillow's mode {image.mode}): where black and white are is not known. Colour images are 8 or 16 "
        "bits, or floats in [0, 1]; is it a depth map?"
    )
