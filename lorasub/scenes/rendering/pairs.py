"""Which rays meet which solids.

Few rays come near few solids. So every ray is held against the ball around every solid by two matrix products, and only
the P pairs that pass are worked on further, as flat lists.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.scenes.rendering.implicit import FIELDS, first_zero
from lorasub.scenes.rendering.intersection import FAR, MAX_SOLIDS, Solids, interval, padded, slab
from lorasub.scenes.rendering.vectors import dot, normalize, rotate, rotate_back


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

    def places(self, solids: Solids) -> Tensor:
        """``[P]`` places of the solids in the flattened (G, K)."""
        return self.group * solids.surface.shape[1] + self.number

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
    radius = padded(solids.radius)
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


def _intervals(solids: Solids, pairs: Pairs, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    place = pairs.places(solids)
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
    place = pairs.places(solids)
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
