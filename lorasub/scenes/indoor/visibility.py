"""What can be said about a place in a room without rendering: how near things are, and what is seen from there."""

from __future__ import annotations

import numpy as np

from lorasub.scenes.indoor.interior import Interior
from lorasub.scenes.streams import Array

#: Places of the image, along each axis, through which rays are sent.
_PROBES = np.array([-0.8, 0.0, 0.8])


def clearance(interior: Interior, points: Array) -> Array:
    """Distance of points ``[B, ..., 3]`` to the nearest solid's box, wall, floor or ceiling; negative outside."""
    shape = points.shape
    flat = points.reshape(shape[0], -1, 3)
    square = np.zeros((1, 1, 1))
    for axis in range(3):  # axis by axis: long rows are quicker than triples
        place = flat[:, :, None, axis]
        outside = np.maximum(interior.low[:, None, :, axis] - place, place - interior.high[:, None, :, axis])
        square = square + np.maximum(outside, 0.0) ** 2
    nearest = np.sqrt(square.min(-1))
    wall = (interior.half[:, None] - np.abs(flat[..., :2])).min(-1)
    level = np.minimum(flat[..., 2], interior.height[:, None] - flat[..., 2])
    gap: Array = np.minimum(nearest, np.minimum(wall, level)).reshape(shape[:-1])
    return gap


def seen_from(interior: Interior, position: Array, target: Array, fov: Array) -> tuple[Array, Array, Array]:
    """What rays through a few places of the image say about a view, ``[B, P]`` each.

    They meet walls and the boxes around large pieces: the median depth, the share of the view that pieces fill, and the
    second largest depth over the second smallest.
    """
    forward = target - position
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(forward, right)
    place = np.tan(0.5 * fov)[:, None] * _PROBES
    x, y = place[:, None, :, None, None], place[:, None, None, :, None]
    rays = forward[:, :, None, None] + x * right[:, :, None, None] + y * down[:, :, None, None]
    rays = rays.reshape(*position.shape[:2], -1, 3)
    rays = np.where(np.abs(rays) < 1e-6, 1e-6, rays)
    half = np.concatenate([interior.half, 0.5 * interior.height[:, None]], axis=-1)[:, None, None]
    origin = position[:, :, None] - np.array([0.0, 0.0, 1.0]) * half[..., 2:]
    wall = ((np.sign(rays) * half - origin) / rays).min(-1)  # [B, P, R]
    objects = interior.objects
    extent = objects.extent()
    low, high = objects.center - extent, objects.center + extent
    enter, leave = np.zeros((1, 1, 1, 1)), np.full((1, 1, 1, 1), np.inf)
    for axis in range(3):
        ray, eye = rays[..., None, axis], position[:, :, None, None, axis]
        one = (low[:, None, None, :, axis] - eye) / ray
        two = (high[:, None, None, :, axis] - eye) / ray
        enter, leave = np.maximum(enter, np.minimum(one, two)), np.minimum(leave, np.maximum(one, two))
    hit = objects.present[:, None, None] & (enter < leave) & (enter > 0.0)
    nearest = np.where(hit, enter, np.inf).min(-1)
    depth = np.sort(np.minimum(wall, nearest), axis=-1)
    return depth[..., depth.shape[-1] // 2], (nearest < wall).mean(-1), depth[..., -2] / np.maximum(depth[..., 1], 1e-3)
