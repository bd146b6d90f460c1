"""What the fused program is told of the scenes, and the constants it shares with the torch engine.

Few arrays of wide records, not many arrays of numbers: the program hands the scene from function to function by value.
"""

from typing import Any

import torch
import warp as wp
from torch import Tensor

from lorasub.scenes.description import LightKind, Primitive, SceneDescription
from lorasub.scenes.images import ImageAtlas
from lorasub.scenes.rendering import intersection, kernels, world

FAR = wp.constant(float(intersection.FAR))
HORIZON = wp.constant(float(kernels.HORIZON))
BIAS = wp.constant(float(kernels.BIAS))
SUN_DISTANCE = wp.constant(float(world.SUN_DISTANCE))
DIRECTIONAL = wp.constant(int(LightKind.DIRECTIONAL))


@wp.struct
class Body:
    """A solid: see :class:`lorasub.scenes.rendering.intersection.Solids`."""

    to_local: wp.mat33
    center: wp.vec3
    size: wp.vec3
    quadric: wp.vec4
    shape: wp.vec4
    kind: wp.int32
    surface: wp.int32


@wp.struct
class Material:
    """A surface's paint: see :class:`lorasub.scenes.description.Materials`."""

    colors: wp.mat33
    phase: wp.vec3
    pattern: wp.int32
    image: wp.int32
    scale: wp.float32
    warp: wp.float32
    roughness: wp.float32
    specular: wp.float32
    refraction: wp.float32


@wp.struct
class Lamp:
    """A light: see :class:`lorasub.scenes.description.Lights`."""

    position: wp.vec3
    color: wp.vec3
    radius: wp.float32
    kind: wp.int32


@wp.struct
class Place:
    """The rest of a scene."""

    room: wp.vec3
    zenith: wp.vec3
    horizon: wp.vec3
    exposure: wp.float32
    open: wp.int32
    bodies: wp.int32  # how many there are
    casters: wp.int32  # how many cast shadows
    clear: wp.int32  # whether any material is transparent


@wp.struct
class View:
    """A camera: its centre, world from camera, and the size of a pixel at depth 1."""

    turn: wp.mat33
    eye: wp.vec3
    pixel: wp.float32


@wp.struct
class Scene:
    """B scenes with at most K bodies, M materials, L lamps and S views each."""

    places: wp.array(dtype=Place)  # [B]
    balls: wp.array2d(dtype=wp.vec4)  # [B, K] centre and radius
    bodies: wp.array2d(dtype=Body)  # [B, K]
    materials: wp.array2d(dtype=Material)  # [B, M]
    lamps: wp.array2d(dtype=Lamp)  # [B, L]
    views: wp.array2d(dtype=View)  # [B, S]
    texels: wp.array3d(dtype=wp.float32)  # [3, I, N], see lorasub.scenes.images.ImageAtlas


@wp.struct
class Among:
    """The bodies that a ray may meet: the first ``many`` numbers in a row of lists."""

    lists: wp.array2d(dtype=wp.uint8)
    row: wp.int32
    many: wp.int32


def prepare(
    scenes: SceneDescription, image_size: tuple[int, int], images: ImageAtlas | None
) -> tuple[Scene, Tensor, Tensor, list[Tensor]]:
    """The scenes for the program.

    Returns:
        The scene; ``[B, K]`` uint8 numbers of the bodies that exist, and of those that cast shadows, which both come
        first in their rows; and the tensors whose memory the program reads: keep them until it has ended.
    """
    geometry, materials, lights, cameras = scenes.geometry, scenes.materials, scenes.lights, scenes.cameras
    present = geometry.kind != int(Primitive.NONE)
    opaque = materials.refraction.gather(1, geometry.surface.long()) == 0.0
    many = _used(present)
    if many > intersection.MAX_SOLIDS:
        raise ValueError(f"{many} primitives in a scene; {intersection.MAX_SOLIDS} is the most")
    lit = _used(lights.kind != int(LightKind.NONE))
    kind, size = geometry.kind[:, :many], geometry.size[:, :many]
    to_world = geometry.rotation[:, :many]
    turn = cameras.cam_from_world[..., :3].mT
    eye = -(turn @ cameras.cam_from_world[..., 3:])[..., 0]
    radius = intersection.padded(intersection.ball(kind, size))
    kept: list[Tensor] = []

    def array(dtype: Any, first: Tensor, *more: Tensor, axes: int = 2) -> Any:
        """An array with so many axes, of records whose fields stand one after the other as 32-bit numbers."""
        fields = [(f if f.is_floating_point() else f.to(torch.int32).view(torch.float32)) for f in (first, *more)]
        rows = torch.cat([field.reshape(*first.shape[:axes], -1) for field in fields], dim=-1).contiguous()
        kept.append(rows)
        return wp.array(
            ptr=rows.data_ptr(), dtype=dtype, shape=tuple(rows.shape[:-1]), device=wp.device_from_torch(rows.device)
        )

    scene = Scene()
    scene.places = array(
        Place,
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
    scene.balls = array(wp.vec4, geometry.center[:, :many], radius)
    scene.bodies = array(
        Body,
        to_world.mT / size[..., None],
        geometry.center[:, :many],
        size,
        intersection.quadrics(kind, geometry.shape[:, :many, 0]),
        geometry.shape[:, :many],
        kind,
        geometry.surface[:, :many],
    )
    scene.materials = array(
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
    scene.lamps = array(
        Lamp, lights.position[:, :lit], lights.color[:, :lit], lights.radius[:, :lit], lights.kind[:, :lit]
    )
    scene.views = array(View, turn, eye, 1.0 / cameras.intrinsics(image_size)[..., 0, 0])
    texels = world.texels_of(scenes, images)
    kept.append(turn.new_zeros(3, 1, 1) if texels is None else texels)
    scene.texels = wp.from_torch(kept[-1])

    def first(which: Tensor) -> Tensor:
        return which[:, :many].int().argsort(dim=1, descending=True, stable=True).to(torch.uint8).contiguous()

    return scene, first(present), first(present & opaque), kept


def _used(present: Tensor) -> int:
    """How many places ``present [B, K]`` uses in any scene; at least one, so that no array is empty."""
    places = present.any(0).nonzero()
    return int(places.max()) + 1 if places.numel() else 1
