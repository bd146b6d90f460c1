"""Where rays meet solids.

All simple solids are one: a quadric ``a (x^2 + y^2) + c z^2 + e z + f <= 0`` clipped by the cube [-1, 1]^3, in the
solid's own frame. A ray's stretch inside is the overlap of four intervals, without a branch; a box is the cube alone.

Rays come in G groups (a view, say) of N each; all rays of a group see the same K solids. Vectors are ``[3, G, N]``.
Few rays come near few solids. So every ray is held against the ball around every solid by two matrix products, and only
the P pairs that pass are worked on further, as flat lists.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.scenes.description import Geometry, Primitive
from lorasub.scenes.rendering.implicit import FIELDS, first_zero
from lorasub.scenes.rendering.vectors import Components, dot, normalize, rotate, rotate_back

#: Longer than any distance in a scene; what a ray that meets nothing returns.
FAR = 1e4
_TINY = 1e-12
# The nearest of K solids is found by one minimum over integers whose lowest bits are the solid's number.
_NUMBER_BITS = 7
MAX_SOLIDS = 1 << _NUMBER_BITS
# These fill no corner of their cube's top view.
_ROUND = tuple(int(kind) for kind in (Primitive.SPHERE, Primitive.CYLINDER, Primitive.CONE, Primitive.TORUS))
# Balls are a little too large, for what float32 loses in differences of squares.
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

    def places(self, pairs: Pairs) -> Tensor:
        """``[P]`` places in the flattened (G, K) of the solids of pairs."""
        return pairs.group * self.surface.shape[1] + pairs.number

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


@dataclass(frozen=True, slots=True)
class Pairs:
    """P pairs of a ray and a solid that it may meet.

    Attributes:
        group: ``[P]`` int64.
        ray: ``[P]`` int64.
        number: ``[P]`` int64, which solid of the group.
    """

    group: Tensor
    ray: Tensor
    number: Tensor

    def __len__(self) -> int:
        return len(self.group)

    def __getitem__(self, which: Tensor) -> Pairs:
        return Pairs(self.group[which], self.ray[which], self.number[which])

    def of_rays(self, values: Tensor) -> Tensor:
        """``[3, P]`` of ``values [3, G, N]``, or of ``[3, G, 1]`` where all rays of a group share one."""
        groups, many = values.shape[1:]
        place = self.group if many == 1 else self.group * many + self.ray
        return values.reshape(3, groups * many)[:, place]


def passes_near(ahead: Tensor, gap: Tensor) -> Tensor:
    """Whether rays pass through balls.

    Args:
        ahead: ``[G, K, N]`` how far along the ray the ball's middle is nearest.
        gap: ``[G, K, N]`` squared distance from the ray's start to the middle, less the squared radius.
    """
    return ahead.clamp(min=0.0).square() >= gap


def near_pairs(
    solids: Solids,
    origin: Tensor,
    direction: Tensor,
    *,
    limit: float | None = None,
    among: Tensor | None = None,
) -> Pairs:
    """Which rays come near which solids.

    Args:
        solids: the solids of the G groups.
        origin: ``[3, G, N]``, or ``[3, G, 1]`` if all rays of a group start in one point.
        direction: ``[3, G, N]``.
        limit: where rays end, in units of the direction; None for nowhere.
        among: ``[G, N]`` bool, the rays that matter.
    """
    radius = solids.radius * (1.0 + _SLACK) + _SLACK
    # a place that nothing hits is infinitely far from every ray
    power = torch.where(solids.radius < 0.0, torch.inf, dot(solids.center, solids.center) - radius * radius)
    length = dot(direction, direction).sqrt()
    way = direction / length
    one = torch.ones_like(solids.radius)
    # (c - o) . w, and |c - o|^2 - r^2, each as one matrix product over four or five components
    ahead = torch.bmm(torch.stack([*solids.center, one], dim=-1), torch.stack([*way, -dot(origin, way)], dim=1))
    start = torch.stack([*origin, dot(origin, origin)], dim=1)
    gap = torch.baddbmm(power[..., None], torch.stack([*(-2.0 * solids.center), one], dim=-1), start)
    near = passes_near(ahead, gap)
    if limit is not None:
        near &= ahead < limit * length[:, None] + radius[..., None]
    if among is not None:
        near &= among[:, None]
    group, number, ray = near.nonzero().unbind(1)
    return Pairs(group, ray, number)


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


def _intervals(solids: Solids, pairs: Pairs, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    place = solids.places(pairs)
    return interval(
        solids.quadric.flatten(-2)[:, place],
        solids.to_local.flatten(-2)[..., place],
        solids.center.flatten(-2)[:, place],
        pairs.of_rays(origin),
        pairs.of_rays(direction),
    )


def nearest_simple(solids: Solids, pairs: Pairs, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Distance ``[G, N]``, a little rounded, to the first simple solid that a ray enters, and its number ``[G, N]``.

    The distance is rounded down to 2^-16 of itself; :func:`hit` has the exact one. It is about :data:`FAR` if there is
    none.

    Args:
        solids: the solids of the G groups.
        pairs: of rays and simple solids.
        origin: ``[3, G, N or 1]``.
        direction: ``[3, G, N]``.
    """
    groups, rays = direction.shape[1:]
    entry, leave = _intervals(solids, pairs, origin, direction)
    distance = torch.where((entry <= leave) & (entry > 0.0), entry, FAR)
    # positive floats are ordered like the integers with the same bits
    mask = MAX_SOLIDS - 1
    coded = (distance.view(torch.int32) & ~mask) | pairs.number.to(torch.int32)
    nothing = torch.full((groups * rays,), FAR, device=distance.device).view(torch.int32) & ~mask
    best = nothing.scatter_reduce_(0, pairs.group * rays + pairs.ray, coded, "amin").reshape(groups, rays)
    return (best & ~mask).view(torch.float32), best & mask


def blocked_by_simple(solids: Solids, pairs: Pairs, origin: Tensor, direction: Tensor) -> Tensor:
    """Whether ``[G, N]`` any simple solid of the pairs lies between ``origin`` and ``origin + direction``."""
    entry, leave = _intervals(solids, pairs, origin, direction)
    among = pairs[(entry <= leave) & (leave > 0.0) & (entry < 1.0)]
    blocked = torch.zeros(direction.shape[1:], dtype=torch.bool, device=direction.device)
    blocked[among.group, among.ray] = True
    return blocked


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


def marched_hits(
    solids: Solids,
    pairs: Pairs,
    origin: Tensor,
    direction: Tensor,
    limit: float = FAR,
) -> MarchedHits:
    """All meetings, nearer than ``limit``, of rays with solids that have to be marched.

    Args:
        solids: the solids of the G groups.
        pairs: of rays and such solids.
        origin: ``[3, G, N]``, or ``[3, G, 1]`` if all rays of a group start in one point.
        direction: ``[3, G, N]``.
        limit: in units of the direction.
    """
    place = solids.places(pairs)
    matrix, center = solids.to_local.flatten(-2)[..., place], solids.center.flatten(-2)[:, place]
    start, along = rotate(matrix, pairs.of_rays(origin) - center), rotate(matrix, pairs.of_rays(direction))
    faces, backs = slab(start, along)
    near, far = faces.amax(0).clamp(min=0.0), backs.amin(0).clamp(max=limit)
    kind, shape = solids.kind.flatten()[place], solids.shape.flatten(-2)[:, place]
    distance, met = torch.zeros_like(near), torch.zeros_like(near, dtype=torch.bool)
    normal = torch.zeros_like(start)
    for name, field in FIELDS.items():
        (own,) = ((kind == name) & (near < far)).nonzero(as_tuple=True)
        pieces = shape[:, own], start[:, own], along[:, own]
        distance[own], met[own] = first_zero(name, *pieces, near[own], far[own])
        normal[:, own] = field.gradient(pieces[0], pieces[1] + distance[own] * pieces[2])
    # where the solid is entered through a face of its cube, the face's normal holds
    through_face = (distance <= near) & (near > 0.0)
    normal = torch.where(through_face, torch.where(faces >= near, -along.sign(), torch.zeros_like(along)), normal)
    hits = MarchedHits(
        pairs.group, pairs.ray, pairs.number, distance, normalize(rotate_back(matrix, normal)), start + distance * along
    )
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
