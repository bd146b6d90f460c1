"""Proposes where camera paths begin, and measures what is seen from there and how far everything is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lorasub.scenes.indoor.interior import CENTRE_SLOTS, Interior
from lorasub.scenes.indoor.pieces import MOST_SUPPORTS
from lorasub.scenes.indoor.ranges import IndoorRanges
from lorasub.scenes.streams import Array, BoolArray, Draws, IntArray

#: Paths that are proposed for each scene.
PATHS = 16


@dataclass(frozen=True, slots=True)
class Starts:
    """First places and targets of P proposed paths, ``[B, P, 3]`` both."""

    position: Array
    target: Array

    def where(self, scenes: BoolArray, other: Starts) -> Starts:
        """These, but the others in scenes ``[B]``."""
        there = scenes[:, None, None]
        return Starts(np.where(there, other.position, self.position), np.where(there, other.target, self.target))


def free_starts(draws: Draws, ranges: IndoorRanges, interior: Interior, surface: BoolArray) -> Starts:
    """Anywhere in the room, in any direction; scenes of a surface begin before a wall and look at it."""
    batch = len(interior.half)
    spread = interior.half[:, None] - ranges.clearance
    sideways = draws.uniform((-1.0, 1.0), PATHS, 2) * spread
    height = draws.uniform(ranges.camera_height, PATHS)
    yaw = draws.uniform((0.0, 2.0 * np.pi), PATHS)
    mean, deviation = ranges.pitch
    pitch = mean + deviation * 1.7 * (draws.uniform((-1.0, 1.0), PATHS) + draws.uniform((-1.0, 1.0), PATHS))
    wall = draws.choice(4, PATHS)
    out = draws.uniform((0.25, 1.0), PATHS)
    along = draws.uniform((-1.0, 1.0), PATHS)
    glance = draws.uniform((-0.9, 0.9), PATHS)

    rows = np.arange(batch)[:, None]
    across = interior.half[:, (1, 0, 1, 0)][rows, wall]
    v = np.minimum(interior.depths[rows, wall] + out, 2.0 * across - 0.3)
    u = 0.8 * along * interior.half[:, (0, 1, 0, 1)][rows, wall]
    turned = 0.5 * np.pi * wall
    cos, sin = np.cos(turned), np.sin(turned)
    before = np.stack([cos * u - sin * (v - across), sin * u + cos * (v - across)], axis=-1)
    facing = turned - 0.5 * np.pi + glance
    # people look into a room more than at the wall behind them
    inward = draws.chance(0.6, PATHS)
    toward = np.arctan2(-sideways[..., 1], -sideways[..., 0]) + glance
    yaw = np.where(inward, toward, yaw)
    is_surface = surface[:, None]
    sideways = np.where(is_surface[..., None], before, sideways)
    yaw = np.where(is_surface, facing, yaw)
    position = np.concatenate([sideways, np.minimum(height, interior.height[:, None] - 0.3)[..., None]], axis=-1)
    pitch = np.clip(pitch, -1.1, 0.6)
    forward = np.stack([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)], axis=-1)
    return Starts(position, position + forward)


def object_starts(draws: Draws, ranges: IndoorRanges, interior: Interior) -> Starts:
    """Around a piece that stands in the room, at ``ranges.around`` from its side."""
    objects = interior.objects
    pick = _pick(objects.present & (objects.center[..., 2] - objects.half[..., 2] < 0.05), draws)
    rows = np.arange(len(pick))[:, None]
    center, half, yaw = objects.center[rows, pick], objects.half[rows, pick], objects.yaw[rows, pick]
    away = draws.uniform(ranges.around, PATHS)
    angle = yaw + 0.5 * np.pi + draws.uniform((-1.2, 1.2), PATHS)
    height = draws.uniform(ranges.camera_height, PATHS)
    at = draws.uniform((0.0, 0.9), PATHS)
    distance = away + np.hypot(half[..., 0], half[..., 1]) * 0.7
    position = center + distance[..., None] * np.stack([np.cos(angle), np.sin(angle), 0.0 * angle], axis=-1)
    position[..., 2] = np.minimum(height, interior.height[:, None] - 0.3)
    target = center.copy()
    target[..., 2] += at * half[..., 2]
    return Starts(position, target)


def near_starts(draws: Draws, ranges: IndoorRanges, interior: Interior) -> Starts:
    """Before a board or a table top, at ``ranges.near`` from what stands there."""
    supports = interior.supports
    pick = _pick(supports.present & supports.wanted, draws)
    rows = np.arange(len(pick))[:, None]
    center, half, yaw = supports.center[rows, pick], supports.half[rows, pick], supports.yaw[rows, pick]
    room = supports.room[rows, pick]
    place = draws.uniform((-0.8, 0.8), PATHS)
    distance = draws.uniform(ranges.near, PATHS)
    # a table in the middle is seen from all sides, what stands at a wall from the front
    side = draws.uniform((-1.0, 1.0), PATHS) * np.where(pick // MOST_SUPPORTS == CENTRE_SLOTS.start, np.pi, 0.8)
    angle = yaw + 0.5 * np.pi + side
    above = draws.uniform((0.1, 1.0), PATHS)
    target = center + (place * half[..., 0])[..., None] * np.stack([np.cos(yaw), np.sin(yaw), 0.0 * yaw], axis=-1)
    target[..., 2] += np.minimum(0.08, 0.4 * room)
    # under a board one looks in from the front, over a top from above as well
    slope = above * np.where(room > 0.4, 0.8, 0.35)
    flat = np.stack([np.cos(angle) * np.cos(slope), np.sin(angle) * np.cos(slope), np.sin(slope)], axis=-1)
    position = target + (distance + 0.5 * half[..., 1])[..., None] * flat
    return Starts(position, target)


def facade_starts(draws: Draws, ranges: IndoorRanges, interior: Interior) -> Starts:
    """Before a facade, at ``ranges.before`` from a place on it."""
    low, high = interior.face[:, None, 0], interior.face[:, None, 1]
    place = draws.uniform((0.1, 0.9), PATHS, 2)
    distance = draws.log_uniform(ranges.before, PATHS)
    angle = draws.uniform((-0.8, 0.8), PATHS)
    height = draws.uniform(ranges.camera_height, PATHS)
    target = low + (high - low) * np.stack([place[..., 0], 0.0 * place[..., 0], place[..., 1]], axis=-1)
    target[..., 2] = np.minimum(target[..., 2], height + 0.45 * distance)
    position = target + distance[..., None] * np.stack([np.sin(angle), np.cos(angle), 0.0 * angle], axis=-1)
    position[..., 2] = height
    return Starts(position, target)


def _pick(there: BoolArray, draws: Draws) -> IntArray:
    """``[B, P]`` random numbers of places ``there [B, Q]``; 0 where there is none."""
    rank = np.floor(draws.uniform((0.0, 1.0), PATHS) * there.sum(-1, keepdims=True)).astype(np.int64)
    order = np.argsort(~there, axis=-1, kind="stable")
    return np.take_along_axis(order, rank, axis=1)


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
    """Statistics of a view from rays through a few places of the image, ``[B, P]`` each.

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
