"""Photometric augmentation of training scenes, on the device where they are trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from kornia.augmentation import ColorJitter, RandomGaussianBlur
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
)
from torch import Tensor, nn

from lorasub.errors import ConfigError
from lorasub.structures import SceneBatch

#: Weakest blur that is drawn, as a standard deviation in pixels: practically none.
LEAST_BLUR = 0.1


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random colour, blur and noise (kornia). Geometry is left alone, so that cameras and depth stay true.

    Attributes:
        probability: chance of each of the three for a scene.
        brightness: largest relative change, between 0 and 1.
        contrast: likewise.
        saturation: likewise.
        hue: largest shift, as a part of the full circle, at most 0.5.
        blur: largest standard deviation of a Gaussian, in pixels; 0 for none.
        noise: largest standard deviation of Gaussian noise, of images in [0, 1]; 0 for none. The noise itself is always
            another one in each view, as a sensor's is.
        same_over_views: draw colour, blur and strength of noise once for all views of a scene, as if one camera had
            taken them; otherwise for each view.
    """

    probability: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.05
    blur: float = 1.0
    noise: float = 0.02
    same_over_views: bool = True

    def __post_init__(self) -> None:
        for name, largest in (("probability", 1), ("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= largest:
                raise ConfigError(f"augmentation: {name} is between 0 and {largest}, got {getattr(self, name)}")
        for name in ("blur", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"augmentation: {name} is a standard deviation, got {getattr(self, name)}")

    def augment(self, batch: SceneBatch, seeds: Sequence[int]) -> SceneBatch:
        """Returns the scenes with augmented images.

        Args:
            batch: B scenes.
            seeds: one for each scene; a scene's augmentation is a pure function of its images and its seed. The global
                random stream is left alone.
        """
        images = batch.images
        devices = [images.device] if images.device.type == "cuda" else []
        changed = []
        with torch.random.fork_rng(devices), torch.no_grad():
            for scene, seed in zip(images, seeds, strict=True):
                torch.manual_seed(seed)
                changed.append(self._augment_scene(scene))
        return batch.replace(images=torch.stack(changed))

    def _augment_scene(self, views: Tensor) -> Tensor:
        """``[S, 3, H, W]`` in [0, 1]; random numbers come from the global stream."""
        for module in self._color_and_blur:
            views = module(views)
        if self.noise > 0:
            # drawn on the CPU, as kornia draws its parameters: every device augments alike but for the noise itself
            count = 1 if self.same_over_views else len(views)
            used = torch.rand(count, 1, 1, 1) < self.probability
            strength = (torch.rand(count, 1, 1, 1) * self.noise * used).to(views)
            views = views + strength * torch.randn_like(views)
        return views.clamp(0, 1)

    @cached_property
    def _color_and_blur(self) -> tuple[nn.Module, ...]:
        shared = {"p": self.probability, "same_on_batch": self.same_over_views}
        modules: list[nn.Module] = []
        if self.brightness or self.contrast or self.saturation or self.hue:
            modules.append(ColorJitter(self.brightness, self.contrast, self.saturation, self.hue, **shared))
        if self.blur > 0:
            size = 2 * math.ceil(3 * self.blur) + 1
            sigma = (min(LEAST_BLUR, self.blur), self.blur)
            modules.append(RandomGaussianBlur((size, size), sigma, **shared))
        return tuple(modules)


def jitter_colors(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply brightness, contrast (about the mean grey) and saturation of each view.

    Args:
        images: ``[B, S, 3, H, W]`` in [0, 1].
        factors: ``[B, S, 3]``, one for each of the three.

    Returns:
        As ``images``, clamped to [0, 1].
    """
    brightness, contrast, saturation = factors.to(images).flatten(0, 1).unbind(-1)
    flat = adjust_brightness_accumulative(images.flatten(0, 1), brightness)
    flat = adjust_contrast_with_mean_subtraction(flat, contrast)
    flat = adjust_saturation_with_gray_subtraction(flat, saturation)
    return torch.unflatten(flat.clamp(0, 1), 0, images.shape[:2])
