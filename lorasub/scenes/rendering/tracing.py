"""What a ray sees: the first surface, its paint, its light, and what lies behind it if it is clear."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.scenes.rendering.intersection import Solids, hit
from lorasub.scenes.rendering.kernels import BIAS, HORIZON, Paint, Surface, light_rays, meet, paint, shade
from lorasub.scenes.rendering.pairs import MarchedHits, blocked_by_simple, marched_hits, near_pairs, nearest_simple
from lorasub.scenes.rendering.vectors import dot, fresnel, normalize, reflect, refract
from lorasub.scenes.rendering.world import World

_MAX_BOUNCES = 3


@dataclass(frozen=True, slots=True)
class Look:
    """What rays have seen, for ``[G, N]`` rays.

    Attributes:
        linear: ``[3, G, N]`` linear RGB.
        depth: ``[G, N]`` distance in units of the direction.
        point: ``[3, G, N]``.
        normal: ``[3, G, N]``.
        albedo: ``[3, G, N]``.
        shading: ``[3, G, N]``.
        index: ``[G, N]`` surface.
        number: ``[G, N]`` solid, -1 for the room.
    """

    linear: Tensor
    depth: Tensor
    point: Tensor
    normal: Tensor
    albedo: Tensor
    shading: Tensor
    index: Tensor
    number: Tensor

    @classmethod
    def concatenate(cls, looks: list[Look]) -> Look:
        """Join along the rays."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: torch.cat([getattr(item, name) for item in looks], dim=-1) for name in names})


def look(
    world: World,
    origin: Tensor,
    direction: Tensor,
    pixel: Tensor,
    shadow_samples: int,
    bounces: int = 0,
) -> Look:
    """Follow rays ``origin [3, G, N or 1] + t direction [3, G, N]``; ``pixel [G]`` is a pixel's size at distance 1."""
    surface = _first_surface(world, origin, direction)
    where = (surface.depth, surface.normal, surface.place, surface.face, surface.index)
    coat = Paint(*paint(world, direction, pixel, *where))
    visible = _visible(world, surface, shadow_samples)
    shading, gloss = shade(world, direction, surface.point, surface.normal, coat.roughness, coat.specular, visible)
    upward = normalize(direction)[2].clamp(min=0.0)
    sky = world.horizon[..., None] + (world.zenith - world.horizon)[..., None] * upward.sqrt()
    linear = torch.where(surface.depth < HORIZON, coat.albedo * shading + gloss, 2.0 * sky)
    if world.clear and bounces < _MAX_BOUNCES:
        clear = (coat.refraction > 0.0) & (surface.depth < HORIZON)
        _see_through(world, direction, pixel, surface, coat, clear, gloss, linear, bounces)
    return Look(
        linear, surface.depth, surface.point, surface.normal, coat.albedo, shading, surface.index, surface.number
    )


def _first_surface(world: World, origin: Tensor, direction: Tensor) -> Surface:
    solids = world.solids
    pairs = near_pairs(solids, origin, direction)
    marched = solids.marched.flatten()[pairs.places(solids)]
    simple = pairs[~marched] if solids.any_marched else pairs
    far, number = nearest_simple(solids, simple, origin, direction)
    surface = Surface(*meet(world, origin, direction, far, number))
    if not solids.any_marched:
        return surface
    hits = marched_hits(solids, pairs[marched], origin, direction)
    flat = hits.group * surface.depth.shape[1] + hits.ray
    nearest = surface.depth.flatten().scatter_reduce(0, flat, hits.distance, "amin")
    return _overwrite(world.solids, surface, hits[hits.distance == nearest[flat]], origin, direction)


def _overwrite(solids: Solids, surface: Surface, hits: MarchedHits, origin: Tensor, direction: Tensor) -> Surface:
    """The surface with the marched solids' hits, one per ray, in it."""
    where = (hits.group, hits.ray)
    place = hits.group * solids.surface.shape[1] + hits.number
    depth, point, normal = surface.depth.clone(), surface.point.clone(), surface.normal.clone()
    local, face = surface.place.clone(), surface.face.clone()
    index, number = surface.index.clone(), surface.number.clone()
    depth[where] = hits.distance
    point[:, hits.group, hits.ray] = (
        origin.expand_as(direction)[:, hits.group, hits.ray] + hits.distance * direction[:, hits.group, hits.ray]
    )
    normal[:, hits.group, hits.ray] = hits.normal
    local[:, hits.group, hits.ray] = hits.point * solids.size.flatten(-2)[:, place]
    face[where] = hits.point.abs().argmax(0).to(torch.int32)
    index[where] = solids.surface.flatten()[place]
    number[where] = hits.number.to(torch.int32)
    return Surface(depth, point, normal, local, face, index, number)


def _visible(world: World, surface: Surface, shadow_samples: int) -> Tensor:
    """``[L, G, N]`` share of each light that a point sees; 1 where the point faces away and it does not matter."""
    shares = []
    casters = world.casters
    for light, soft in enumerate(world.soft):
        samples = shadow_samples if soft else 1
        _, middle = light_rays(world, light, 1, 0, surface.point, surface.normal)
        lit = (dot(surface.normal, middle) > 0.0) & (surface.depth < HORIZON)
        blocked = torch.zeros_like(surface.depth)
        for sample in range(samples):
            start, way = light_rays(world, light, samples, sample, surface.point, surface.normal)
            pairs = near_pairs(casters, start, way, limit=1.0, among=lit)
            marched = casters.marched.flatten()[pairs.places(casters)]
            simple = pairs[~marched] if casters.any_marched else pairs
            dark = blocked_by_simple(casters, simple, start, way)
            if casters.any_marched:
                hits = marched_hits(casters, pairs[marched], start, way, 1.0)
                dark[hits.group, hits.ray] = True
            blocked += dark
        shares.append(1.0 - blocked / samples)
    return torch.stack(shares)


def _see_through(
    world: World,
    direction: Tensor,
    pixel: Tensor,
    surface: Surface,
    coat: Paint,
    clear: Tensor,
    gloss: Tensor,
    linear: Tensor,
    bounces: int,
) -> None:
    """Replace ``linear`` where ``clear [G, N]`` is true by what clear solids reflect and let through."""
    few = Compact.of(clear)
    if few is None:
        return
    toward, normal = normalize(few.take(direction)), few.take(surface.normal)
    point, number = few.take(surface.point), few.take(surface.number).clamp(min=0)
    index = few.take(coat.refraction).clamp(min=1.0)
    bent, passes = refract(toward, normal, 1.0 / index)
    share = fresnel(-dot(toward, normal), 1.0 / index, passes)
    mirrored = look(world, point + BIAS * normal, reflect(toward, normal), pixel, 1, bounces=bounces + 1).linear
    start, out = _cross(world, point - BIAS * normal, bent, number, index)
    behind = look(world, start, out, pixel, 1, bounces=bounces + 1).linear
    mixed = share * mirrored + (1.0 - share) * few.take(coat.albedo) * behind + few.take(gloss)
    few.put(linear, mixed)


def _cross(world: World, start: Tensor, inside: Tensor, number: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays that have entered a simple solid leave it, and in which direction.

    Total reflection inside is followed a few times; light that is still caught then leaves as it is.
    """
    for _ in range(_MAX_BOUNCES):
        distance, normal, _ = hit(world.solids, number, start, inside, leaving=True)
        point = start + distance * inside
        out, passes = refract(inside, -normal, index)
        start = torch.where(passes, start, point - BIAS * normal)
        inside = torch.where(passes, inside, reflect(inside, normal))
    return point + BIAS * normal, torch.where(passes, out, inside)


@dataclass(frozen=True, slots=True)
class Compact:
    """A few of the rays of each group, packed to the front of shorter rows.

    Attributes:
        group: ``[P]`` of every packed ray.
        ray: ``[P]`` its place in the long row.
        rank: ``[P]`` its place in the short row.
        rays: ``[G, M]`` place in the long row of every place in the short one; 0 where nothing is packed.
    """

    group: Tensor
    ray: Tensor
    rank: Tensor
    rays: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> Compact | None:
        """Pack the rays where ``mask [G, N]`` is true; None if there are none."""
        group, ray = mask.nonzero().unbind(1)
        if not len(group):
            return None
        rank = (mask.cumsum(1) - 1)[group, ray]
        longest = -(-(int(rank.max()) + 1) // 64) * 64  # few different sizes
        rays = torch.zeros(mask.shape[0], longest, dtype=torch.int64, device=mask.device)
        rays[group, rank] = ray
        return cls(group, ray, rank, rays)

    def take(self, values: Tensor) -> Tensor:
        """``[..., G, M]`` of ``[..., G, N]``."""
        return values.gather(-1, self.rays.expand(*values.shape[:-1], -1))

    def put(self, values: Tensor, few: Tensor) -> None:
        """Write ``few [..., G, M]`` into ``values [..., G, N]``, in place."""
        values[..., self.group, self.ray] = few[..., self.group, self.rank]
