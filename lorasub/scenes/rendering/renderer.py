"""Looks at described scenes: colour, and everything that is known exactly about each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.scenes.description import FLOOR, LightKind, Lights, Materials, SceneDescription
from lorasub.scenes.rendering.intersection import (
    FAR,
    Solids,
    dot,
    hit,
    nearest,
    normalize,
    occluded,
    room_exit,
    rotate,
)
from lorasub.scenes.rendering.textures import pattern_weights
from lorasub.structures import SceneBatch

#: Open ground ends here, in world units.
HORIZON = 60.0
_BIAS = 2e-3  # shadow rays start this far above the surface


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What the renderer knows of B scenes, S views, H x W pixels.

    Attributes:
        rgb: ``[B, S, 3, H, W]`` sRGB in [0, 1].
        depth: ``[B, S, H, W]`` z-depth, 0 where nothing is hit.
        valid: ``[B, S, H, W]`` bool, whether a surface is hit.
        normals: ``[B, S, H, W, 3]`` unit, in the world, toward the camera; 0 where nothing is hit.
        world_points: ``[B, S, H, W, 3]``, 0 where nothing is hit.
        object_id: ``[B, S, H, W]`` int32: -1 sky, 0 floor, 1 walls, 2 ceiling, 3 and up the objects.
        albedo: ``[B, S, 3, H, W]`` linear RGB.
        shading: ``[B, S, 3, H, W]`` linear RGB of the diffuse light. The colour is ``albedo * shading`` plus
            highlights, then exposure and tone curve.
        intrinsics: ``[B, S, 3, 3]`` in pixels.
        cam_from_world: ``[B, S, 3, 4]``.
    """

    rgb: Tensor
    depth: Tensor
    valid: Tensor
    normals: Tensor
    world_points: Tensor
    object_id: Tensor
    albedo: Tensor
    shading: Tensor
    intrinsics: Tensor
    cam_from_world: Tensor

    def to_batch(self, scene_ids: tuple[str, ...]) -> SceneBatch:
        """As a batch of scenes in world units; views are named by their number."""
        scenes, views = self.depth.shape[:2]
        device = self.depth.device
        return SceneBatch(
            images=self.rgb,
            intrinsics=self.intrinsics,
            cam_from_world=self.cam_from_world,
            pose_valid=torch.ones(scenes, views, dtype=torch.bool, device=device),
            depth=self.depth,
            valid=self.valid,
            world_points=self.world_points,
            scale=torch.ones(scenes, device=device),
            metric=torch.zeros(scenes, dtype=torch.bool, device=device),
            scene_ids=scene_ids,
            frame_ids=tuple(tuple(f"{view:02d}" for view in range(views)) for _ in range(scenes)),
        )


class Renderer:
    """Renders scene descriptions on the device where they are.

    Args:
        image_size: (H, W) in pixels.
        chunk: rays that are worked on at a time; bounds memory, whatever the batch.
    """

    def __init__(self, image_size: tuple[int, int], chunk: int = 1 << 14) -> None:
        self.image_size = image_size
        self.chunk = chunk

    @torch.no_grad()
    def render(self, scenes: SceneDescription) -> Layers:
        """Render every view of every scene."""
        height, width = self.image_size
        views = scenes.num_views
        intrinsics = scenes.cameras.intrinsics(self.image_size)
        cam_from_world = scenes.cameras.cam_from_world
        groups = len(scenes) * views
        world = _World.prepare(scenes)
        rotation = cam_from_world[..., :3].reshape(groups, 3, 3)
        origin = -(rotation.mT @ cam_from_world[..., 3].reshape(groups, 3, 1))[..., 0].T[..., None]  # [3, G, 1]
        focal = intrinsics[..., 0, 0].reshape(groups)

        pieces: list[dict[str, Tensor]] = []
        rows = max(1, self.chunk // (width * groups)) if width * groups <= self.chunk else 1
        for top in range(0, height, rows):
            y = torch.arange(top, min(top + rows, height), device=focal.device) + 0.5 - 0.5 * height
            x = torch.arange(width, device=focal.device) + 0.5 - 0.5 * width
            pixel = torch.stack([x.repeat(len(y)), y.repeat_interleave(width)])  # [2, N]
            direction = _directions(rotation, focal, pixel)
            pieces.append(_look(world, origin, direction, 1.0 / focal))
        merged = {name: torch.cat([piece[name] for piece in pieces], dim=-1) for name in pieces[0]}

        def image(name: str) -> Tensor:
            values = merged[name]
            if values.ndim == 3:  # [3, G, N]
                return values.permute(1, 0, 2).reshape(len(scenes), views, 3, height, width)
            return values.reshape(len(scenes), views, height, width)

        return Layers(
            rgb=image("rgb"),
            depth=image("depth"),
            valid=image("valid"),
            normals=image("normals").movedim(2, -1),
            world_points=image("points").movedim(2, -1),
            object_id=image("object_id"),
            albedo=image("albedo"),
            shading=image("shading"),
            intrinsics=intrinsics,
            cam_from_world=cam_from_world,
        )


def _directions(rotation: Tensor, focal: Tensor, pixel: Tensor) -> Tensor:
    """World directions ``[3, G, N]`` with z-depth 1, so that a ray's parameter is the depth."""
    x = pixel[0] / focal[:, None]
    y = pixel[1] / focal[:, None]
    return rotate(rotation.permute(2, 1, 0)[..., None], torch.stack([x, y, torch.ones_like(x)]))


@dataclass(frozen=True, slots=True)
class _World:
    """Everything in the layout that kernels want: G groups, leading components."""

    solids: Solids
    room: Tensor  # [3, G]
    open: Tensor  # [G]
    pattern: Tensor  # [G, M]
    colors: Tensor  # [3 (colour), 3 (rgb), G, M]
    finish: Tensor  # [7, G, M]: scale, warp, phase, roughness, specular
    light_kind: Tensor  # [G, L]
    light: Tensor  # [3, G, L]
    light_color: Tensor  # [3, G, L]
    zenith: Tensor  # [3, G]
    horizon: Tensor  # [3, G]
    exposure: Tensor  # [G]
    size: Tensor  # [3, G, K] half extents of the solids

    @classmethod
    def prepare(cls, scenes: SceneDescription) -> _World:
        views = scenes.num_views
        materials: Materials = scenes.materials
        lights: Lights = scenes.lights
        solids = Solids.prepare(scenes.geometry, views)
        many = solids.surface.shape[1]

        def groups(values: Tensor, *front: int) -> Tensor:
            values = values.repeat_interleave(views, dim=0)
            rest = [axis for axis in range(values.ndim) if axis not in front]
            return values.permute(*front, *rest).contiguous()

        finish = torch.stack(
            [
                materials.scale,
                materials.warp,
                *materials.phase.unbind(-1),
                materials.roughness,
                materials.specular,
            ],
            dim=-1,
        )
        return cls(
            solids=solids,
            room=groups(scenes.geometry.room, 1),
            open=groups(scenes.geometry.open),
            pattern=groups(materials.pattern),
            colors=groups(materials.colors, 2, 3),
            finish=groups(finish, 2),
            light_kind=groups(lights.kind),
            light=groups(lights.position, 2),
            light_color=groups(lights.color, 2),
            zenith=groups(lights.zenith, 1),
            horizon=groups(lights.horizon, 1),
            exposure=groups(lights.exposure),
            size=groups(scenes.geometry.size[:, :many], 2),
        )


def _look(world: _World, origin: Tensor, direction: Tensor, pixel: Tensor) -> dict[str, Tensor]:
    """All layers for rays ``origin [3, G, 1] + t direction [3, G, N]``; ``pixel [G]`` is a pixel's size at depth 1."""
    groups = direction.shape[1]
    far, number = nearest(world.solids, origin, direction)
    wall, side = room_exit(world.room, world.open, origin, direction)
    wall = torch.where(wall > HORIZON, FAR, wall)
    is_solid = far < wall
    depth, normal, local = hit(world.solids, number, origin, direction)
    axis_normal = torch.stack([torch.where(side == axis, -direction[axis].sign(), 0.0) for axis in range(3)])
    depth = torch.where(is_solid, depth, wall)
    valid = depth < HORIZON
    normal = torch.where(is_solid, normal, axis_normal)
    point = origin + depth * direction

    offset = torch.arange(groups, device=depth.device)[:, None]
    flat = number.long() + world.solids.surface.shape[1] * offset
    room_side = torch.where(side < 2, 1, torch.where(direction[2] < 0.0, FLOOR, 2)).to(torch.int32)
    surface = torch.where(is_solid, world.solids.surface.flatten()[flat], room_side)
    metric = local * world.size.flatten(-2)[:, flat]  # in the solid's axes, world units
    place = torch.where(is_solid, metric, point)

    index = surface.long() + world.pattern.shape[1] * offset
    scale, warp, phase_x, phase_y, phase_z, roughness, specular = world.finish.flatten(-2)[:, index]
    cosine = (dot(normal, direction) * torch.rsqrt(dot(direction, direction))).abs().clamp(min=0.1)
    footprint = depth * pixel[:, None] / (cosine * scale)
    feature = place / scale + torch.stack([phase_x, phase_y, phase_z])
    main, accent = pattern_weights(world.pattern.flatten()[index], feature, warp, footprint)
    first, second, third = world.colors.flatten(-2)[..., index]
    albedo = first + (second - first) * main
    albedo = albedo + (third - albedo) * accent

    shading, gloss = _light(world, point, normal, direction, roughness, specular)
    linear = albedo * shading + gloss
    upward = normalize(direction)[2].clamp(min=0.0)
    sky = world.horizon[..., None] + (world.zenith - world.horizon)[..., None] * upward.sqrt()
    linear = torch.where(valid, linear, 2.0 * sky)
    rgb = tone_curve(linear * world.exposure[:, None])
    zero = torch.zeros_like(depth)
    return {
        "rgb": rgb,
        "depth": torch.where(valid, depth, zero),
        "valid": valid,
        "normals": torch.where(valid, normal, zero),
        "points": torch.where(valid, point, zero),
        "object_id": torch.where(valid, surface, -1),
        "albedo": torch.where(valid, albedo, zero),
        "shading": torch.where(valid, shading, zero),
    }


def _light(
    world: _World, point: Tensor, normal: Tensor, direction: Tensor, roughness: Tensor, specular: Tensor
) -> tuple[Tensor, Tensor]:
    """Diffuse light and highlights ``[3, G, N]`` at surface points."""
    up = 0.5 + 0.5 * normal[2]
    shading = world.horizon[..., None] * (1.0 - up) + world.zenith[..., None] * up
    gloss = torch.zeros_like(shading)
    toward_eye = -normalize(direction)
    # Blinn-Phong, normalised; exponent of the same width as a Beckmann lobe of this roughness
    exponent = 2.0 / roughness.pow(4) - 2.0
    exponent = exponent.clamp(1.0, 400.0)
    start = point + _BIAS * normal
    for number in range(world.light_kind.shape[1]):
        kind = world.light_kind[:, number, None]
        if not bool((kind != LightKind.NONE).any()):
            continue
        place = world.light[:, :, number, None]
        directional = kind == LightKind.DIRECTIONAL
        reach = torch.where(directional, place, place - start)  # from the surface; its end is the light or far away
        reach = torch.where(directional, 20.0 * reach, reach)
        square = torch.where(directional, 1.0, dot(reach, reach))
        toward = normalize(reach)
        facing = dot(normal, toward).clamp(min=0.0)
        shadow = occluded(world.solids, start, reach, 1.0)
        light = torch.where(shadow, 0.0, facing / square) * world.light_color[:, :, number, None]
        shading = shading + light * (1.0 / torch.pi)
        half = normalize(toward + toward_eye)
        lobe = dot(normal, half).clamp(min=0.0).pow(exponent) * (exponent + 8.0) * (1.0 / (8.0 * torch.pi))
        gloss = gloss + light * (specular * lobe)
    return shading, gloss


def tone_curve(linear: Tensor) -> Tensor:
    """Linear light to sRGB in [0, 1]: a soft shoulder, then the sRGB transfer function (IEC 61966-2-1)."""
    soft = 1.0 - torch.exp(-linear)
    return torch.where(soft <= 0.0031308, 12.92 * soft, 1.055 * soft.clamp(min=1e-6).pow(1.0 / 2.4) - 0.055)
