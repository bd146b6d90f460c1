"""Draws camera paths."""

from __future__ import annotations

import numpy as np

from lorasub.errors import ConfigError
from lorasub.scenes.description import Cameras
from lorasub.scenes.ranges import CAMERA_SHELL, HEADROOM, CameraRanges
from lorasub.scenes.streams import Array, Draws

MAX_VIEWS = 32
#: Numbers that :func:`draw_cameras` takes from its stream.
CAMERA_DRAWS = 16 + 8 * MAX_VIEWS
PATHS = ("orbit", "arc", "dolly", "look_around", "random_walk", "micro")


def draw_cameras(draws: Draws, ranges: CameraRanges, num_views: int) -> Cameras:
    """A path of S views, all of which look at the objects from outside of their disc.

    Raises:
        ConfigError: an unknown path, or a number of views out of range.
    """
    unknown = sorted(set(ranges.paths) - set(PATHS))
    if unknown or not ranges.paths:
        raise ConfigError(f"unknown camera paths {unknown}; choose from {list(PATHS)}")
    if not 1 <= num_views <= MAX_VIEWS:
        raise ConfigError(f"num_views is {num_views}; it must be within 1 and {MAX_VIEWS}")
    codes = np.array([PATHS.index(name) for name in ranges.paths])
    path = codes[draws.choice(len(codes))][:, None]  # [B, 1]
    azimuth = draws.uniform(ranges.azimuth, 1)
    arc = draws.uniform(ranges.arc, 1)
    near_far = draws.uniform(ranges.distance, 2)
    low_high = draws.uniform(ranges.height, 2)
    target = draws.uniform(ranges.target, 1)
    target_azimuth = draws.uniform((0.0, 2.0 * np.pi), 1)
    target_height = draws.uniform(ranges.target_height, 1)
    fov = draws.uniform(ranges.fov, 1)
    roll = draws.uniform(ranges.roll, 1)
    tremor = draws.uniform(ranges.tremor, 1)
    # one row of noise per possible view, so that the same scene with more views begins with the same views
    noise = draws.uniform((-1.0, 1.0), MAX_VIEWS, 5)[:, :num_views]

    steps = max(num_views - 1, 1)
    time = np.arange(num_views) / steps  # [S], 0 to 1
    sweep = np.minimum(arc, ranges.step * steps) * (time - 0.5)
    walk = np.cumsum(noise, axis=1) / np.sqrt(steps)  # [B, S, 5]
    still = np.zeros_like(sweep)

    def along(ends: Array) -> Array:
        return ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * time

    def by_path(**values: Array) -> Array:
        result = values.pop("otherwise")
        for name, value in values.items():
            result = np.where(path == PATHS.index(name), value, result)
        return result

    angle = azimuth + by_path(
        orbit=sweep, arc=sweep, dolly=0.15 * sweep, random_walk=0.5 * sweep + 0.35 * walk[..., 0], otherwise=still
    )
    distance = by_path(
        arc=along(near_far),
        dolly=along(np.broadcast_to(CAMERA_SHELL[::-1], near_far.shape)),
        random_walk=near_far[:, :1] + 0.4 * walk[..., 1],
        otherwise=near_far[:, :1] + still,
    )
    height = by_path(
        arc=along(low_high), random_walk=low_high[:, :1] + 0.4 * walk[..., 2], otherwise=low_high[:, :1] + still
    )
    distance = np.clip(distance, *CAMERA_SHELL)
    height = np.clip(height, 0.3, HEADROOM - 0.2)
    position = np.stack([distance * np.cos(angle), distance * np.sin(angle), height], axis=-1)
    position += by_path(micro=tremor, otherwise=0.1 * tremor)[..., None] * noise[..., :3]
    aim = np.stack([target * np.cos(target_azimuth), target * np.sin(target_azimuth), target_height], axis=-1)
    yaw = (
        by_path(look_around=0.45 * sweep, otherwise=still)
        + by_path(micro=0.2 * tremor, otherwise=tremor) * noise[..., 3]
    )
    tilt = roll + by_path(micro=0.2 * tremor, otherwise=tremor) * noise[..., 4]
    return Cameras.of(cam_from_world=look_at(position, aim, yaw, tilt), fov=fov + still)


def look_at(position: Array, target: Array, yaw: Array, roll: Array) -> Array:
    """OpenCV extrinsics ``[..., 3, 4]`` of cameras that look at targets in a world with z up.

    Args:
        position: ``[..., 3]`` camera centres.
        target: ``[..., 3]``, not straight above or below the position.
        yaw: ``[...]`` further turn to the right about the camera's own y axis, radians.
        roll: ``[...]`` clockwise turn of the camera about its viewing axis, radians.
    """
    forward = target - position
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(forward, right)
    cos, sin = np.cos(yaw)[..., None], np.sin(yaw)[..., None]
    forward, right = cos * forward + sin * right, cos * right - sin * forward
    cos, sin = np.cos(roll)[..., None], np.sin(roll)[..., None]
    right, down = cos * right + sin * down, cos * down - sin * right
    rotation = np.stack([right, down, forward], axis=-2)
    return np.concatenate([rotation, -rotation @ position[..., None]], axis=-1)
