"""Where rays meet solids.

All simple solids are one: a quadric ``a (x^2 + y^2) + c z^2 + e z + f <= 0`` clipped by the cube [-1, 1]^3, in the
solid's own frame. A ray's stretch inside is the overlap of four intervals, without a branch; a box is the cube alone.

Rays come in G groups (a view, say) of N each; all rays of a group see the same K solids. Vectors are ``[3, G, N]``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.scenes.description import Geometry, Primitive
from lorasub.scenes.rendering.implicit import FIELDS, Walk, first_zero, walk
from lorasub.scenes.rendering.vectors import Components, dot, normalize, rotate, rotate_back, rotate_rows

#: Longer than any distance in a scene; what a ray that meets nothing returns.
FAR = 1e4
_TINY = 1e-12
# The nearest of K solids is found by one minimum over integers whose lowest bits are the solid's number.
_NUMBER_BITS = 7
MAX_SOLIDS = 1 << _NUMBER_BITS


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
        radius: ``[G, K]`` of a ball around each.
        kind: ``[G, K]`` int32.
        shape: ``[4, G, K]``.
        marched: ``[2, I]`` int64, group and place of every solid that has to be marched.
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
        return cls(
            center=groups(geometry.center[:, :many], 2),
            to_local=groups(inverse, 2, 3),
            quadric=groups(_quadrics(kind, shape[..., 0]), 2),
            surface=groups(geometry.surface[:, :many]),
            size=groups(size, 2),
            radius=groups(size.norm(dim=-1)),
            kind=kinds,
            shape=groups(shape, 2),
            marched=torch.isin(kinds, torch.tensor(tuple(FIELDS), device=kinds.device)).nonzero().T.contiguous(),
        )

    def pick(self, number: Tensor) -> Tensor:
        """``[G, N]`` places in the flattened (G, K) of solids with these numbers ``[G, N]``."""
        groups, many = self.surface.shape
        return number.long() + many * torch.arange(groups, device=number.device)[:, None]

    def without(self, surfaces: Tensor) -> Solids:
        """The same solids, but those of surfaces where ``surfaces [G, M]`` is true cannot be hit."""
        gone = surfaces.gather(1, self.surface.long())
        nothing = self.quadric.new_tensor([0.0, 0.0, 0.0, 1.0])[:, None, None]
        stays = ~gone[self.marched[0], self.marched[1]]
        return dataclasses.replace(
            self, quadric=torch.where(gone, nothing, self.quadric), marched=self.marched[:, stays]
        )


def _quadrics(kind: Tensor, top: Tensor) -> Tensor:
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


def stretch(solids: Solids, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit ``[G, K, N]`` of rays in every simple solid; empty where entry > exit.

    Args:
        solids: the solids of the G groups.
        origin: ``[3, G, N]``, or ``[3, G, 1]`` if all rays of a group start in one point.
        direction: ``[3, G, N]``, or ``[3, G, 1]`` if they are parallel. Distances are in units of its length.
    """
    matrix = solids.to_local[..., None]
    start = rotate_rows(matrix, origin[:, :, None] - solids.center[..., None])
    along = rotate_rows(matrix, direction[:, :, None])
    (x0, x1), (y0, y1), (z0, z1) = (slab(o, d) for o, d in zip(start, along, strict=True))
    near, far = torch.maximum(torch.maximum(x0, y0), z0), torch.minimum(torch.minimum(x1, y1), z1)
    entry, leave = quadric_interval(solids.quadric[..., None], start, along, near)
    return torch.maximum(entry, near), torch.minimum(leave, far)


def nearest_simple(solids: Solids, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Distance ``[G, N]``, a little rounded, to the first simple solid that a ray enters, and its number ``[G, N]``.

    The distance is rounded down to 2^-16 of itself; :func:`hit` has the exact one. It is about :data:`FAR` if there is
    none.
    """
    entry, leave = stretch(solids, origin, direction)
    distance = torch.where((entry <= leave) & (entry > 0.0), entry, FAR)
    number = torch.arange(distance.shape[1], dtype=torch.int32, device=distance.device)[:, None]
    # positive floats are ordered like the integers with the same bits
    mask = MAX_SOLIDS - 1
    best = ((distance.view(torch.int32) & ~mask) | number).amin(1)
    return (best & ~mask).view(torch.float32), best & mask


def blocked_by_simple(solids: Solids, origin: Tensor, direction: Tensor) -> Tensor:
    """Whether ``[G, N]`` any simple solid lies between ``origin`` and ``origin + direction``."""
    entry, leave = stretch(solids, origin, direction)
    return ((entry <= leave) & (leave > 0.0) & (entry < 1.0)).any(1)


@dataclass(frozen=True, slots=True)
class MarchedHits:
    """Pairs of ray and marched solid that meet: P of them.

    Attributes:
        group: ``[P]`` int64.
        ray: ``[P]`` int64.
        number: ``[P]`` int64 which solid.
        distance: ``[P]``.
        normal: ``[3, P]`` unit, in the world.
        point: ``[3, P]`` in the solid's unit frame.
    """

    group: Tensor
    ray: Tensor
    number: Tensor
    distance: Tensor
    normal: Tensor
    point: Tensor

    def __getitem__(self, mask: Tensor) -> MarchedHits:
        return MarchedHits(*(getattr(self, field.name)[..., mask] for field in dataclasses.fields(self)))


def passes_near(solids: Solids, origin: Tensor, direction: Tensor, limit: float) -> Tensor:
    """Whether ``[I, N]`` rays pass the ball around each solid that has to be marched, before ``limit``."""
    group, number = solids.marched
    place = group * solids.surface.shape[1] + number
    offset = solids.center.flatten(-2)[:, place, None] - origin[:, group]
    way = direction[:, group]
    radius = solids.radius.flatten()[place, None]
    ahead, square = dot(offset, way), dot(way, way)
    reach = radius * square.sqrt()
    near = ahead * ahead >= square * (dot(offset, offset) - radius * radius)
    return near & (ahead > -reach) & (ahead - reach < limit * square)


def marched_hits(
    solids: Solids,
    origin: Tensor,
    direction: Tensor,
    limit: float = FAR,
    *,
    near_test: Callable[..., Tensor] = passes_near,
    walk: Walk = walk,
) -> MarchedHits:
    """All meetings, nearer than ``limit``, of rays with solids that have to be marched.

    Args:
        solids: the solids of the G groups.
        origin: ``[3, G, N]``, or ``[3, G, 1]`` if all rays of a group start in one point.
        direction: ``[3, G, N]``.
        limit: in units of the direction.
        near_test: :func:`passes_near`, or the same compiled.
        walk: :func:`~lorasub.scenes.rendering.implicit.walk`, or the same compiled.
    """
    which, ray = near_test(solids, origin, direction, limit).nonzero().unbind(1)
    group, number = solids.marched[:, which]
    place = group * solids.surface.shape[1] + number
    matrix, center = solids.to_local.flatten(-2)[..., place], solids.center.flatten(-2)[:, place]
    start = rotate(matrix, origin.expand_as(direction)[:, group, ray] - center)
    along = rotate(matrix, direction[:, group, ray])
    faces, backs = slab(start, along)
    near, far = faces.amax(0).clamp(min=0.0), backs.amin(0).clamp(max=limit)
    kind, shape = solids.kind.flatten()[place], solids.shape.flatten(-2)[:, place]
    distance, met = torch.zeros_like(near), torch.zeros_like(near, dtype=torch.bool)
    normal = torch.zeros_like(start)
    for name, field in FIELDS.items():
        (own,) = ((kind == name) & (near < far)).nonzero(as_tuple=True)
        pieces = shape[:, own], start[:, own], along[:, own]
        distance[own], met[own] = first_zero(name, *pieces, near[own], far[own], walk)
        normal[:, own] = field.gradient(pieces[0], pieces[1] + distance[own] * pieces[2])
    # where the solid is entered through a face of its cube, the face's normal holds
    through_face = (distance <= near) & (near > 0.0)
    normal = torch.where(through_face, torch.where(faces >= near, -along.sign(), torch.zeros_like(along)), normal)
    hits = MarchedHits(group, ray, number, distance, normalize(rotate_back(matrix, normal)), start + distance * along)
    return hits[met & (distance > 0.0) & (distance < limit)]


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
