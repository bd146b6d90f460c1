"""Solids without a closed-form intersection: tori, superquadrics, bumpy spheres and height fields.

Each is the part of the cube [-1, 1]^3 where a field is negative. Rays march through the cube by steps that the field's
Lipschitz constant allows, and Newton's method does the rest. Only pairs of ray and solid that come close are marched, so
the functions here work on flat lists of P pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorasub.scenes.description import Primitive
from lorasub.scenes.rendering.vectors import dot

_STEPS = 40
_POLISH = 4
_TORUS, _SUPERQUADRIC, _BLOB, _TERRAIN = (
    int(Primitive.TORUS),
    int(Primitive.SUPERQUADRIC),
    int(Primitive.BLOB),
    int(Primitive.TERRAIN),
)
IMPLICIT = (_TORUS, _SUPERQUADRIC, _BLOB, _TERRAIN)
_PHASES = (1.0, 2.3, 3.7)


def field(kind: Tensor, shape: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    """The field and its gradient.

    Args:
        kind: ``[P]`` int32.
        shape: ``[4, P]``, see :class:`~lorasub.scenes.description.Primitive`.
        point: ``[3, P]``.

    Returns:
        ``[P]``, negative inside, and ``[3, P]``.
    """
    value, gradient = _terrain(shape, point)
    for name, function in ((_TORUS, _torus), (_SUPERQUADRIC, _superquadric), (_BLOB, _blob)):
        other, slope = function(shape, point)
        value = torch.where(kind == name, other, value)
        gradient = torch.where(kind == name, slope, gradient)
    return value, gradient


def _torus(shape: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    # the frame is scaled so that the tube's top is z = 1: a true distance has to undo that
    tube = shape[0]
    x, y, z = point[0], point[1], point[2] * tube
    around = (x * x + y * y + 1e-12).sqrt()
    out = around - (1.0 - tube)
    distance = (out * out + z * z + 1e-12).sqrt()
    return distance - tube, torch.stack([out * x / around, out * y / around, z * tube]) / distance


def _superquadric(shape: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    # a gauge: homogeneous of degree 1, so that its gradient stays bounded everywhere
    east, north = 2.0 / shape[1].clamp(min=0.1), 2.0 / shape[0].clamp(min=0.1)
    size = point.abs().clamp(min=1e-6)
    scale = size.amax(0)  # keeps the powers in range
    x, y, z = size / scale
    ring = x.pow(east) + y.pow(east)
    total = ring.pow(north / east) + z.pow(north)
    gauge = total.pow(1.0 / north)
    common = gauge / total  # d gauge / d total, times north
    side = common * ring.pow(north / east - 1.0)
    gradient = torch.stack([side * x.pow(east - 1.0), side * y.pow(east - 1.0), common * z.pow(north - 1.0)])
    return gauge * scale - 1.0, gradient * point.sign()


def _blob(shape: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    depth, frequency, phase = shape[0], shape[1], shape[2]
    length = (dot(point, point) + 1e-12).sqrt()
    unit = point / length
    angle = frequency * unit + torch.stack([phase * factor for factor in _PHASES])
    radius = 1.0 - depth + depth / 3.0 * angle.sin().sum(0)
    slope = depth * frequency / 3.0 * angle.cos()  # of the radius, by the unit vector
    return length - radius, unit - (slope - dot(slope, unit) * unit) / length


def _terrain(shape: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    depth, frequency, phase = shape[0], shape[1], shape[2]
    one, two = frequency * point[0] + phase, frequency * point[1] + 2.3 * phase
    height = 1.0 - 2.0 * depth + depth * (one.sin() + two.cos())
    slope = depth * frequency
    return point[2] - height, torch.stack([-slope * one.cos(), slope * two.sin(), torch.ones_like(height)])


def lipschitz(kind: Tensor, shape: Tensor) -> Tensor:
    """``[P]`` a bound on the gradient's length within the cube."""
    bumps = shape[0] * shape[1]
    bound = torch.where(kind == _SUPERQUADRIC, 1.75, 1.0 + bumps)  # sqrt(3) for the octahedron
    bound = torch.where(kind == _TERRAIN, (1.0 + 2.0 * bumps * bumps).sqrt(), bound)
    # a bumpy sphere's field steepens toward its middle, where no ray gets before it has hit
    return torch.where(kind == _TORUS, 1.0, torch.where(kind == _BLOB, 1.0 + 1.6 * bumps, bound))


def march(
    kind: Tensor, shape: Tensor, origin: Tensor, direction: Tensor, near: Tensor, far: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The first meeting of rays with their solids.

    Args:
        kind: ``[P]``.
        shape: ``[4, P]``.
        origin: ``[3, P]`` in the solid's frame.
        direction: ``[3, P]`` in the solid's frame, of any length.
        near: ``[P]`` where the ray enters the cube, or starts.
        far: ``[P]`` where it leaves.

    Returns:
        distance ``[P]`` in units of the direction, whether it is a hit ``[P]``, and the field's gradient there.
    """
    pace = 1.0 / (lipschitz(kind, shape) * dot(direction, direction).clamp(min=1e-20).sqrt())
    distance = near
    for _ in range(_STEPS):
        value, _ = field(kind, shape, origin + distance * direction)
        distance = torch.minimum(distance + pace * value.clamp(min=0.0), far)
    inside_at_once = field(kind, shape, origin + near * direction)[0] <= 0.0
    for _ in range(_POLISH):
        value, gradient = field(kind, shape, origin + distance * direction)
        slope = dot(gradient, direction)
        ahead = -value / torch.where(slope < -1e-6, slope, torch.full_like(slope, -torch.inf))
        distance = torch.where(inside_at_once, near, (distance + ahead).clamp(min=near, max=far))
    value, gradient = field(kind, shape, origin + distance * direction)
    return distance, inside_at_once | ((value < 1e-3) & (distance < far)), gradient
