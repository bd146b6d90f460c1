"""Solids without a closed-form intersection: tori, superquadrics, bumpy spheres and height fields.

Each is the part of the cube [-1, 1]^3 where a field is negative. Rays walk through the cube toward the first zero, and
Newton's method does the rest. Only pairs of ray and solid that come close are walked, so the functions here work on
flat lists of P pairs: ``shape [4, P]`` (see :class:`~lorasub.scenes.description.Primitive`) and ``point [3, P]``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lorasub.scenes.description import Primitive
from lorasub.scenes.rendering.vectors import dot

_ROUNDS, _STEPS = 24, 4  # after each round, rays that have arrived or left are put aside
_POLISH = 3
_CLOSE = 1e-3


class Field(ABC):
    """A function of space, negative inside of a solid."""

    @abstractmethod
    def value(self, shape: Tensor, point: Tensor) -> Tensor:
        """``[P]``."""

    @abstractmethod
    def gradient(self, shape: Tensor, point: Tensor) -> Tensor:
        """``[3, P]``."""

    @abstractmethod
    def slope_bound(self, shape: Tensor) -> Tensor:
        """``[P]`` a bound on the gradient's length along any ray that has not yet hit."""

    def pace(self, shape: Tensor, origin: Tensor, direction: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
        """The field at ``distance`` and a step that cannot miss the next zero (sphere tracing, Hart 1996)."""
        value = self.value(shape, origin + distance * direction)
        return value, value / (self.slope_bound(shape) * dot(direction, direction).sqrt())


class Torus(Field):
    """A true distance; the frame is scaled so that the tube's top is z = 1, which has to be undone."""

    def value(self, shape: Tensor, point: Tensor) -> Tensor:
        """Distance to the circle in the tube's middle, less the tube's radius."""
        tube, z = shape[0], point[2] * shape[0]
        out = (point[0].square() + point[1].square()).sqrt() - (1.0 - tube)
        return (out.square() + z.square()).sqrt() - tube

    def gradient(self, shape: Tensor, point: Tensor) -> Tensor:
        """Away from the circle."""
        tube, z = shape[0], point[2] * shape[0]
        around = (point[0].square() + point[1].square() + 1e-12).sqrt()
        out = around - (1.0 - tube)
        distance = (out.square() + z.square() + 1e-12).sqrt()
        return torch.stack([out * point[0] / around, out * point[1] / around, z * tube]) / distance

    def slope_bound(self, shape: Tensor) -> Tensor:
        """1: the tube's frame is shrunk along z, never stretched."""
        return torch.ones_like(shape[0])


class Superquadric(Field):
    """The solid's gauge less 1 (Barr 1981): homogeneous, and convex because the exponents are at least 1."""

    def value(self, shape: Tensor, point: Tensor) -> Tensor:
        """How far the solid has to grow to reach the point, less 1."""
        east, north = 2.0 / shape[1], 2.0 / shape[0]
        size = point.abs().clamp(min=1e-6)
        scale = size.amax(0)  # keeps the powers in range
        x, y, z = (size / scale).unbind(0)
        total = (x.pow(east) + y.pow(east)).pow(north / east) + z.pow(north)
        return total.pow(1.0 / north) * scale - 1.0

    def gradient(self, shape: Tensor, point: Tensor) -> Tensor:
        """Of the gauge, by the chain rule."""
        east, north = 2.0 / shape[1], 2.0 / shape[0]
        size = point.abs().clamp(min=1e-6)
        x, y, z = (size / size.amax(0)).unbind(0)
        ring = x.pow(east) + y.pow(east)
        common = (ring.pow(north / east) + z.pow(north)).pow(1.0 / north - 1.0)
        side = common * ring.pow(north / east - 1.0)
        return torch.stack([side * x.pow(east - 1.0), side * y.pow(east - 1.0), common * z.pow(north - 1.0)]) * (
            point.sign()
        )

    def slope_bound(self, shape: Tensor) -> Tensor:
        """That of the octahedron, the sharpest of them."""
        return torch.full_like(shape[0], math.sqrt(3.0))

    def pace(self, shape: Tensor, origin: Tensor, direction: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's step: on a convex function it never passes the zero, and there is none where it points back."""
        point = origin + distance * direction
        value, slope = self.value(shape, point), dot(self.gradient(shape, point), direction)
        return value, torch.where(slope < 0.0, value / -slope, torch.inf)


class Blob(Field):
    """Distance from the middle less a radius that varies with the direction."""

    _TURNS = (1.0, 2.3, 3.7)

    def _angle(self, shape: Tensor, unit: Tensor) -> Tensor:
        return shape[1] * unit + torch.stack([turn * shape[2] for turn in self._TURNS])

    def value(self, shape: Tensor, point: Tensor) -> Tensor:
        """Height above the bumpy surface."""
        length = dot(point, point).clamp(min=1e-12).sqrt()
        return length - 1.0 + shape[0] - shape[0] / 3.0 * self._angle(shape, point / length).sin().sum(0)

    def gradient(self, shape: Tensor, point: Tensor) -> Tensor:
        """Outward, bent by the bumps."""
        length = dot(point, point).clamp(min=1e-12).sqrt()
        unit = point / length
        slope = shape[0] * shape[1] / 3.0 * self._angle(shape, unit).cos()
        return unit - (slope - dot(slope, unit) * unit) / length

    def slope_bound(self, shape: Tensor) -> Tensor:
        """1 and the bumps' slope (at most depth frequency / sqrt(3)) where the surface is nearest to the middle."""
        return 1.0 + shape[0] * shape[1] / (math.sqrt(3.0) * (1.0 - 2.0 * shape[0]).clamp(min=0.3))


class Terrain(Field):
    """Height above a wavy upper side."""

    def value(self, shape: Tensor, point: Tensor) -> Tensor:
        """Height above the surface."""
        x, y = shape[1] * point[0] + shape[2], shape[1] * point[1] + 2.3 * shape[2]
        return point[2] - 1.0 + shape[0] * (2.0 - x.sin() - y.cos())

    def gradient(self, shape: Tensor, point: Tensor) -> Tensor:
        """Up, bent by the waves."""
        x, y = shape[1] * point[0] + shape[2], shape[1] * point[1] + 2.3 * shape[2]
        steep = shape[0] * shape[1]
        return torch.stack([-steep * x.cos(), steep * y.sin(), torch.ones_like(x)])

    def slope_bound(self, shape: Tensor) -> Tensor:
        """Where both waves are steepest."""
        return (1.0 + 2.0 * (shape[0] * shape[1]).square()).sqrt()


FIELDS: dict[int, Field] = {
    int(Primitive.TORUS): Torus(),
    int(Primitive.SUPERQUADRIC): Superquadric(),
    int(Primitive.BLOB): Blob(),
    int(Primitive.TERRAIN): Terrain(),
}


def walk(
    kind: int, shape: Tensor, origin: Tensor, direction: Tensor, far: Tensor, distance: Tensor
) -> tuple[Tensor, Tensor]:
    """A few steps toward the first zero: the field and the distance after them, both ``[P]``."""
    field = FIELDS[kind]
    value = distance
    for _ in range(_STEPS):
        value, step = field.pace(shape, origin, direction, distance)
        distance = torch.where(value > 0.0, torch.minimum(distance + step, far), distance)
    return value, distance


def first_zero(
    kind: int, shape: Tensor, origin: Tensor, direction: Tensor, near: Tensor, far: Tensor
) -> tuple[Tensor, Tensor]:
    """Where rays first meet the field's zero.

    Args:
        kind: which field.
        shape: ``[4, P]``.
        origin: ``[3, P]`` in the solid's frame.
        direction: ``[3, P]`` in the solid's frame, of any length.
        near: ``[P]`` where the ray enters the cube, or starts.
        far: ``[P]`` where it leaves.

    Returns:
        distance ``[P]`` in units of the direction, and whether there is a zero ``[P]``. A ray that enters the cube
        inside of the solid has hit at ``near``.
    """
    field = FIELDS[kind]
    distance = near.clone()
    arrived = field.value(shape, origin + near * direction) <= 0.0
    (live,) = (~arrived).nonzero(as_tuple=True)
    for _ in range(_ROUNDS):
        if not len(live):
            break
        end = far[live]
        value, here = walk(kind, shape[:, live], origin[:, live], direction[:, live], end, distance[live])
        distance[live] = here
        close = (value < _CLOSE) & (here < end)
        arrived[live] = close
        live = live[~close & (here < end)]
    (live,) = arrived.nonzero(as_tuple=True)
    here, some, start, along = distance[live], shape[:, live], origin[:, live], direction[:, live]
    for _ in range(_POLISH):
        point = start + here * along
        value, slope = field.value(some, point), dot(field.gradient(some, point), along)
        better = torch.where(slope < -1e-6, here - value / slope, here)
        here = torch.where(here > near[live], torch.minimum(torch.maximum(better, near[live]), far[live]), here)
    distance[live] = here
    return distance, arrived
