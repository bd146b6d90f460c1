"""The renderer's inner loops as pure functions of tensors, eager or compiled.

A few functions do nearly all the work. Compiled, each becomes a few fused loops without large intermediate tensors;
they are kept apart because one large function takes minutes to compile.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorasub.scenes.description import CEILING, FLOOR, WALLS, LightKind
from lorasub.scenes.rendering.implicit import Walk, walk
from lorasub.scenes.rendering.intersection import (
    FAR,
    MarchedHits,
    Solids,
    blocked_by_simple,
    hit,
    marched_hits,
    nearest_simple,
    passes_near,
    room_exit,
)
from lorasub.scenes.rendering.textures import hash_lattice, pattern_weights, unit
from lorasub.scenes.rendering.vectors import dot, normalize
from lorasub.scenes.rendering.world import World

_logger = logging.getLogger(__name__)
#: Open ground ends here, in world units.
HORIZON = 60.0
#: Rays that leave a surface start this far from it.
BIAS = 2e-3
_DIRECTIONAL = int(LightKind.DIRECTIONAL)
_SUN_DISTANCE = 20.0


@dataclass(frozen=True, slots=True)
class Surface:
    """What rays have met, for ``[G, N]`` rays.

    Attributes:
        depth: distance in units of the ray's direction, :data:`FAR` if nothing was met.
        point: ``[3, G, N]`` in the world.
        normal: ``[3, G, N]`` unit, in the world.
        place: ``[3, G, N]`` the point in the object's own axes, world units: what a texture hangs on.
        index: int32 material.
        number: int32 solid, -1 for the room.
    """

    depth: Tensor
    point: Tensor
    normal: Tensor
    place: Tensor
    index: Tensor
    number: Tensor


@dataclass(frozen=True, slots=True)
class Paint:
    """What surfaces look like, for ``[G, N]`` points.

    Attributes:
        albedo: ``[3, G, N]`` linear RGB.
        roughness: ``[G, N]``.
        specular: ``[G, N]``.
        refraction: ``[G, N]`` refractive index, 0 where opaque.
    """

    albedo: Tensor
    roughness: Tensor
    specular: Tensor
    refraction: Tensor


def meet(world: World, origin: Tensor, direction: Tensor, far: Tensor, number: Tensor) -> tuple[Tensor, ...]:
    """The fields of :class:`Surface` for simple solids and the room, given what :func:`nearest_simple` found."""
    solids = world.solids
    wall, side = room_exit(world.room, world.open, origin, direction)
    wall = torch.where(wall > HORIZON, FAR, wall)
    is_solid = far < wall
    depth, normal, local = hit(solids, number, origin, direction)
    axis = torch.arange(3, device=side.device)[:, None, None]
    wall_normal = torch.where(axis == side, -direction.sign(), torch.zeros_like(direction))
    depth = torch.where(is_solid, depth, wall)
    point = origin + depth.clamp(max=HORIZON) * direction
    place = solids.pick(number)
    of_solid, size = solids.surface.flatten()[place], solids.size.flatten(-2)[:, place]
    of_room = torch.where(side < 2, WALLS, torch.where(direction[2] < 0.0, FLOOR, CEILING)).to(torch.int32)
    return (
        depth,
        point,
        torch.where(is_solid, normal, wall_normal),
        torch.where(is_solid, local * size, point),
        torch.where(is_solid, of_solid, of_room),
        torch.where(is_solid, number, -1),
    )


def paint(
    world: World, direction: Tensor, pixel: Tensor, depth: Tensor, normal: Tensor, place: Tensor, index: Tensor
) -> tuple[Tensor, ...]:
    """The fields of :class:`Paint`. ``pixel [G]`` is a pixel's size at depth 1."""
    groups, many = world.pattern.shape
    row = index.long() + many * torch.arange(groups, device=index.device)[:, None]
    finish = world.finish.flatten(-2)[:, row]
    scale, warp, phase = finish[0], finish[1], finish[2:5]
    cosine = (dot(normal, direction) * torch.rsqrt(dot(direction, direction))).abs().clamp(min=0.1)
    footprint = depth * pixel[:, None] / (cosine * scale)
    main, accent = pattern_weights(world.pattern.flatten()[row], place / scale + phase, warp, footprint)
    colors = world.colors.flatten(-2)[..., row]
    albedo = colors[0] + (colors[1] - colors[0]) * main
    return albedo + (colors[2] - albedo) * accent, finish[5], finish[6], finish[7]


def light_rays(
    world: World, light: int, samples: int, sample: int, point: Tensor, normal: Tensor
) -> tuple[Tensor, Tensor]:
    """Shadow rays from surface points to one place on a light: start and way ``[3, G, N]``.

    The samples lie on a disc that faces the point, turned by an angle of the point's own, so that neighbouring pixels
    see different places; what would be steps in the shadow becomes fine grain.
    """
    start = point + BIAS * normal
    place = world.light[:, :, light, None]
    directional = world.light_kind[:, light, None] == _DIRECTIONAL
    toward = torch.where(directional, place.expand_as(start), place - start)
    if samples > 1:
        cell = (point * 512.0).floor().to(torch.int32)
        turn = 2.0 * torch.pi * unit(hash_lattice(cell[0], cell[1], cell[2]))
        # Vogel's spiral fills the disc evenly
        reach = world.light_radius[:, light, None] * ((sample + 0.5) / samples) ** 0.5
        angle = turn + 2.39996 * sample
        along = normalize(toward)
        side = normalize(torch.stack([-along[1] - 1e-4, along[0], torch.zeros_like(along[0])]))
        other = torch.linalg.cross(along, side, dim=0)
        toward = toward + reach * (angle.cos() * side + angle.sin() * other)
    return start, torch.where(directional, _SUN_DISTANCE * toward, toward)


def shadow(world: World, light: int, samples: int, sample: int, point: Tensor, normal: Tensor) -> Tensor:
    """Whether ``[G, N]`` a simple solid stands between surface points and one place on a light."""
    start, way = light_rays(world, light, samples, sample, point, normal)
    return blocked_by_simple(world.casters, start, way)


def shade(
    world: World,
    direction: Tensor,
    point: Tensor,
    normal: Tensor,
    roughness: Tensor,
    specular: Tensor,
    visible: Tensor,
) -> tuple[Tensor, Tensor]:
    """Diffuse light and highlights ``[3, G, N]``; ``visible [L, G, N]`` is the share of each light that is seen."""
    up = 0.5 + 0.5 * normal[2]
    shading = world.horizon[..., None] * (1.0 - up) + world.zenith[..., None] * up
    gloss = torch.zeros_like(shading)
    toward_eye = -normalize(direction)
    # Blinn-Phong, normalised; the exponent has the width of a Beckmann lobe of this roughness (Walter et al. 2007)
    exponent = (2.0 / roughness.square().square() - 2.0).clamp(1.0, 400.0)
    for number in range(world.light_kind.shape[1]):
        place = world.light[:, :, number, None]
        directional = world.light_kind[:, number, None] == _DIRECTIONAL
        way = torch.where(directional, place.expand_as(point), place - point)
        square = torch.where(directional, torch.ones_like(roughness), dot(way, way))
        toward = normalize(way)
        facing = dot(normal, toward).clamp(min=0.0)
        light = (visible[number] * facing / square) * world.light_color[:, :, number, None]
        shading = shading + light * (1.0 / torch.pi)
        half = normalize(toward + toward_eye)
        lobe = torch.exp2(exponent * torch.log2(dot(normal, half).clamp(min=1e-6)))
        gloss = gloss + light * (specular * lobe * (exponent + 8.0) * (1.0 / (8.0 * torch.pi)))
    return shading, gloss


class Kernels(NamedTuple):
    """The functions that are worth compiling."""

    nearest: Callable[[Solids, Tensor, Tensor], tuple[Tensor, Tensor]]
    meet: Callable[..., tuple[Tensor, ...]]
    paint: Callable[..., tuple[Tensor, ...]]
    shadow: Callable[..., Tensor]
    shade: Callable[..., tuple[Tensor, Tensor]]
    near_test: Callable[..., Tensor]
    walk: Walk

    def marched(self, solids: Solids, origin: Tensor, direction: Tensor, limit: float = FAR) -> MarchedHits:
        """:func:`~lorasub.scenes.rendering.intersection.marched_hits` with these functions."""
        return marched_hits(solids, origin, direction, limit, near_test=self.near_test, walk=self.walk)


EAGER = Kernels(nearest_simple, meet, paint, shadow, shade, passes_near, walk)


@functools.cache
def compiled() -> Kernels:
    """The same functions, compiled when they are first called; sizes may change without another compilation."""
    options: dict[str, Any] = {"dynamic": True, "fullgraph": True}
    return Kernels(**{name: torch.compile(function, **options) for name, function in EAGER._asdict().items()})


@functools.cache
def compiler_found(device_type: str) -> bool:
    """Whether ``torch.compile`` can work for this kind of device; says once which way rendering goes."""
    if device_type == "cuda":
        found = importlib.util.find_spec("triton") is not None
    else:
        found = any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl") if name)
    how = "compiled, which takes a minute the first time" if found else "eager: no compiler was found"
    _logger.info("scenes are rendered on %s, %s", device_type, how)
    return found
