"""The dense heads: one value per pixel from the four taps (DPT, Ranftl et al. 2021)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

logger = logging.getLogger(__name__)

#: Channels between the last two convolutions; the same in every published size.
LAST_CHANNELS = 32


@functools.cache
def _tell_once(frames: int, image_size: tuple[int, int], free: int) -> None:
    logger.info("dense heads: %d views of %d x %d at once (%d GiB free)", frames, *image_size, free)


class DenseHead(nn.Module):
    """Predicts a map and its confidence for each view.

    Args:
        dim: width of the taps.
        channels: of the map: 1 for depth, 3 for points.
        activation: from the last convolution's output to the map.
        levels: channels of the pyramid's four levels, fine to coarse.
        features: channels in which the levels are fused.
        num_special_tokens: tokens that stand before a view's patches in the taps.
        skip_rectified: see :class:`ResidualUnit`.
    """

    def __init__(
        self,
        dim: int,
        channels: int,
        activation: Callable[[Tensor], Tensor],
        *,
        levels: Sequence[int],
        features: int,
        num_special_tokens: int = 0,
        skip_rectified: bool = True,
    ) -> None:
        super().__init__()
        self.num_special_tokens = num_special_tokens
        self.activation = activation
        self.norm = nn.LayerNorm(dim)
        self.projects = nn.ModuleList(nn.Conv2d(dim, level, kernel_size=1) for level in levels)
        # from the patch grid to 4, 2, 1 and 1/2 times its resolution
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(levels[0], levels[0], kernel_size=4, stride=4),
                nn.ConvTranspose2d(levels[1], levels[1], kernel_size=2, stride=2),
                nn.Identity(),
                nn.Conv2d(levels[3], levels[3], kernel_size=3, stride=2, padding=1),
            )
        )
        self.scratch = PyramidFusion(levels, features, channels + 1, skip_rectified=skip_rectified)

    def forward(
        self,
        taps: Sequence[Tensor],
        image_size: tuple[int, int],
        grid: tuple[int, int],
        *,
        frames_per_chunk: int | None,
        checkpointing: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Predict maps.

        Args:
            taps: four ``[B, S, P, 2 C]``. They are cast to the dtype of the head's own weights, a chunk at a time.
            image_size: (H, W) in pixels.
            grid: (h, w) in patches.
            frames_per_chunk: views that are worked on at once; bounds the memory of the full-resolution maps. None:
                all of them where gradients need every map, else as many as fit.
            checkpointing: recompute each chunk's activations in the backward pass.

        Returns:
            The map ``[B, S, H, W, channels]`` and its confidence ``[B, S, H, W]``, at least 1.
        """
        views = taps[0].shape[:2]
        if frames_per_chunk is None:
            frames_per_chunk = self._frames_at_once(taps[0], image_size, checkpointing=checkpointing)
        chunks = zip(*(torch.split(tap.flatten(0, 1), frames_per_chunk) for tap in taps), strict=True)
        if checkpointing and torch.is_grad_enabled():
            outputs = [checkpoint(self._frames, chunk, image_size, grid, use_reentrant=False) for chunk in chunks]
        else:
            outputs = [self._frames(chunk, image_size, grid) for chunk in chunks]
        values, confidence = (torch.unflatten(torch.cat(parts), 0, views) for parts in zip(*outputs, strict=True))
        return values, confidence

    def _frames_at_once(self, tap: Tensor, image_size: tuple[int, int], *, checkpointing: bool) -> int:
        """All views in training, where every map is kept for the backward pass; else what half of the memory holds."""
        views = tap.shape[0] * tap.shape[1]
        if torch.is_grad_enabled() and tap.requires_grad and not checkpointing:
            return views
        if tap.device.type != "cuda":
            return min(views, 8)  # larger chunks are no faster on CPUs
        free, _ = torch.cuda.mem_get_info(tap.device)
        # at full size: the fused map before and after its position is added, and the two maps of the last convolutions
        channels = 2 * self.scratch.output_conv1.out_channels + 2 * LAST_CHANNELS
        size = image_size[0] * image_size[1] * channels * self.norm.weight.element_size()
        count = max(1, min(views, free // (2 * size)))
        _tell_once(count, image_size, round(free / 2**30))
        return count

    def _frames(
        self, taps: Sequence[Tensor], image_size: tuple[int, int], grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Maps ``[N, H, W, channels]`` and confidences ``[N, H, W]`` of N views, from taps ``[N, P, 2 C]``."""
        aspect = image_size[1] / image_size[0]
        pyramid = []
        for tap, project, resize in zip(taps, self.projects, self.resize_layers, strict=True):
            tokens = self.norm(tap[:, self.num_special_tokens :].to(self.norm.weight.dtype))
            level = project(tokens.transpose(1, 2).unflatten(-1, grid))
            pyramid.append(resize(add_position_(level, aspect)))
        # no name for the map at full size: it is by far the largest, and is let go as soon as it has been read
        fused = self.scratch(pyramid)
        output = self.scratch.output_conv2(add_position_(enlarge(fused, image_size), aspect)).permute(0, 2, 3, 1)
        output = output.to(self.norm.weight.dtype)  # exponentials of bfloat16 would be steps
        return self.activation(output[..., :-1]), 1 + output[..., -1].exp()


class PyramidFusion(nn.Module):
    """Fuses the four levels from coarse to fine. The names of its parts are the published checkpoint's.

    Args:
        levels: channels of the levels, fine to coarse.
        features: channels of the fused map.
        out: channels of the output convolution.
        skip_rectified: see :class:`ResidualUnit`.
    """

    def __init__(self, levels: Sequence[int], features: int, out: int, *, skip_rectified: bool = True) -> None:
        super().__init__()
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = (
            nn.Conv2d(level, features, kernel_size=3, padding=1, bias=False) for level in levels
        )
        self.refinenet1 = FusionBlock(features, skip_rectified=skip_rectified)
        self.refinenet2 = FusionBlock(features, skip_rectified=skip_rectified)
        self.refinenet3 = FusionBlock(features, skip_rectified=skip_rectified)
        self.refinenet4 = FusionBlock(features, lateral=False, skip_rectified=skip_rectified)
        self.output_conv1 = nn.Conv2d(features, features // 2, kernel_size=3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, LAST_CHANNELS, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(LAST_CHANNELS, out, kernel_size=1),
        )

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Levels at 4, 2, 1 and 1/2 times the patch grid to ``[N, features / 2, 8 h, 8 w]``."""
        one, two, three, four = pyramid
        one, two, three = self.layer1_rn(one), self.layer2_rn(two), self.layer3_rn(three)
        fused = self.refinenet4(self.layer4_rn(four), None, three.shape[-2:])
        fused = self.refinenet3(fused, three, two.shape[-2:])
        fused = self.refinenet2(fused, two, one.shape[-2:])
        fused = self.refinenet1(fused, one, (2 * one.shape[-2], 2 * one.shape[-1]))
        return self.output_conv1(fused)  # type: ignore[no-any-return]


class FusionBlock(nn.Module):
    """Adds a level to the fused map and enlarges the sum. The coarsest has no level to add (``lateral=False``)."""

    def __init__(self, features: int, *, lateral: bool = True, skip_rectified: bool = True) -> None:
        super().__init__()
        if lateral:
            self.resConfUnit1 = ResidualUnit(features, skip_rectified=skip_rectified)
        self.resConfUnit2 = ResidualUnit(features, skip_rectified=skip_rectified)
        self.out_conv = nn.Conv2d(features, features, kernel_size=1)

    def forward(self, fused: Tensor, level: Tensor | None, size: tuple[int, int]) -> Tensor:
        """``[N, features, ...]`` to ``[N, features, *size]``."""
        if level is not None:
            fused = self.resConfUnit1(level).add_(fused)
        # a 1 x 1 convolution and an interpolation (whose weights sum to one) commute: convolve the smaller map
        return enlarge(self.out_conv(self.resConfUnit2(fused)), size)


class ResidualUnit(nn.Module):
    """Two convolutions beside a skip.

    Args:
        features: channels.
        skip_rectified: the skip starts after the first ReLU, as VGGT's published weights were trained; else before it.
    """

    def __init__(self, features: int, *, skip_rectified: bool = True) -> None:
        super().__init__()
        self.skip_rectified = skip_rectified
        self.conv1 = nn.Conv2d(features, features, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(features, features, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, features, h, w]`` to the same."""
        rectified = nn.functional.relu(x)
        skip = rectified if self.skip_rectified else x
        # in place: the backward pass of a convolution does not ask for what it gave
        return self.conv2(nn.functional.relu_(self.conv1(rectified))).add_(skip)  # type: ignore[no-any-return]


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate a map ``[N, C, h, w]`` bilinearly; its corner pixels become the corner pixels of the result."""
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=True)


def add_position_(x: Tensor, aspect: float, *, frequency: float = 100.0, weight: float = 0.1) -> Tensor:
    """Add, in place, a sinusoidal embedding of the position in the image to a map ``[N, C, h, w]``, 4 dividing C.

    Pixel centres lie in a rectangle of the image's aspect ratio (width / height) whose half diagonal is 1. Half of the
    channels embed x, half y; each half holds first the sines, then the cosines, of
    ``position * frequency ** (-i / (C / 4))``.
    """
    channels, height, width = x.shape[1:]
    half_width, half_height = aspect / (1 + aspect**2) ** 0.5, 1 / (1 + aspect**2) ** 0.5
    columns = half_width * _centres(width, x)
    rows = half_height * _centres(height, x)
    omega = frequency ** -(torch.arange(channels // 4, device=x.device, dtype=x.dtype) / (channels // 4))
    angles_x, angles_y = omega[:, None] * columns, omega[:, None] * rows
    embed_x = torch.cat((angles_x.sin(), angles_x.cos()))[:, None, :].expand(-1, height, -1)
    embed_y = torch.cat((angles_y.sin(), angles_y.cos()))[:, :, None].expand(-1, -1, width)
    return x.add_(torch.cat((embed_x, embed_y)), alpha=weight)


def _centres(count: int, like: Tensor) -> Tensor:
    """Centres of ``count`` equal parts of [-1, 1]."""
    return (2 * torch.arange(count, device=like.device, dtype=like.dtype) + 1 - count) / count


def inverse_log(x: Tensor) -> Tensor:
    """``sign(x) (exp(|x|) - 1)``: lets a network reach far points with moderate outputs."""
    return x.sign() * x.abs().expm1()
