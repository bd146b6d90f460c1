"""Numbers that sum up each scene's parts, and how far two sets of scenes lie apart in them.

They are read from descriptions, not from pictures: what a part of a scene is does not depend on what hides it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lorasub.geometry import camera_centers, rotation_angle
from lorasub.scenes.description import FIRST_OBJECT, LightKind, Pattern, Primitive, SceneDescription
from lorasub.scenes.ranges import Attribute

#: Standard deviations at which a statistic is as far away as can be.
FAR_AWAY = 10.0
_TINY = 1e-6


def scene_statistics(scenes: SceneDescription) -> dict[Attribute, Tensor]:
    """Sums up every scene: attribute to ``[B, F]`` float64, one column for each statistic.

    ====================  ===========================================================================================
    geometry              number of solids; mean and spread of their log size; log height over width; height above
                          the floor; how far apart they stand; the room's three sizes; whether it is open
    texture               shares of the patterns, one by one; log feature size; warp; brightness; saturation; roughness
    camera                field of view; height; pitch; roll; distance from the origin; turn and step between views;
                          number of directions looked in
    lighting              number of lights; share of directional ones; height; log red over blue; irradiance; radius;
                          sky; exposure
    ====================  ===========================================================================================
    """
    return {
        "geometry": _geometry(scenes).double(),
        "texture": _texture(scenes).double(),
        "camera": _camera(scenes).double(),
        "lighting": _lighting(scenes).double(),
    }


def distance_between(found: Tensor, reference: Tensor) -> float:
    """Root mean square, over statistics, of the difference of two sets' means in the reference's standard deviations.

    0.2 is a small difference, and 1 means that the means lie a whole standard deviation apart.

    Args:
        found: ``[B, F]`` of one set.
        reference: ``[B', F]`` of the set that is compared with.

    Returns:
        At least 0 and at most :data:`FAR_AWAY`, which is what a statistic counts at most: one that is constant in the
        reference has no standard deviation. Statistics that are one constant in both do not count.
    """
    gap, spread = (found.mean(0) - reference.mean(0)).abs(), reference.std(0)
    counts = (gap > _TINY) | (spread > _TINY)
    if not counts.any():
        return 0.0
    away = (gap / spread.clamp(min=_TINY)).clamp(max=FAR_AWAY)[counts]
    return float(away.square().mean().sqrt())


def share_between(groups: Sequence[Tensor]) -> float:
    """Share of the variance of statistics that lies between groups: intraclass correlation, mean over statistics.

    0: groups differ in nothing but chance; 1: each group is one scene, and another one than the other groups'. The
    one-way random effects form ICC(1) of Shrout and Fleiss (1979); values below 0 are chance and count 0.

    Args:
        groups: at least two tensors ``[n, F]`` of equally many scenes.
    """
    values = torch.stack(list(groups))  # [G, n, F]
    many, each = values.shape[:2]
    means = values.mean(1)
    between = each * (means - means.mean(0)).square().sum(0) / (many - 1)
    within = (values - means[:, None]).square().sum((0, 1)) / (many * (each - 1))
    total = between + (each - 1) * within
    varies = total > _TINY * values.abs().mean((0, 1)).clamp(min=_TINY).square()
    correlation = ((between - within) / total.clamp(min=_TINY**2))[varies]
    return float(correlation.clamp(min=0.0).mean()) if len(correlation) else 0.0


def _mean(values: Tensor, present: Tensor) -> Tensor:
    """``[B]`` mean of ``values [B, K]`` where ``present [B, K]``; 0 where nothing is."""
    return torch.where(present, values, 0.0).sum(1) / present.sum(1).clamp(min=1)


def _geometry(scenes: SceneDescription) -> Tensor:
    geometry = scenes.geometry
    there = geometry.kind != int(Primitive.NONE)
    size = geometry.size.clamp(min=1e-4)
    log_size = size.log().mean(-1)
    mean_size = _mean(log_size, there)
    sideways = geometry.center[..., :2].norm(dim=-1)
    columns = [
        there.sum(1).float(),
        mean_size,
        _mean((log_size - mean_size[:, None]).square(), there).sqrt(),
        _mean((size[..., 2] / size[..., 0]).log(), there),
        _mean(geometry.center[..., 2], there),
        _mean(sideways, there),
        *geometry.room.unbind(-1),
        geometry.open.float(),
    ]
    return torch.stack(columns, dim=-1)


def _texture(scenes: SceneDescription) -> Tensor:
    materials, geometry = scenes.materials, scenes.geometry
    shown = torch.zeros_like(materials.scale, dtype=torch.bool)
    shown[:, :FIRST_OBJECT] = True
    there = geometry.kind != int(Primitive.NONE)
    shown |= torch.zeros_like(materials.scale).scatter_add_(1, geometry.surface.long(), there.float()) > 0
    high, low = materials.colors.amax(-1).mean(-1), materials.colors.amin(-1).mean(-1)
    columns = [_mean((materials.pattern == int(pattern)).float(), shown) for pattern in Pattern]
    columns += [
        _mean(materials.scale.log(), shown),
        _mean(materials.warp, shown),
        _mean(high, shown),
        _mean(1.0 - low / high.clamp(min=_TINY), shown),
        _mean(materials.roughness, shown),
    ]
    return torch.stack(columns, dim=-1)


def _camera(scenes: SceneDescription) -> Tensor:
    pose = scenes.cameras.cam_from_world
    center = camera_centers(pose)
    right, forward = pose[..., 0, :3], pose[..., 2, :3]
    turn = rotation_angle(pose[:, 1:, :, :3], pose[:, :-1, :, :3])
    step = (center[:, 1:] - center[:, :-1]).norm(dim=-1)
    still = torch.zeros(len(scenes))
    columns = [
        scenes.cameras.fov.mean(1),
        center[..., 2].mean(1),
        forward[..., 2].clamp(-1.0, 1.0).asin().mean(1),
        right[..., 2].clamp(-1.0, 1.0).asin().mean(1),
        center[..., :2].norm(dim=-1).mean(1),
        turn.mean(1) if turn.shape[1] else still,
        step.mean(1) if step.shape[1] else still,
        1.0 - forward.mean(1).norm(dim=-1),
    ]
    return torch.stack(columns, dim=-1)


def _lighting(scenes: SceneDescription) -> Tensor:
    lights = scenes.lights
    there, directional = lights.kind != int(LightKind.NONE), lights.kind == int(LightKind.DIRECTIONAL)
    distance = torch.where(directional, 1.0, lights.position.norm(dim=-1).clamp(min=0.1))
    color = lights.color.clamp(min=1e-4)
    columns = [
        there.sum(1).float(),
        _mean(directional.float(), there),
        _mean(lights.position[..., 2] / lights.position.norm(dim=-1).clamp(min=0.1), there),
        _mean((color[..., 0] / color[..., 2]).log(), there),
        (torch.where(there, lights.color.mean(-1), 0.0) / distance.square()).sum(1),
        _mean(lights.radius, there),
        0.5 * (lights.zenith + lights.horizon).mean(-1),
        lights.exposure,
    ]
    return torch.stack(columns, dim=-1)
