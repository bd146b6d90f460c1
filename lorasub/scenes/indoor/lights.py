"""Draws the light of rooms: lamps under the ceiling, windows, and much light from all sides."""

from __future__ import annotations

import numpy as np

from lorasub.scenes.color import blackbody_rgb
from lorasub.scenes.description import LightKind, Lights
from lorasub.scenes.indoor.interior import CATALOGUE, HANGING_SLOTS, Interior
from lorasub.scenes.streams import Draws

LAMPS, WINDOWS = 2, 2
LIGHT_DRAWS = 32
_WINDOW = CATALOGUE.index("window", "curtains")


def draw_indoor_lights(draws: Draws, interior: Interior) -> Lights:
    """Up to two lamps and two windows; a window's light stands outside behind it, large and soft."""
    lamp_on = draws.chance(0.75, LAMPS)
    sideways = draws.uniform((-0.75, 0.75), LAMPS, 2) * interior.half[:, None]
    below = draws.uniform((0.08, 0.5), LAMPS)
    power = draws.log_uniform((0.4, 1.6), LAMPS + WINDOWS)
    warm = blackbody_rgb(draws.log_uniform((2600.0, 5500.0), LAMPS))
    cold = blackbody_rgb(draws.log_uniform((5000.0, 9000.0), WINDOWS))
    radius = draws.uniform((0.0, 0.08), LAMPS)
    behind = draws.uniform((0.3, 1.0), WINDOWS)
    ambient = draws.log_uniform((0.18, 0.9))[:, None]
    zenith, horizon = (blackbody_rgb(draws.log_uniform((4000.0, 7500.0))) for _ in range(2))
    exposure = draws.log_uniform((0.6, 2.6))

    objects = interior.objects
    kind, there = objects.kind[:, HANGING_SLOTS], objects.present[:, HANGING_SLOTS]
    there = there & np.isin(kind, _WINDOW)
    order = np.argsort(~there, axis=-1, kind="stable")[:, :WINDOWS]
    window = np.take_along_axis(there, order, 1)
    center, half, yaw = (
        np.take_along_axis(value[:, HANGING_SLOTS], order.reshape(*order.shape, *[1] * (value.ndim - 2)), 1)
        for value in (objects.center, objects.half, objects.yaw)
    )
    outward = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], axis=-1)
    place = center + behind[..., None] * outward
    area = 4.0 * half[..., 0] * half[..., 2]

    # outdoors the first lamp is the sun, on the side from which the wall is seen
    sun_height, sun_side = 0.3 + 0.9 * below[:, 0] / 0.5, 1.2 * sideways[:, 0, 0] / interior.half[:, 0]
    level = np.cos(sun_height)
    sun = np.stack([level * np.sin(sun_side), level * np.cos(sun_side), np.sin(sun_height)], axis=-1)
    outdoors = interior.facade
    lamp = np.concatenate([sideways, (interior.height[:, None] - below)[..., None]], axis=-1)
    reach = 0.5 * interior.half.mean(-1, keepdims=True) ** 2 + 1.0
    strength = np.concatenate([1.3 * reach * np.ones((1, LAMPS)), 2.2 * reach * area + 1.0], axis=1) * power
    lamp[outdoors, 0], strength[outdoors, 0] = sun[outdoors], 2.5 * power[outdoors, 0]
    lamp_on[outdoors, 1:] = False
    radius[outdoors] *= 0.2
    on = np.concatenate([lamp_on, window], axis=1)
    kind_of = np.full(on.shape, int(LightKind.POINT))
    kind_of[outdoors, 0] = int(LightKind.DIRECTIONAL)
    color = np.concatenate([warm, cold], axis=1) * (strength * on)[..., None]

    return Lights.of(
        kind=np.where(on, kind_of, int(LightKind.NONE)),
        position=np.concatenate([lamp, place], axis=1),
        color=color,
        radius=np.concatenate([radius, np.minimum(0.2 * half[..., 0], 0.1)], axis=1),
        zenith=zenith * ambient,
        horizon=horizon * ambient,
        exposure=exposure,
    )
