"""Draws lights."""

from __future__ import annotations

import numpy as np

from lorasub.errors import ConfigError
from lorasub.scenes.color import blackbody_rgb
from lorasub.scenes.description import LightKind, Lights
from lorasub.scenes.ranges import LightingRanges
from lorasub.scenes.streams import Draws

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

    return Lights.of(
        kind=kind,
        position=np.where(directional[..., None], sun, lamp),
        color=color * power[..., None],
        radius=radius,
        zenith=zenith * ambient,
        horizon=horizon * ambient,
        exposure=exposure,
    )
