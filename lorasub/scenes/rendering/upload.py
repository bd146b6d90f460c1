"""Lays a scene description out in the records that the kernels read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.geometry import invert_pose
from lorasub.scenes.description import LightKind, Pattern, Primitive, SceneDescription
from lorasub.scenes.images import ImageAtlas
from lorasub.scenes.rendering.kernels.structs import Body, Camera, Environment, Light, Material, Scene

#: Bodies of a scene: their numbers are kept in single bytes.
MAX_BODIES = 256
# These fill no corner of their cube's top view.
_ROUND = tuple(int(kind) for kind in (Primitive.SPHERE, Primitive.CYLINDER, Primitive.CONE, Primitive.TORUS))
_SLACK = 1e-2


@dataclass(frozen=True, slots=True)
class UploadedScenes:
    """B scenes as the kernels read them.

    Attributes:
        scene: the records.
        bodies: ``[B, K]`` uint8 numbers of the bodies; those that exist come first.
        shadow_casters: ``[B, K]`` uint8, those that cast shadows first: not clear and not glowing ones.
        memory: the tensors that the records lie in. Keep them until the kernels have ended.
    """

    scene: Scene
    bodies: Tensor
    shadow_casters: Tensor
    memory: tuple[Tensor, ...]


def upload(scenes: SceneDescription, image_size: tuple[int, int], images: ImageAtlas | None) -> UploadedScenes:
    """Lay scenes out for the kernels, on the device where they are.

    Raises:
        ConfigError: a scene has more than :data:`MAX_BODIES` bodies, or a surface shows a picture that is not there.
    """
    geometry, materials, lights = scenes.geometry, scenes.materials, scenes.lights
    present = geometry.kind != int(Primitive.NONE)
    casts = (materials.refraction == 0.0) & (materials.pattern != int(Pattern.GLOW))
    opaque = casts.gather(1, geometry.surface.long())
    count = _used(present)
    if count > MAX_BODIES:
        raise ConfigError(f"a scene has {count} primitives; the renderer takes at most {MAX_BODIES}")
    records = _Records(scenes.cameras.fov.device)
    scene = Scene()
    scene.environments = records.array(
        Environment,
        geometry.room,
        lights.zenith,
        lights.horizon,
        lights.exposure,
        geometry.open,
        present.sum(1),
        (present & opaque).sum(1),
        (materials.refraction > 0.0).any(1),
        axes=1,
    )
    _upload_bodies(scene, records, scenes, count)
    _upload_materials(scene, records, scenes)
    lit = _used(lights.kind != int(LightKind.NONE))
    scene.lights = records.array(
        Light, lights.position[:, :lit], lights.color[:, :lit], lights.radius[:, :lit], lights.kind[:, :lit]
    )
    world_from_cam = invert_pose(scenes.cameras.cam_from_world)
    pixel = 1.0 / scenes.cameras.intrinsics(image_size)[..., 0, 0]
    scene.cameras = records.array(Camera, world_from_cam[..., :3], world_from_cam[..., 3], pixel)
    texels = _texels(scenes, images)
    scene.texels = records.floats(geometry.room.new_zeros(3, 1, 1) if texels is None else texels)
    bodies, casters = _numbers(present[:, :count]), _numbers((present & opaque)[:, :count])
    return UploadedScenes(scene, bodies, casters, tuple(records.memory))


class _Records:
    """Makes Warp arrays of records out of tensors, and keeps the memory that they lie in."""

    def __init__(self, device: torch.device) -> None:
        self.memory: list[Tensor] = []
        self._device = wp.device_from_torch(device)

    def array(self, dtype: Any, first: Tensor, *more: Tensor, axes: int = 2) -> Any:
        """An array with so many axes, of records whose fields stand one after the other as 32-bit numbers."""
        fields = [(f if f.is_floating_point() else f.to(torch.int32).view(torch.float32)) for f in (first, *more)]
        rows = torch.cat([field.reshape(*first.shape[:axes], -1) for field in fields], dim=-1).contiguous()
        self.memory.append(rows)
        return wp.array(ptr=rows.data_ptr(), dtype=dtype, shape=tuple(rows.shape[:-1]), device=self._device)

    def floats(self, values: Tensor) -> Any:
        """The tensor itself as an array of numbers."""
        self.memory.append(values)
        return wp.from_torch(values)


def _upload_bodies(scene: Scene, records: _Records, scenes: SceneDescription, count: int) -> None:
    geometry = scenes.geometry
    kind, size, shape = geometry.kind[:, :count], geometry.size[:, :count], geometry.shape[:, :count]
    center = geometry.center[:, :count]
    scene.balls = records.array(wp.vec4, center, padded(bounding_radius(kind, size)))
    scene.bodies = records.array(
        Body,
        geometry.rotation[:, :count].mT / size[..., None],
        center,
        size,
        quadrics(kind, shape[..., 0]),
        shape,
        kind,
        geometry.surface[:, :count],
    )


def _upload_materials(scene: Scene, records: _Records, scenes: SceneDescription) -> None:
    materials = scenes.materials
    scene.materials = records.array(
        Material,
        materials.colors,
        materials.phase,
        materials.pattern,
        materials.image,
        materials.scale,
        materials.warp,
        materials.roughness,
        materials.specular,
        materials.refraction,
    )


def bounding_radius(kind: Tensor, size: Tensor) -> Tensor:
    """``[B, K]`` radius of a ball around each body; negative where there is none.

    Args:
        kind: ``[B, K]`` int, a :class:`~lorasub.scenes.description.Primitive`.
        size: ``[B, K, 3]`` half extents.
    """
    round_side = torch.hypot(size[..., :2].amax(-1), size[..., 2])
    radius = torch.where(torch.isin(kind, torch.tensor(_ROUND, device=kind.device)), round_side, size.norm(dim=-1))
    radius = torch.where(kind == int(Primitive.SPHERE), size.amax(-1), radius)
    return torch.where(kind == int(Primitive.NONE), -1.0, radius)


def padded(radius: Tensor) -> Tensor:
    """Radii of balls that are a little too large, for what float32 loses in differences of squares."""
    return radius * (1.0 + _SLACK) + _SLACK


def quadrics(kind: Tensor, top: Tensor) -> Tensor:
    """``[B, K, 4]``: a, c, e and f of the quadric ``a (x^2 + y^2) + c z^2 + e z + f <= 0`` that belongs to each kind.

    Clipped by the cube it is the solid. f is positive where nothing is to be hit in closed form.
    """
    middle, slope = 0.5 * (1.0 + top), 0.5 * (1.0 - top)  # a cone's radius is middle - slope z
    zero, one = torch.zeros_like(top), torch.ones_like(top)
    rows = {
        Primitive.SPHERE: (one, one, zero, -one),
        Primitive.BOX: (zero, zero, zero, -one),
        Primitive.CYLINDER: (one, zero, zero, -one),
        Primitive.CONE: (one, -slope * slope, 2.0 * middle * slope, -middle * middle),
    }
    result = torch.stack((zero, zero, zero, one), dim=-1)
    for name, row in rows.items():
        result = torch.where((kind == int(name))[..., None], torch.stack(row, dim=-1), result)
    return result


def _texels(scenes: SceneDescription, images: ImageAtlas | None) -> Tensor | None:
    """The atlas that the scenes' pictures are in; None if no surface shows one."""
    shown = scenes.materials.image[scenes.materials.pattern == int(Pattern.IMAGE)]
    if not len(shown):
        return None
    if images is None or int(shown.max()) >= len(images):
        raise ConfigError(
            f"a surface shows picture {int(shown.max())}, but the renderer has {len(images or ())} of them: give it "
            "the scenes' own, Renderer(..., images=scene_images(sampler))"
        )
    return images.texels


def _numbers(which: Tensor) -> Tensor:
    """``[B, K]`` uint8: the numbers where ``which [B, K]`` is true, in order, then the others."""
    return which.int().argsort(dim=1, descending=True, stable=True).to(torch.uint8).contiguous()


def _used(present: Tensor) -> int:
    """Largest number of used places of ``present [B, K]`` in a scene; at least one, so that no array is empty."""
    places = present.any(0).nonzero()
    return int(places.max()) + 1 if places.numel() else 1
