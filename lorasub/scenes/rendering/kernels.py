"""What surfaces look like and how they are lit, as pure functions of tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.scenes.description import CEILING, FLOOR, WALLS, LightKind, Pattern
from lorasub.scenes.rendering.intersection import FAR, hit, room_exit
from lorasub.scenes.rendering.textures import hash_lattice, pattern_weights, picture_color, unit
from lorasub.scenes.rendering.vectors import dot, normalize
from lorasub.scenes.rendering.world import SUN_DISTANCE, World

#: Open ground ends here, in world units.
HORIZON = 60.0
#: Rays that leave a surface start this far from it.
BIAS = 2e-3
_DIRECTIONAL = int(LightKind.DIRECTIONAL)


@dataclass(frozen=True, slots=True)
class Surface:
    """What rays have met, for ``[G, N]`` rays.

    Attributes:
        depth: distance in units of the ray's direction, :data:`FAR` if nothing was met.
        point: ``[3, G, N]`` in the world.
        normal: ``[3, G, N]`` unit, in the world.
        place: ``[3, G, N]`` the point in the object's own axes, world units: what a texture hangs on.
        face: int32, which axis of the object's unit cube the point faces: pictures lie across the other two.
        index: int32 material.
        number: int32 solid, -1 for the room.
    """

    depth: Tensor
    point: Tensor
    normal: Tensor
    place: Tensor
    face: Tensor
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
        torch.where(is_solid, local.abs().argmax(0), side).to(torch.int32),
        torch.where(is_solid, of_solid, of_room),
        torch.where(is_solid, number, -1),
    )


def paint(
    world: World,
    direction: Tensor,
    pixel: Tensor,
    depth: Tensor,
    normal: Tensor,
    place: Tensor,
    face: Tensor,
    index: Tensor,
) -> tuple[Tensor, ...]:
    """The fields of :class:`Paint`. ``pixel [G]`` is a pixel's size at depth 1."""
    groups, many = world.pattern.shape
    row = index.long() + many * torch.arange(groups, device=index.device)[:, None]
    finish = world.finish.flatten(-2)[:, row]
    scale, warp, phase = finish[0], finish[1], finish[2:5]
    cosine = (dot(normal, direction) * torch.rsqrt(dot(direction, direction))).abs().clamp(min=0.1)
    footprint = depth * pixel[:, None] / (cosine * scale)
    pattern, feature = world.pattern.flatten()[row], place / scale + phase
    main, accent = pattern_weights(pattern, feature, warp, footprint)
    colors = world.colors.flatten(-2)[..., row]
    albedo = colors[0] + (colors[1] - colors[0]) * main
    albedo = albedo + (colors[2] - albedo) * accent
    if world.texels is not None:
        shown = pattern == int(Pattern.IMAGE)
        picture = picture_color(world.texels, world.image.flatten()[row], feature, face, footprint)
        albedo = torch.where(shown, picture, albedo)
    return albedo, finish[5], finish[6], finish[7]


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
        cell = (point * 512.0 + 0.5).floor().to(torch.int32)  # the floor's height, 0, is in the middle of a cell
        turn = 2.0 * torch.pi * unit(hash_lattice(cell[0], cell[1], cell[2]))
        # Vogel's spiral fills the disc evenly
        reach = world.light_radius[:, light, None] * ((sample + 0.5) / samples) ** 0.5
        angle = turn + 2.39996 * sample
        along = normalize(toward)
        side = normalize(torch.stack([-along[1] - 1e-4, along[0], torch.zeros_like(along[0])]))
        other = torch.linalg.cross(along, side, dim=0)
        toward = toward + reach * (angle.cos() * side + angle.sin() * other)
    return start, torch.where(directional, SUN_DISTANCE * toward, toward)


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


def tone_curve_(linear: Tensor) -> Tensor:
    """Linear light to sRGB in [0, 1], in place: a soft shoulder, then the sRGB transfer function (IEC 61966-2-1).

    Args:
        linear: of any shape, contiguous.
    """
    # small enough to stay in the processor's cache from one operation to the next
    for part in torch.split(linear.view(-1), 1 << 18 if linear.device.type == "cpu" else max(linear.numel(), 1)):
        soft = part.neg_().exp_().neg_().add_(1.0)
        dark, straight = soft <= 0.0031308, 12.92 * soft
        soft.clamp_(min=1e-6).log_().mul_(1.0 / 2.4).exp_().mul_(1.055).sub_(0.055)
        torch.where(dark, straight, soft, out=soft)
    return linear
