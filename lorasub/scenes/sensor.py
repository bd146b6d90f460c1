"""Noise, blur and compression that a camera adds to colour: a nuisance that is off unless asked for.

It has a random stream of its own, so that scenes are the same with and without it, and it changes nothing but colour.
All of it runs batched on the device of the images. The noise is a hash of the scene's name and of the pixel's place, in
whole numbers: it does not depend on the batch, and it is the same on every device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lorasub.errors import ConfigError
from lorasub.rng import seed_of, uniforms
from lorasub.scenes.color import linear_to_srgb, srgb_to_linear
from lorasub.scenes.ranges import Range
from lorasub.structures import SceneBatch

_LOWEST = {
    "read_noise": 0.0,
    "shot_noise": 0.0,
    "vignetting": 0.0,
    "gain": 1e-3,
    "white_balance": 0.0,
    "gamma": 1e-3,
    "motion_blur": 0.0,
    "jpeg_quality": 1.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorNuisance:
    """Ranges of a camera's imperfections; each scene has one camera.

    Noise is that of a sensor (Foi et al., "Practical Poissonian-Gaussian noise modeling", 2008): of linear light x, the
    variance is ``read_noise^2 + shot_noise x``. Vignetting is the natural one, cos^4 of the angle from the optical
    axis, to the power of ``vignetting``.

    Attributes:
        read_noise: standard deviation where it is dark, of linear light in [0, 1].
        shot_noise: variance per linear light.
        vignetting: 0 is none, 1 is that of a simple lens.
        gain: factor on linear light; above 1 the brightest parts are clipped. Uniform in its logarithm.
        white_balance: largest absolute logarithm of the factors on red and on blue.
        gamma: power of the encoded image. Uniform in its logarithm.
        motion_blur: length of each view's blur, in thousandths of the image's width.
        jpeg_quality: as libjpeg's; None: no compression.
        share: of the scenes that have all this; the others come from a perfect camera.

    Raises:
        ConfigError: a range that is too low or the wrong way round.
    """

    read_noise: Range = (0.0, 0.01)
    shot_noise: Range = (0.0, 0.002)
    vignetting: Range = (0.0, 1.5)
    gain: Range = (1.0, 1.0)
    white_balance: Range = (0.0, 0.0)
    gamma: Range = (1.0, 1.0)
    motion_blur: Range = (0.0, 0.0)
    jpeg_quality: Range | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        for name, lowest in _LOWEST.items():
            limits = getattr(self, name)
            if limits is not None and not lowest <= limits[0] <= limits[1]:
                raise ConfigError(
                    f"SensorNuisance.{name} is {tuple(limits)}; it must be two numbers, {lowest:g} <= low <= high"
                )
        if not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"SensorNuisance.share is {self.share}; it must be between 0 and 1")

    @classmethod
    def photographic(cls) -> SensorNuisance:
        """Ranges that cover what hand-held cameras and phones give; four fifths of the scenes have them."""
        return cls(
            read_noise=(0.0, 0.008),
            shot_noise=(0.0, 0.002),
            vignetting=(0.0, 1.0),
            gain=(0.8, 2.5),
            white_balance=(0.0, 0.25),
            gamma=(0.85, 1.6),
            motion_blur=(0.0, 15.0),
            jpeg_quality=(40.0, 98.0),
            share=0.8,
        )

    @torch.no_grad()
    def apply(self, batch: SceneBatch, seed: int) -> SceneBatch:
        """The batch as such cameras see it: a function of the seed and each scene's name, on every device the same.

        Args:
            batch: its images are in the 256 steps of an 8-bit image, before and after.
            seed: of the data set.
        """
        images = batch.images
        device, views = images.device, batch.num_views
        draws = np.stack([uniforms((seed, "sensor", name), 9 + 2 * views) for name in batch.scene_ids])
        camera = torch.as_tensor(draws, dtype=torch.float32, device=device)[..., None, None, None, None]

        def between(column: int, limits: Range) -> Tensor:
            return limits[0] + (limits[1] - limits[0]) * camera[:, column]

        def log_between(column: int, limits: Range) -> Tensor:
            return between(column, (math.log(limits[0]), math.log(limits[1]))).exp()

        # columns: read, shot, vignetting, gain, red, blue, gamma, quality, share; then length and angle of each blur
        balance = torch.cat(
            [
                ((2.0 * camera[:, 4] - 1.0) * between(3, self.white_balance)).exp(),
                torch.ones_like(camera[:, 4]),
                ((2.0 * camera[:, 5] - 1.0) * between(3, self.white_balance)).exp(),
            ],
            dim=2,
        )
        dimmed = _cos4(batch.intrinsics, *batch.image_size) ** between(2, self.vignetting)
        linear = srgb_to_linear(images) * dimmed * (balance * log_between(3, self.gain))
        if self.motion_blur[1] > 0.0:
            blur = torch.as_tensor(draws[:, 9:], dtype=torch.float32, device=device).reshape(-1, 2)
            least, most = (1e-3 * images.shape[-1] * limit for limit in self.motion_blur)
            linear = motion_blur(
                linear.flatten(0, 1), least + (most - least) * blur[:, 0], math.pi * blur[:, 1], most
            ).reshape(images.shape)
        variance = between(0, self.read_noise).square() + between(1, self.shot_noise) * linear
        keys = [seed_of(seed, "sensor", name, view) for name in batch.scene_ids for view in range(views)]
        grain = hashed_normal(torch.tensor(keys, device=device), images.shape[2:]).reshape(images.shape)
        seen = linear_to_srgb((linear + variance.sqrt() * grain).clamp(0.0, 1.0)) ** log_between(6, self.gamma)
        seen = (255.0 * seen).round() / 255.0
        if self.jpeg_quality is not None:
            quality = between(7, self.jpeg_quality).expand(-1, views, 1, 1, 1).flatten()
            seen = jpeg(seen.flatten(0, 1), quality).reshape(images.shape)
        return batch.replace(images=torch.where(camera[:, 8] < self.share, seen, images))


def motion_blur(images: Tensor, length: Tensor, angle: Tensor, longest: float) -> Tensor:
    """Average images along a line.

    Args:
        images: ``[N, C, H, W]``.
        length: ``[N]`` of the line, in pixels.
        angle: ``[N]`` from the image's x axis toward its y axis, radians.
        longest: bound on the length, which decides the size of the kernels.
    """
    reach = math.ceil(0.5 * longest) + 1
    along = (torch.arange(32, device=images.device) + 0.5) / 32.0 - 0.5
    place = torch.arange(-reach, reach + 1, device=images.device)
    x, y = (length[:, None] * turn[:, None] * along for turn in (angle.cos(), angle.sin()))  # [N, 32]
    # each sample of the line is shared by the pixels around it, as in bilinear interpolation
    across, down = ((1.0 - (place[:, None] - value[:, None]).abs()).clamp(min=0.0) for value in (x, y))
    kernel = torch.einsum("nys,nxs->nyx", down, across) / along.numel()
    number, channels = images.shape[:2]
    padded = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    many = padded.reshape(1, number * channels, *padded.shape[-2:])
    weights = kernel.repeat_interleave(channels, dim=0)[:, None].to(images)
    return functional.conv2d(many, weights, groups=number * channels).reshape(images.shape)


def hashed_normal(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``[N, *shape]`` float32 numbers of mean 0 and variance 1, nearly normal: a hash of the keys and the places.

    SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators", 2014); the sum of the four 16-bit parts
    of each result (Irwin and Hall) is exact, so every device gives the same.

    Args:
        keys: ``[N]`` int64.
        shape: of the numbers of each key.
    """
    value = torch.arange(1, math.prod(shape) + 1, device=keys.device) * -0x61C8864680B583EB
    value = keys[:, None] + value
    spare = torch.empty_like(value)  # in place, for the memory is what this costs
    for bits, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        # a shift that knows of no sign
        torch.bitwise_right_shift(value, bits, out=spare).bitwise_and_((1 << (64 - bits)) - 1)
        value.bitwise_xor_(spare).mul_(factor)
    total = value & 0xFFFF
    for part in (16, 32, 48):
        total += torch.bitwise_right_shift(value, part, out=spare).bitwise_and_(0xFFFF)
    scale = math.sqrt(4.0 * (65536.0**2 - 1.0) / 12.0)
    return (total.sub_(2 * 65535).float() / scale).reshape(len(keys), *shape)


def _cos4(intrinsics: Tensor, height: int, width: int) -> Tensor:
    """``[B, S, 1, H, W]``: the fourth power of the cosine of each pixel's angle from the optical axis."""
    focal, middle = intrinsics[..., (0, 1), (0, 1)], intrinsics[..., :2, 2]
    y = (torch.arange(height, device=intrinsics.device)[:, None] + 0.5 - middle[..., 1, None, None]) / focal[
        ..., 1, None, None
    ]
    x = (torch.arange(width, device=intrinsics.device) + 0.5 - middle[..., 0, None, None]) / focal[..., 0, None, None]
    return (1.0 + x.square() + y.square()).pow(-2)[:, :, None]


# Tables K.1 and K.2 of the standard.
_LUMINANCE = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMINANCE = torch.full((8, 8), 99)
_CHROMINANCE[:4, :4] = torch.tensor([[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]])
#: YCbCr from RGB (JFIF).
_TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """Images after compression.

    Args:
        images: ``[N, 3, H, W]`` sRGB in [0, 1].
        quality: ``[N]`` from 1 to 100, with the meaning of libjpeg's.

    Returns:
        As ``images``, in the 256 steps of an 8-bit image.
    """
    height, width = images.shape[-2:]
    padded = functional.pad(255.0 * images, (0, -width % 16, 0, -height % 16), mode="replicate")
    ycc = torch.einsum("cd,ndhw->nchw", _TO_YCC.to(images), padded)
    small = functional.avg_pool2d(ycc[:, 1:], 2)
    luminance = _blocks(ycc[:, :1] - 128.0, _table(_LUMINANCE, quality))[:, 0] + 128.0
    chroma = _blocks(small, _table(_CHROMINANCE, quality))
    chroma = functional.interpolate(chroma, scale_factor=2.0, mode="bilinear")
    decoded = torch.cat([luminance[:, None], chroma], dim=1)
    rgb = torch.einsum("cd,ndhw->nchw", torch.linalg.inv(_TO_YCC.double()).to(images), decoded)
    return rgb[..., :height, :width].round().clamp(0.0, 255.0) / 255.0


def _table(base: Tensor, quality: Tensor) -> Tensor:
    """``[N, 8, 8]`` steps of quantisation, scaled as libjpeg does."""
    quality = quality.float().clamp(1.0, 100.0)
    scale = torch.where(quality < 50.0, 5000.0 / quality, 200.0 - 2.0 * quality)
    return ((base.to(quality) * scale[:, None, None] + 50.0) / 100.0).floor().clamp(1.0, 255.0)


def _blocks(channels: Tensor, table: Tensor) -> Tensor:
    """Channels ``[N, C, H, W]`` after the cosine transform of each block of 8 x 8 was rounded to multiples."""
    number, many, height, width = channels.shape
    blocks = channels.reshape(number, many, height // 8, 8, width // 8, 8)
    transform = _cosines().to(channels)
    steps = table[:, None, None, :, None, :]
    found = torch.einsum("ui,ncyixj,vj->ncyuxv", transform, blocks, transform)
    rounded = (found / steps).round() * steps
    return torch.einsum("ui,ncyuxv,vj->ncyixj", transform, rounded, transform).reshape(channels.shape)


def _cosines() -> Tensor:
    """The orthonormal cosine transform of eight numbers."""
    place = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi * place[:, None] * (2.0 * place + 1.0) / 16.0) / 2.0
    matrix[0] /= math.sqrt(2.0)
    return matrix
