"""Draws shapes and their layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from lorasub.errors import ConfigError
from lorasub.scenes.description import FIRST_OBJECT, Geometry, Primitive
from lorasub.scenes.ranges import LAYOUT_RADIUS, GeometryRanges
from lorasub.scenes.shapes import MAX_PIECES, shape_table
from lorasub.scenes.streams import Array, BoolArray, Draws, IntArray

MAX_OBJECTS = 25
#: Numbers that shapes and layout take from their stream at most.
GEOMETRY_DRAWS = 24 * (MAX_OBJECTS + 1)
_GAP = 0.04
_GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))


def draw_geometry(draws: Draws, ranges: GeometryRanges) -> Geometry:
    """Draws objects on the floor of a room, none inside another.

    Raises:
        ConfigError: no shape, an unknown shape, or more objects than there is room for.
    """
    if not ranges.shapes:
        raise ConfigError("shapes is empty; name at least one")
    if not 1 <= ranges.count[0] <= ranges.count[1] <= MAX_OBJECTS:
        raise ConfigError(f"count is {ranges.count}; it is a range of object numbers within 1 to {MAX_OBJECTS}")
    many = MAX_OBJECTS
    present = np.arange(many) < draws.integer(ranges.count)[:, None]  # [B, M]
    recipe = draws.choice(len(ranges.shapes), many)
    radius = draws.log_uniform(ranges.radius, many)
    aspect = draws.log_uniform(ranges.aspect, many)
    elongation = draws.uniform(ranges.elongation, many)
    yaw = draws.uniform((0.0, 2.0 * np.pi), many)
    tilt = draws.uniform(ranges.tilt, many)
    axis = draws.uniform((0.0, 2.0 * np.pi), many)
    floating = draws.chance(ranges.floating, many)
    elevation = draws.uniform(ranges.elevation, many)
    jitter = draws.uniform((-1.0, 1.0), many, 2)
    spin = draws.uniform((0.0, 2.0 * np.pi))
    walls = draws.uniform(ranges.room, 2)
    height = draws.uniform(ranges.height)
    open_air = draws.chance(ranges.open)

    # where no wish fits, everything shrinks a little rather than being thrown again: small changes stay small
    spot, shrink = _layout(radius, jitter, spin, present)
    radius = radius * shrink
    table = {name: values[recipe] for name, values in shape_table(ranges.shapes).items()}  # [B, M, P, ...]
    single = (table["kind"] != Primitive.NONE).sum(-1) == 1
    rotation = _rotation(yaw, np.where(single, tilt, 0.0), axis)  # [B, M, 3, 3]
    half = np.stack([radius, radius * elongation, radius * aspect], axis=-1)  # [B, M, 3]
    rise = _half_height(half, rotation) + np.where(floating, elevation, 0.0)
    origin = np.concatenate([spot, rise[..., None]], axis=-1)

    size = half[:, :, None] * table["size"]  # [B, M, P, 3]
    offset = half[:, :, None] * table["center"]
    center = origin[:, :, None] + (rotation[:, :, None] @ offset[..., None])[..., 0]
    kind = np.where(present[..., None], table["kind"], int(Primitive.NONE))
    surface = np.broadcast_to(FIRST_OBJECT + np.arange(many)[:, None], kind.shape)
    rotation = np.broadcast_to(rotation[:, :, None], (*kind.shape, 3, 3))

    batch = kind.shape[0]
    kind = kind.reshape(batch, many * MAX_PIECES)
    front = np.argsort(kind == Primitive.NONE, axis=-1, kind="stable")  # used places first

    def places(values: Array | IntArray) -> Any:
        flat: Any = values.reshape(batch, many * MAX_PIECES, *values.shape[3:])
        return np.take_along_axis(flat, front.reshape(*front.shape, *[1] * (flat.ndim - 2)), axis=1)

    return Geometry.of(
        kind=places(kind.reshape(batch, many, MAX_PIECES)),
        center=places(center),
        rotation=places(rotation),
        size=places(size),
        shape=places(table["shape"]),
        surface=places(surface),
        room=np.concatenate([walls, height[:, None]], axis=-1),
        open=open_air,
    )


def _layout(radius: Array, jitter: Array, spin: Array, present: BoolArray) -> tuple[Array, Array]:
    """Places ``[B, M, 2]`` and a factor ``[B, M]`` on the radii so that the footprints do not overlap.

    A sunflower gives every object its own ground; neighbours then push each other apart a few times, and what still
    overlaps shrinks.
    """
    many = radius.shape[1]
    share = np.sqrt((np.arange(many) + 0.5) / present.sum(1, keepdims=True))  # [B, M]
    angle = spin[:, None] + _GOLDEN_ANGLE * np.arange(many)
    reach = LAYOUT_RADIUS - radius
    spot = (share * reach)[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1) + 0.25 * jitter
    both = present[:, :, None] & present[:, None, :] & ~np.eye(many, dtype=bool)
    wanted = radius[:, :, None] + radius[:, None, :] + _GAP
    for _ in range(8):
        delta = spot[:, :, None] - spot[:, None, :]  # [B, M, M, 2]
        distance = np.sqrt((delta**2).sum(-1) + 1e-9)
        push = np.where(both, np.maximum(wanted - distance, 0.0), 0.0)
        spot = spot + 0.5 * (push[..., None] * delta / distance[..., None]).sum(2)
        far = np.sqrt((spot**2).sum(-1) + 1e-9)
        spot = spot * np.minimum(1.0, reach / far)[..., None]
    delta = spot[:, :, None] - spot[:, None, :]
    distance = np.sqrt((delta**2).sum(-1) + 1e-9)
    fits = np.where(both, np.maximum(distance - _GAP, 0.05) / (radius[:, :, None] + radius[:, None, :]), 1.0)
    return spot, np.minimum(fits.min(2), 1.0)


def turn_about_z(angle: Array) -> Array:
    """Rotations ``[..., 3, 3]`` by angles ``[...]`` about the vertical axis."""
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], axis=-1).reshape(*angle.shape, 3, 3)


def _rotation(yaw: Array, tilt: Array, axis: Array) -> Array:
    """World-from-object: turn by yaw about z, then by tilt about the horizontal axis at angle ``axis``."""
    # Rodrigues' formula
    x, y, zero = np.cos(axis), np.sin(axis), np.zeros_like(axis)
    cross = np.stack([zero, zero, y, zero, zero, -x, -y, x, zero], axis=-1).reshape(*yaw.shape, 3, 3)
    lean = np.eye(3) + np.sin(tilt)[..., None, None] * cross + (1.0 - np.cos(tilt))[..., None, None] * cross @ cross
    turned: Array = lean @ turn_about_z(yaw)
    return turned


def _half_height(half: Array, rotation: Array) -> Array:
    """Half height of the cylinder x^2 + y^2 <= 1, |z| <= 1 after scaling and turning."""
    row = rotation[..., 2, :] * half
    return np.hypot(row[..., 0], row[..., 1]) + np.abs(row[..., 2])
