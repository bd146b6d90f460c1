"""Draws lights."""

from __future__ import annotations

import numpy as np
import torch

from lorasub.errors import ConfigError
from lorasub.scenes.description import LightKind, Lights
from lorasub.scenes.ranges import LightingRanges
from lorasub.scenes.streams import Array, Draws

MAX_LIGHTS = 4
#: Numbers that :func:`draw_lights` takes from its stream.
LIGHT_DRAWS = 16 * (MAX_LIGHTS + 1)
#: Irradiance that all lights together bring to the middle of the scene.
_TOTAL = 2.6


def draw_lights(draws: Draws, ranges: LightingRanges) -> Lights:
    """One to four lights, a sky and an exposure.

    Raises:
        ConfigError: more lights than there may be.
    """
    if not 1 <= ranges.count[0] <= ranges.count[1] <= MAX_LIGHTS:
        raise ConfigError(f"count is {ranges.count}; it is a range of light numbers within 1 to {MAX_LIGHTS}")
    many = MAX_LIGHTS
    present = np.arange(many) < draws.integer(ranges.count)[:, None]  # [B, L]
    directional = draws.chance(ranges.directional, many)
    azimuth = draws.uniform((0.0, 2.0 * np.pi), many)
    elevation = draws.uniform(ranges.elevation, many)
    distance = draws.uniform(ranges.distance, many)
    height = draws.uniform(ranges.lamp_height, many)
    intensity = draws.uniform(ranges.intensity, many) * present
    color = blackbody_rgb(draws.log_uniform(ranges.temperature, many))
    radius = draws.uniform(ranges.radius, many) * draws.chance(ranges.soft, many)
    ambient = draws.uniform(ranges.ambient)[:, None]
    zenith = blackbody_rgb(draws.log_uniform((6500.0, 15000.0)))
    horizon = blackbody_rgb(draws.log_uniform((4500.0, 8000.0)))
    exposure = draws.uniform(ranges.exposure)

    around = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=-1)
    sun = np.concatenate([around * np.cos(elevation)[..., None], np.sin(elevation)[..., None]], axis=-1)
    lamp = np.concatenate([around * distance[..., None], height[..., None]], axis=-1)
    # equally bright in the middle of the scene, half a unit above the floor, whatever the distance
    reach = distance**2 + (height - 0.5) ** 2
    power = _TOTAL * intensity / intensity.sum(1, keepdims=True) * np.where(directional, 1.0, reach)
    kind = np.where(directional, int(LightKind.DIRECTIONAL), int(LightKind.POINT)) * present

    def tensor(values: Array) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32)

    return Lights(
        kind=torch.as_tensor(kind, dtype=torch.int32),
        position=tensor(np.where(directional[..., None], sun, lamp)),
        color=tensor(color * power[..., None]),
        radius=tensor(radius),
        zenith=tensor(zenith * ambient),
        horizon=tensor(horizon * ambient),
        exposure=tensor(exposure),
    )


def blackbody_rgb(temperature: Array) -> Array:
    """``[..., 3]`` linear RGB with luminance 1 of a black body at the given temperatures, 1700 to 25000 kelvin.

    Chromaticity by the cubic of Kim et al. (US patent 7024034), then CIE xyY to linear sRGB.
    """
    t = 1e3 / np.clip(temperature, 1700.0, 25000.0)
    x = np.where(
        t > 0.25,
        ((-0.2661239 * t - 0.2343589) * t + 0.8776956) * t + 0.179910,
        ((-3.0258469 * t + 2.1070379) * t + 0.2226347) * t + 0.240390,
    )
    y = np.where(
        t > 1e3 / 2222.0,
        ((-1.1063814 * x - 1.34811020) * x + 2.18555832) * x - 0.20219683,
        np.where(
            t > 0.25,
            ((-0.9549476 * x - 1.37418593) * x + 2.09137015) * x - 0.16748867,
            ((3.0817580 * x - 5.87338670) * x + 3.75112997) * x - 0.37001483,
        ),
    )
    xyz = np.stack([x / y, np.ones_like(x), (1.0 - x - y) / y], axis=-1)
    to_rgb = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    rgb: Array = np.maximum(xyz @ to_rgb.T, 0.0)
    return rgb
