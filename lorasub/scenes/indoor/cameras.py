"""Draws camera paths inside of rooms.

Each scene proposes a few paths: a place, a direction and the step between neighbouring views, a share of the median
depth that is seen from there. The first path that keeps its distance from everything is taken; where none does, the
camera turns in the square that was left free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lorasub.errors import ConfigError
from lorasub.scenes.cameras import MAX_VIEWS, look_at
from lorasub.scenes.description import Cameras
from lorasub.scenes.indoor.interior import Interior
from lorasub.scenes.indoor.ranges import FREE, IndoorRanges
from lorasub.scenes.indoor.starts import (
    PATHS,
    Starts,
    clearance,
    facade_starts,
    free_starts,
    near_starts,
    object_starts,
    seen_from,
)
from lorasub.scenes.streams import Array, BoolArray, Draws

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
    return Cameras(
        cam_from_world=torch.as_tensor(look_at(path, _level(path, aim), yaw, tilt), dtype=torch.float32),
        fov=torch.as_tensor(np.repeat(fov[:, None], num_views, 1), dtype=torch.float32),
    )


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
