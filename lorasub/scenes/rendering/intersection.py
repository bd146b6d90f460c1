"""Where rays meet solids.

All simple solids are one: a quadric ``a (x^2 + y^2) + c z^2 + e z + f <= 0`` clipped by the cube [-1, 1]^3, in the
solid's own frame. A ray's stretch inside is the overlap of four intervals, without a branch; a box is the cube alone.

Rays come in G groups (a view, say) of N each; all rays of a group see the same K solids. Vectors are ``[3, G, N]``.
Which rays come near which solids is found in :mod:`lorasub.scenes.rendering.pairs`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.scenes.description import Geometry, Primitive
from lorasub.scenes.rendering.implicit import FIELDS
from lorasub.scenes.rendering.vectors import Components, normalize, rotate, rotate_back

#: Longer than any distance in a scene; what a ray that meets nothing returns.
FAR = 1e4
_TINY = 1e-12
# The nearest of K solids is found by one minimum over integers whose lowest bits are the solid's number.
_NUMBER_BITS = 7
MAX_SOLIDS = 1 << _NUMBER_BITS
# These fill no corner of their cube's top view.
_ROUND = tuple(int(kind) for kind in (Primitive.SPHERE, Primitive.CYLINDER, Primitive.CONE, Primitive.TORUS))
_SLACK = 1e-2


@dataclass(frozen=True, slots=True)
class Solids:
    """The solids of G groups of rays, prepared for intersection.

    Attributes:
        center: ``[3, G, K]``.
        to_local: ``[3, 3, G, K]`` world to the solid's unit frame, row by row.
        quadric: ``[4, G, K]`` a, c, e and f. f is positive for a place that nothing hits: an unused one, or that of a
            marched solid.
        surface: ``[G, K]`` int32.
        size: ``[3, G, K]`` half extents.
        radius: ``[G, K]`` of a ball around each; negative for a place that nothing hits.
        kind: ``[G, K]`` int32.
        shape: ``[4, G, K]``.
        marched: ``[G, K]`` bool, solids without a closed form.
        any_marched: whether there is one.
    """

    center: Tensor
    to_local: Tensor
    quadric: Tensor
    surface: Tensor
    size: Tensor
    radius: Tensor
    kind: Tensor
    shape: Tensor
    marched: Tensor
    any_marched: bool

    @classmethod
    def prepare(cls, geometry: Geometry, repeats: int) -> Solids:
        """Prepare the solids of B scenes for ``repeats`` groups of rays per scene."""
        used = (geometry.kind != int(Primitive.NONE)).any(0).nonzero()
        many = int(used.max()) + 1 if used.numel() else 1
        if many > MAX_SOLIDS:
            raise ValueError(f"{many} primitives in a scene; {MAX_SOLIDS} is the most")
        many = min(-(-many // 4) * 4, geometry.kind.shape[1])  # few different sizes, few recompilations
        kind, shape, size = geometry.kind[:, :many], geometry.shape[:, :many], geometry.size[:, :many]
        inverse = geometry.rotation[:, :many].mT / size[..., None]

        def groups(values: Tensor, *front: int) -> Tensor:
            return values.repeat_interleave(repeats, dim=0).permute(*front, 0, 1).contiguous()

        kinds = groups(kind)
        marched = torch.isin(kinds, torch.tensor(tuple(FIELDS), device=kinds.device))
        return cls(
            center=groups(geometry.center[:, :many], 2),
            to_local=groups(inverse, 2, 3),
            quadric=groups(quadrics(kind, shape[..., 0]), 2),
            surface=groups(geometry.surface[:, :many]),
            size=groups(size, 2),
            radius=groups(ball(kind, size)),
            kind=kinds,
            shape=groups(shape, 2),
            marched=marched,
            any_marched=bool(marched.any()),
        )

    def pick(self, number: Tensor) -> Tensor:
        """``[G, N]`` places in the flattened (G, K) of solids with these numbers ``[G, N]``."""
        groups, many = self.surface.shape
        return number.long() + many * torch.arange(groups, device=number.device)[:, None]

    def without(self, surfaces: Tensor) -> Solids:
        """The same solids, but those of surfaces where ``surfaces [G, M]`` is true cannot be hit."""
        gone = surfaces.gather(1, self.surface.long())
        return dataclasses.replace(self, radius=torch.where(gone, -1.0, self.radius))


def ball(kind: Tensor, size: Tensor) -> Tensor:
    """``[B, K]``: the radius of a ball around each solid."""
    round_side = torch.hypot(size[..., :2].amax(-1), size[..., 2])
    radius = torch.where(torch.isin(kind, torch.tensor(_ROUND, device=kind.device)), round_side, size.norm(dim=-1))
    radius = torch.where(kind == int(Primitive.SPHERE), size.amax(-1), radius)
    return torch.where(kind == int(Primitive.NONE), -1.0, radius)


def padded(radius: Tensor) -> Tensor:
    """Radii of balls that are a little too large, for what float32 loses in differences of squares."""
    return radius * (1.0 + _SLACK) + _SLACK


def quadrics(kind: Tensor, top: Tensor) -> Tensor:
    """``[B, K, 4]``: a, c, e and f of the quadric that belongs to each kind."""
    middle, slope = 0.5 * (1.0 + top), 0.5 * (1.0 - top)  # a cone's radius is middle - slope z
    zero, one = torch.zeros_like(top), torch.ones_like(top)
    nothing = (zero, zero, zero, one)
    rows = {
        Primitive.SPHERE: (one, one, zero, -one),
        Primitive.BOX: (zero, zero, zero, -one),
        Primitive.CYLINDER: (one, zero, zero, -one),
        Primitive.CONE: (one, -slope * slope, 2.0 * middle * slope, -middle * middle),
    }
    result = torch.stack(nothing, dim=-1)
    for name, row in rows.items():
        result = torch.where((kind == int(name))[..., None], torch.stack(row, dim=-1), result)
    return result


def slab(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit of a slab from -1 to 1, for one component of rays."""
    inverse = 1.0 / torch.where(direction.abs() < _TINY, _TINY, direction)
    middle, half = -origin * inverse, inverse.abs()
    return middle - half, middle + half


def quadric_interval(quadric: Tensor, origin: Components, direction: Components, near: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit of the quadric, given where the cube is entered. Empty where entry > exit.

    Where the leading coefficient is negative (some rays against a cone) the inside is what lies *outside* of the two
    roots; since the clipped cone is convex, only one of these halves can meet the cube's interval.
    """
    a, c, e, f = quadric.unbind(0)
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    second = a * (dx * dx + dy * dy) + c * dz * dz
    second = torch.where(second.abs() < _TINY, _TINY, second)
    first = a * (ox * dx + oy * dy) + c * oz * dz + 0.5 * e * dz  # half the linear coefficient
    zeroth = a * (ox * ox + oy * oy) + c * oz * oz + e * oz + f
    discriminant = first * first - second * zeroth
    # the root of larger magnitude by addition, the other by Vieta: no cancellation
    root = discriminant.clamp(min=0.0).sqrt()
    larger = -(first + torch.copysign(root, first))
    one = larger / second
    two = torch.where(larger == 0.0, one, zeroth / larger)
    low, high = torch.minimum(one, two), torch.maximum(one, two)
    inverted, real = second < 0.0, discriminant > 0.0
    before = near < low  # the half before the roots
    entry = torch.where(inverted, torch.where(before, -FAR, high), low)
    leave = torch.where(inverted, torch.where(before, low, FAR), high)
    none = torch.where(inverted, -FAR, FAR)  # no roots: all inside if inverted, else nothing
    return torch.where(real, entry, none), torch.where(real, leave, -none)


def interval(
    quadric: Tensor, matrix: Tensor, center: Tensor, origin: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor]:
    """Entry and exit ``[P]`` of P rays in as many simple solids; empty where entry > exit.

    Args:
        quadric: ``[4, P]``.
        matrix: ``[3, 3, P]`` world to the unit frame.
        center: ``[3, P]``.
        origin: ``[3, P]``.
        direction: ``[3, P]``. Distances are in units of its length.
    """
    start, along = rotate(matrix, origin - center), rotate(matrix, direction)
    near, far = slab(start, along)
    (x, y, z), (u, v, w) = start.unbind(0), along.unbind(0)
    entered, left = near.amax(0), far.amin(0)
    entry, leave = quadric_interval(quadric, (x, y, z), (u, v, w), entered)
    return torch.maximum(entry, entered), torch.minimum(leave, left)


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


def hit(
    solids: Solids, number: Tensor, origin: Tensor, direction: Tensor, leaving: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The exact meeting of each ray with one simple solid that it is known to meet.

    Args:
        solids: the solids of the G groups.
        number: ``[G, N]`` which solid.
        origin: ``[3, G, N or 1]``.
        direction: ``[3, G, N]``.
        leaving: where the ray leaves the solid instead of where it enters.

    Returns:
        distance ``[G, N]``, unit outward normal ``[3, G, N]`` in the world, and the point ``[3, G, N]`` in the solid's
        unit frame.
    """
    place = solids.pick(number)
    matrix, quadric = solids.to_local.flatten(-2)[..., place], solids.quadric.flatten(-2)[..., place]
    start = rotate(matrix, origin - solids.center.flatten(-2)[..., place])
    along = rotate(matrix, direction)
    near, far = slab(start, along)
    (x, y, z), (u, v, w) = start.unbind(0), along.unbind(0)
    entry, leave = quadric_interval(quadric, (x, y, z), (u, v, w), near.amax(0))
    if leaving:
        clip, distance = far.amin(0), torch.minimum(leave, far.amin(0))
        by_face, on_face, outward = clip <= leave, far <= distance, along.sign()
    else:
        clip, distance = near.amax(0), torch.maximum(entry, near.amax(0))
        by_face, on_face, outward = clip >= entry, near >= distance, -along.sign()
    point = start + distance * along
    a, c, e = quadric[0], quadric[1], quadric[2]
    gradient = torch.stack([a * point[0], a * point[1], c * point[2] + 0.5 * e])
    face = torch.where(on_face, outward, torch.zeros_like(along))
    # normals transform with the transposed inverse; to_local is the inverse already
    return distance, normalize(rotate_back(matrix, torch.where(by_face, face, gradient))), point
