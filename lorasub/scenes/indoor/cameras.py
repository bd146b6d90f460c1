"""Draws camera paths inside of rooms.

Each scene proposes a few paths: a place, a direction and the step between neighbouring views, a share of the median
depth that is seen from there. The first path that keeps its distance from everything is taken; where none does, the
camera turns in the square that was left free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lorasub.errors import ConfigError
from lorasub.scenes.cameras import MAX_VIEWS, look_at
from lorasub.scenes.description import Cameras
from lorasub.scenes.indoor.interior import CENTRE_SLOTS, Interior, turned
from lorasub.scenes.indoor.pieces import MOST_SUPPORTS
from lorasub.scenes.indoor.ranges import FREE, IndoorRanges
from lorasub.scenes.streams import Array, BoolArray, Draws, IntArray

#: Paths that are proposed for each scene.
PATHS = 16


@dataclass(frozen=True, slots=True)
class Starts:
    """First places and targets of P proposed paths, ``[B, P, 3]`` both."""

    position: Array
    target: Array

    def where(self, scenes: BoolArray, other: Starts) -> Starts:
        """Returns these starts, replaced by the others in scenes ``[B]``."""
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
    side = 0.5 * np.pi * wall.astype(np.float64)
    before = np.stack(turned(u, v - across, side), axis=-1)
    facing = side - 0.5 * np.pi + glance
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


CAMERA_DRAWS = 64 + 40 * PATHS + 6 * MAX_VIEWS
#: Views after which a path turns back, so that it stays near its beginning however many views there are.
_TURN_BACK = 7
#: Which of the proposed paths are looked at together; the later ones only where none of the earlier works. Of the last
#: ones less is asked.
_ROUNDS = (slice(0, 3), slice(3, 8), slice(8, PATHS))


def draw_indoor_cameras(draws: Draws, ranges: IndoorRanges, interior: Interior, num_views: int) -> Cameras:
    """A path of S views, with all cameras inside and clear of everything.

    Args:
        draws: the cameras' stream.
        ranges: what is drawn from.
        interior: the rooms.
        num_views: S.

    Raises:
        ConfigError: a number of views out of range.
    """
    if not 1 <= num_views <= MAX_VIEWS:
        raise ConfigError(f"num_views is {num_views}; it must be within 1 and {MAX_VIEWS}")
    in_room = ~interior.close & ~interior.facade
    surface = draws.chance(ranges.surface) & in_room
    circling = draws.chance(ranges.circling) & in_room & ~surface
    panning = draws.chance(ranges.panning) & ~circling
    fov = draws.uniform(ranges.fov) * np.where(interior.facade, 0.8, 1.0)
    free, around = free_starts(draws, ranges, interior, surface), object_starts(draws, ranges, interior)
    starts = free.where(circling, around).where(interior.close, near_starts(draws, ranges, interior))
    starts = starts.where(interior.facade, facade_starts(draws, ranges, interior))
    short, long = ranges.baseline
    ratio = short * (long / short) ** draws.uniform((0.0, 1.0), PATHS) ** 0.65  # narrow places shorten what is long
    ratio = np.where(panning[:, None], np.minimum(ratio, 0.12), ratio)
    heading = draws.uniform((0.0, 2.0 * np.pi), PATHS)
    rise = draws.uniform((-0.35, 0.35), PATHS)
    turn = draws.uniform(ranges.turn) * np.where(draws.chance(0.5), 1.0, -1.0)
    turn = np.clip(turn, -0.4 * fov, 0.4 * fov) * np.where(in_room, np.where(panning, 1.0, 0.3), 0.25)
    # most views of a room show more than a bare wall, and things at different distances
    usual = draws.chance(0.85) & ~surface
    content = np.where(usual, draws.uniform((0.15, 0.6)), 0.0)
    relief = np.where(usual, draws.uniform((1.3, 3.8)), 1.0)
    shake = draws.log_uniform((0.01, 0.25))
    noise = draws.uniform((-1.0, 1.0), MAX_VIEWS, 6)[:, :num_views]
    roll = 1.7 * ranges.roll * (draws.uniform((-1.0, 1.0)) + draws.uniform((-1.0, 1.0)))

    proposals = _Proposals(
        starts=starts,
        fov=fov,
        orbit=circling | (~in_room & ~panning),
        near_by=circling | ~in_room,
        ratio=ratio,
        heading=heading,
        rise=rise,
        content=content,
        relief=relief,
        tremble=noise[..., :3],
    )
    path, target, found = _choose(proposals, ranges, interior)
    path, target = _fall_back(draws, ranges, interior, found, path, target, noise)

    # a camera that circles keeps its eyes on the target; the others keep their direction but for turn and shake
    keeps = (proposals.orbit & found)[:, None, None]
    aim = np.where(keeps, target[:, None], path + (target - path[:, 0])[:, None])
    aim[..., 2] += shake[:, None] * noise[..., 5] * np.linalg.norm(aim - path, axis=-1)
    yaw = turn[:, None] * _progress(num_views) + shake[:, None] * noise[..., 4]
    tilt = roll[:, None] + 0.5 * shake[:, None] * noise[..., 3]
    fovs = np.repeat(fov[:, None], num_views, 1)
    return Cameras.of(cam_from_world=look_at(path, _level(path, aim), yaw, tilt), fov=fovs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposals:
    """P paths for each of B scenes, and what is asked of them.

    Attributes:
        starts: where they begin.
        fov: ``[B]``.
        orbit: ``[B]``, along an arc around the target instead of straight on.
        near_by: ``[B]``, the target is what is looked at: its distance is the depth, and any view of it will do.
        ratio: ``[B, P]`` step between views over the depth.
        heading, rise: ``[B, P]`` direction of straight steps, radians, and their slope.
        content, relief: ``[B]`` least share of the view that pieces fill, and least ratio of far to near.
        tremble: ``[B, S, 3]`` in [-1, 1].
    """

    starts: Starts
    fov: Array
    orbit: BoolArray
    near_by: BoolArray
    ratio: Array
    heading: Array
    rise: Array
    content: Array
    relief: Array
    tremble: Array


def _choose(proposals: _Proposals, ranges: IndoorRanges, interior: Interior) -> tuple[Array, Array, BoolArray]:
    """Of each scene's paths the first that works: places ``[B, S, 3]``, target ``[B, 3]``, and whether there is one."""
    batch, views = proposals.tremble.shape[:2]
    progress = _progress(views)
    path, target, found = np.zeros((batch, views, 3)), np.zeros((batch, 3)), np.zeros(batch, bool)
    for some in _ROUNDS:
        left = np.flatnonzero(~found)
        if not left.size:
            break
        room, here, there = (
            interior.of(left),
            proposals.starts.position[left, some],
            proposals.starts.target[left, some],
        )
        near_by, orbit = proposals.near_by[left, None], proposals.orbit[left]
        depth, filled, spread = seen_from(room, here, there, proposals.fov[left])
        depth = np.where(near_by, np.linalg.norm(there - here, axis=-1), depth)
        step = proposals.ratio[left, some] * depth
        heading, rise = proposals.heading[left, some], proposals.rise[left, some]
        tried = here[:, :, None] + _offsets(here, there, orbit, step, heading, rise, progress)
        tried += 0.25 * step[..., None, None] * proposals.tremble[left, None]
        least = ranges.clearance * np.where(room.close, 0.5, 1.0)
        works = clearance(room, tried).min(-1) >= least[:, None]
        strict = 0.4 if some is _ROUNDS[-1] else 1.0
        shows = filled >= strict * proposals.content[left, None]
        works &= near_by | ((depth > 0.45) & shows & (spread >= proposals.relief[left, None] ** strict))
        rows, first = np.arange(left.size), np.argmax(works, axis=-1)
        path[left], target[left] = tried[rows, first], there[rows, first] - here[rows, first]
        target[left] += np.where(orbit[:, None], here[rows, first], tried[rows, first, 0])
        found[left] = works.any(-1)
    return path, target, found


def _progress(num_views: int) -> Array:
    """``[S]`` place along a path that turns back after some views."""
    views = np.arange(num_views) % (2 * _TURN_BACK)
    return np.where(views <= _TURN_BACK, views, 2 * _TURN_BACK - views).astype(float)


def _offsets(
    position: Array, target: Array, orbit: BoolArray, step: Array, heading: Array, rise: Array, progress: Array
) -> Array:
    """``[B, P, S, 3]`` way from the first camera: along an arc around the target, or straight on."""
    arm = position - target
    radius = np.linalg.norm(arm[..., :2], axis=-1)
    way = np.where(np.sin(heading) > 0, 1.0, -1.0)
    angle = np.arctan2(arm[..., 1], arm[..., 0])
    turned = angle[..., None] + (way * np.minimum(step / np.maximum(radius, 0.1), 0.5))[..., None] * progress
    around = np.stack([np.cos(turned), np.sin(turned)], axis=-1)
    circle = radius[..., None, None] * around - arm[:, :, None, :2]
    ahead = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    straight = ahead[:, :, None] * (step[..., None] * progress)[..., None]
    flat = np.where(orbit[:, None, None, None], circle, straight)
    level = rise[..., None] * step[..., None] * progress
    return np.concatenate([flat, level[..., None]], axis=-1)


def _fall_back(
    draws: Draws,
    ranges: IndoorRanges,
    interior: Interior,
    found: BoolArray,
    path: Array,
    target: Array,
    noise: Array,
) -> tuple[Array, Array]:
    """Replaces paths that were not found: small moves in the free square, along the longer way through the room."""
    height = draws.uniform(ranges.camera_height)
    yaw = draws.uniform((-0.6, 0.6))
    reach = FREE - ranges.clearance
    spot = np.concatenate([interior.spot, np.minimum(height, interior.height - 0.4)[:, None]], axis=-1)
    way = noise[..., :3] / np.maximum(np.abs(noise[..., :3]).max(-1, keepdims=True), 1e-6)
    still = spot[:, None] + reach * 0.95 * way
    toward = -interior.spot
    angle = np.arctan2(toward[:, 1], toward[:, 0]) + yaw
    forward = np.stack([np.cos(angle), np.sin(angle), np.full_like(angle, ranges.pitch[0])], axis=-1)
    path = np.where(found[:, None, None], path, still)
    return path, np.where(found[:, None], target, path[:, 0] + forward)


def _level(path: Array, aim: Array) -> Array:
    """The aim, moved a little where it is straight above or below the camera."""
    aside = np.linalg.norm((aim - path)[..., :2], axis=-1)
    moved = aim.copy()
    moved[..., 0] += np.where(aside < 1e-3, 1e-2, 0.0)
    return moved
