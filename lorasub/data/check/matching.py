"""Points of two views that look alike, found without looking at poses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: SIFT points of a view.
FEATURES = 1500
#: Lowe's ratio test.
RATIO = 0.8
#: Matches that move by less than this many pixels stay in place: they are on the lens or on the camera's own mount.
STATIC = 1.0
#: A pair of which more than this part stays in place shows one picture twice.
SAME_PICTURE = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Points ``[N, 2]`` (x, y) in pixels, centres at half integers, and their descriptors ``[N, 128]``."""

    points: Tensor
    descriptors: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Points of two views that look alike: ``[N, 2]`` (x, y) in pixels, centres at half integers, sorted by x in a."""

    a: Tensor
    b: Tensor

    def __len__(self) -> int:
        return len(self.a)

    def where(self, kept: Tensor) -> Matches:
        """Returns the matches of a mask, or at indices."""
        return Matches(self.a[kept], self.b[kept])

    @property
    def motion(self) -> Tensor:
        """``[N]`` how far each point moves, in pixels."""
        distances: Tensor = (self.a - self.b).norm(dim=-1)
        return distances


def find_features(image: Tensor, pixels_per_pixel: float = 1.0) -> Features:
    """SIFT points of an image (kornia).

    Args:
        image: ``[3, H, W]`` uint8.
        pixels_per_pixel: the image is enlarged by this factor first; points are in pixels of what was given.
    """
    from kornia.feature import SIFTFeature, get_laf_center

    gray = image.float().mean(0)[None, None] / 255
    if pixels_per_pixel != 1:
        gray = torch.nn.functional.interpolate(gray, scale_factor=pixels_per_pixel, mode="bicubic").clamp(0, 1)
    with torch.inference_mode():
        frames, _, descriptors = SIFTFeature(FEATURES, upright=True)(gray)
    # kornia counts pixel centres from 0
    return Features(((get_laf_center(frames)[0] + 0.5) / pixels_per_pixel).double(), descriptors[0])


def match_features(a: Features, b: Features) -> Matches:
    """Points that are each other's best match and clearly better than the second best (kornia)."""
    from kornia.feature import match_smnn

    _, index = match_smnn(a.descriptors, b.descriptors, RATIO)
    found = Matches(a.points[index[:, 0]], b.points[index[:, 1]])
    return found.where(found.a[:, 0].argsort())


def shows_one_picture(matches: Matches) -> bool:
    """Whether hardly any matched point moves between the images."""
    return len(matches) > 0 and float((matches.motion < STATIC).double().mean()) > SAME_PICTURE


def without_static(matches: Matches) -> Matches:
    """Drop what stays in place while the rest moves: dirt on the lens, a gripper, a watermark."""
    moves = matches.motion >= STATIC
    if len(matches) == 0 or not moves.any() or float(matches.motion[moves].median()) < 5 * STATIC:
        return matches
    return matches.where(moves)
