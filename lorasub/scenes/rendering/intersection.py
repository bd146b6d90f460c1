"""Where rays meet solids.

All simple solids are one: a quadric ``a (x^2 + y^2) + c z^2 + e z + f <= 0`` clipped by the cube [-1, 1]^3, in the
solid's own frame. A ray's stretch inside is the overlap of four intervals, without a branch; a box is the cube alone.

Layout, for speed: vectors lead with their three components, ``[3, G, N]`` for N rays in each of G groups (a group is a
view), so that a component is a contiguous block and a dot product fuses into its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.scenes.description import Geometry, Primitive

#: Longer than any distance in a scene; what a ray that meets nothing returns.
FAR = 1e4
_TINY = 1e-12
# The nearest of K solids is found by one minimum over integers whose lowest bits are the solid's number.
_NUMBER_BITS = 7


@dataclass(frozen=True, slots=True)
class Solids:
    """The solids of G groups of rays, prepared for intersection.

    Attributes:
        center: ``[3, G, K]``.
        to_local: ``[3, 3, G, K]`` world to the solid's unit frame, row by row.
        quadric: ``[4, G, K]`` a, c, e and f; f is positive for a place that is not used, which nothing hits.
        surface: ``[G, K]`` int32.
    """

    center: Tensor
    to_local: Tensor
    quadric: Tensor
    surface: Tensor

    @classmethod
    def prepare(cls, geometry: Geometry, repeats: int) -> Solids:
        """Prepare the solids of B scenes for ``repeats`` groups of rays per scene."""
        used = (geometry.kind != Primitive.NONE).any(0).nonzero()
        many = max(int(used.max()) + 1 if used.numel() else 1, 1)
        if many > 1 << _NUMBER_BITS:
            raise ValueError(f"{many} primitives in a scene; {1 << _NUMBER_BITS} is the most")
        many = min(-(-many // 4) * 4, geometry.kind.shape[1])  # few different sizes, few recompilations
        kind = geometry.kind[:, :many]
        inverse = geometry.rotation[:, :many].mT / geometry.size[:, :many, :, None]

        def groups(values: Tensor, *front: int) -> Tensor:
            return values.repeat_interleave(repeats, dim=0).permute(*front, 0, 1).contiguous()

        return cls(
            center=groups(geometry.center[:, :many], 2),
            to_local=groups(inverse, 2, 3),
            quadric=groups(_quadrics(kind, geometry.shape[:, :many, 0]), 2),
            surface=groups(geometry.surface[:, :many]),
        )


def _quadrics(kind: Tensor, top: Tensor) -> Tensor:
    """``[B, K, 4]``: a, c, e and f of the quadric that belongs to each kind."""
    middle, slope = 0.5 * (1.0 + top), 0.5 * (1.0 - top)  # a cone's radius is middle - slope z
    zero, one = torch.zeros_like(top), torch.ones_like(top)
    rows = {
        Primitive.NONE: (zero, zero, zero, one),
        Primitive.SPHERE: (one, one, zero, -one),
        Primitive.BOX: (zero, zero, zero, -one),
        Primitive.CYLINDER: (one, zero, zero, -one),
        Primitive.CONE: (one, -slope * slope, 2.0 * middle * slope, -middle * middle),
    }
    result = torch.stack(rows[Primitive.NONE], dim=-1)
    for name, row in rows.items():
        result = torch.where((kind == name)[..., None], torch.stack(row, dim=-1), result)
    return result


def rotate(matrix: Tensor, vector: Tensor) -> Tensor:
    """``matrix [3, 3, ...] @ vector [3, ...]`` as plain products, which fuse; a batched matrix product would not."""
    return matrix[:, 0] * vector[0] + matrix[:, 1] * vector[1] + matrix[:, 2] * vector[2]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Dot product over the leading axis."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def normalize(vector: Tensor) -> Tensor:
    """Unit length over the leading axis."""
    return vector * torch.rsqrt(dot(vector, vector).clamp(min=1e-20))


def slabs(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit ``[3, ...]`` of the three slabs |x| <= 1, |y| <= 1, |z| <= 1."""
    safe = torch.where(direction.abs() < _TINY, _TINY, direction)
    inverse = 1.0 / safe
    middle, half = -origin * inverse, inverse.abs()
    return middle - half, middle + half


def quadric_interval(
    quadric: Tensor, origin: Tensor, direction: Tensor, near: Tensor, far: Tensor
) -> tuple[Tensor, Tensor]:
    """Entry and exit of the quadric, given those of the slabs. Empty where entry > exit.

    Where the leading coefficient is negative (some rays against a cone) the inside is what lies *outside* of the two
    roots; since the clipped cone is convex, only one of these halves can meet the slabs' interval.
    """
    a, c, e, f = quadric[0], quadric[1], quadric[2], quadric[3]
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    second = a * (dx * dx + dy * dy) + c * dz * dz
    second = torch.where(second.abs() < _TINY, _TINY, second)
    first = a * (ox * dx + oy * dy) + c * oz * dz + 0.5 * e * dz  # half the linear coefficient
    zeroth = a * (ox * ox + oy * oy) + c * oz * oz + e * oz + f
    discriminant = first * first - second * zeroth
    # the root of larger magnitude by addition, the other by Vieta: no cancellation
    root = discriminant.clamp(min=0.0).sqrt()
    larger = -(first + torch.where(first < 0.0, -root, root))
    larger = torch.where(larger.abs() < 1e-30, 1e-30, larger)
    one, two = larger / second, zeroth / larger
    low, high = torch.minimum(one, two), torch.maximum(one, two)
    inverted, real = second < 0.0, discriminant > 0.0
    before = inverted & (near < low)  # the half before the roots
    entry = torch.where(inverted, torch.where(before, -FAR, high), low)
    leave = torch.where(inverted & ~before, FAR, torch.where(before, low, high))
    entry = torch.where(real, entry, torch.where(inverted, -FAR, FAR))
    leave = torch.where(real, leave, torch.where(inverted, FAR, -FAR))
    return entry, leave


def stretch(solids: Solids, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit ``[G, K, N]`` of rays in every solid; empty where entry > exit.

    Args:
        solids: the solids of the G groups.
        origin: ``[3, G, N]``, or ``[3, G, 1]`` if all rays of a group start in one point.
        direction: ``[3, G, N]``, or ``[3, G, 1]`` if they are parallel. Lengths are in units of it.
    """
    matrix = solids.to_local[..., None]
    start = rotate(matrix, origin[:, :, None] - solids.center[..., None])
    along = rotate(matrix, direction[:, :, None])
    near, far = slabs(start, along)
    near, far = near.amax(0), far.amin(0)
    entry, leave = quadric_interval(solids.quadric[..., None], start, along, near, far)
    return torch.maximum(entry, near), torch.minimum(leave, far)


def nearest(solids: Solids, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Distance ``[G, N]``, a little rounded, to the first solid that a ray enters, and its number ``[G, N]`` int32.

    The distance is rounded to 2^-16 of itself; :func:`hit` has the exact one. It is :data:`FAR` if there is none.
    """
    entry, leave = stretch(solids, origin, direction)
    distance = torch.where((entry <= leave) & (entry > 0.0), entry, FAR)
    number = torch.arange(distance.shape[1], dtype=torch.int32, device=distance.device)[:, None]
    # positive floats are ordered like the integers with the same bits
    mask = (1 << _NUMBER_BITS) - 1
    best = ((distance.view(torch.int32) & ~mask) | number).amin(1)
    return (best & ~mask).view(torch.float32), best & mask


def occluded(solids: Solids, origin: Tensor, direction: Tensor, limit: float) -> Tensor:
    """Whether ``[G, N]`` any solid is met at a distance in (0, limit), in units of the direction's length."""
    entry, leave = stretch(solids, origin, direction)
    return ((entry <= leave) & (leave > 0.0) & (entry < limit)).any(1)


def room_exit(room: Tensor, open_air: Tensor, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Distance ``[G, N]`` to the room as seen from inside, and which side ``[G, N]`` int32: axis 0, 1 or 2.

    Args:
        room: ``[3, G]`` half width, half depth, height.
        open_air: ``[G]`` bool: there is only the floor.
        origin: ``[3, G, N or 1]``.
        direction: ``[3, G, N]``.
    """
    size = room[..., None]
    safe = torch.where(direction.abs() < _TINY, _TINY, direction)
    up = safe > 0.0
    wall_x = torch.where(up[0], size[0], -size[0])
    wall_y = torch.where(up[1], size[1], -size[1])
    wall_z = torch.where(up[2], size[2], torch.zeros_like(size[2]))
    x, y, z = (wall_x - origin[0]) / safe[0], (wall_y - origin[1]) / safe[1], (wall_z - origin[2]) / safe[2]
    sky = open_air[:, None]
    x, y = torch.where(sky, FAR, x), torch.where(sky, FAR, y)
    z = torch.where(sky & up[2], FAR, z)
    distance = torch.minimum(torch.minimum(x, y), z)
    side = torch.where(distance == z, 2, torch.where(distance == y, 1, 0))
    return distance, side.to(torch.int32)


def hit(solids: Solids, number: Tensor, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The exact meeting of each ray with one solid that it is known to meet.

    Args:
        solids: the solids of the G groups.
        number: ``[G, N]`` which solid.
        origin: ``[3, G, N or 1]``.
        direction: ``[3, G, N]``.

    Returns:
        distance ``[G, N]``, unit outward normal ``[3, G, N]`` in the world, and the point ``[3, G, N]`` in the solid's
        unit frame.
    """
    groups, many = solids.surface.shape
    flat = number.long() + many * torch.arange(groups, device=number.device)[:, None]

    def pick(values: Tensor) -> Tensor:
        return values.flatten(-2)[..., flat]

    matrix, quadric = pick(solids.to_local), pick(solids.quadric)
    start = rotate(matrix, origin - pick(solids.center))
    along = rotate(matrix, direction)
    near, far = slabs(start, along)
    clip = near.amax(0)
    entry, _ = quadric_interval(quadric, start, along, clip, far.amin(0))
    distance = torch.maximum(entry, clip)
    point = start + distance * along
    on_side = near >= torch.maximum(entry, clip)  # [3, G, N] which slab is entered last, if it is a slab
    a, c, e = quadric[0], quadric[1], quadric[2]
    gradient = torch.stack([a * point[0], a * point[1], c * point[2] + 0.5 * e])
    flat_side = torch.where(on_side, -along.sign(), 0.0)
    local = torch.where(clip >= entry, flat_side, gradient)
    # normals transform with the transposed inverse; to_local is the inverse already
    world = matrix[0] * local[0] + matrix[1] * local[1] + matrix[2] * local[2]
    return distance, normalize(world), point
