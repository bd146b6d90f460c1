"""What a camera adds to colour: vignetting and noise, a nuisance that is off unless asked for.

It has a random stream of its own, so that scenes are the same with and without it, and it changes nothing but colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.rng import torch_generator, uniforms
from lorasub.scenes.color import linear_to_srgb, srgb_to_linear
from lorasub.scenes.ranges import Range
from lorasub.structures import SceneBatch


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

    Raises:
        ConfigError: a range that is negative or the wrong way round.
    """

    read_noise: Range = (0.0, 0.01)
    shot_noise: Range = (0.0, 0.002)
    vignetting: Range = (0.0, 1.5)

    def __post_init__(self) -> None:
        for name in ("read_noise", "shot_noise", "vignetting"):
            low, high = getattr(self, name)
            if not 0.0 <= low <= high:
                raise ConfigError(f"SensorNuisance.{name} is {(low, high)}; it must be two numbers, 0 <= low <= high")

    def apply(self, batch: SceneBatch, seed: int) -> SceneBatch:
        """The batch as such cameras see it: a function of the seed and each scene's name, on every device the same.

        Args:
            batch: its images are in the 256 steps of an 8-bit image, before and after.
            seed: of the data set.
        """
        device, (height, width) = batch.images.device, batch.image_size
        draws = torch.as_tensor(np.stack([uniforms((seed, "sensor", name), 3) for name in batch.scene_ids])).float()
        low, high = torch.tensor([self.read_noise, self.shot_noise, self.vignetting]).unbind(1)
        read, shot, power = (low + (high - low) * draws).to(device)[..., None, None, None, None].unbind(1)
        linear = srgb_to_linear(batch.images) * _cos4(batch.intrinsics, height, width) ** power
        # drawn on the CPU, for the generators of other devices give other numbers
        generators = [
            torch_generator(seed, "sensor", name, view) for name in batch.scene_ids for view in range(batch.num_views)
        ]
        grain = torch.stack([torch.randn(3, height, width, generator=one) for one in generators])
        noisy = linear + (read.square() + shot * linear).sqrt() * grain.to(device).reshape(linear.shape)
        return batch.replace(images=(255.0 * linear_to_srgb(noisy.clamp(0.0, 1.0))).round() / 255.0)


def _cos4(intrinsics: Tensor, height: int, width: int) -> Tensor:
    """``[B, S, 1, H, W]``: the fourth power of the cosine of each pixel's angle from the optical axis."""
    focal, middle = intrinsics[..., (0, 1), (0, 1)], intrinsics[..., :2, 2]
    y = (torch.arange(height, device=intrinsics.device)[:, None] + 0.5 - middle[..., 1, None, None]) / focal[
        ..., 1, None, None
    ]
    x = (torch.arange(width, device=intrinsics.device) + 0.5 - middle[..., 0, None, None]) / focal[..., 0, None, None]
    return (1.0 + x.square() + y.square()).pow(-2)[:, :, None]
