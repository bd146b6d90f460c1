"""Looks at described scenes: colour, and everything that is known exactly about each pixel."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.scenes.description import SceneDescription
from lorasub.scenes.images import ImageAtlas
from lorasub.scenes.rendering.engines import EngineName, choose_engine
from lorasub.scenes.rendering.kernels import HORIZON, tone_curve_
from lorasub.scenes.rendering.tracing import Compact, Look, look
from lorasub.scenes.rendering.vectors import rotate
from lorasub.scenes.rendering.world import World
from lorasub.structures import SceneBatch

#: Where in the pixel the further colour samples of edge pixels lie, (x, y) from its centre, which is a sample too.
_EDGE_SAMPLES = ((-0.3, -0.15), (0.3, 0.15))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What the renderer knows of B scenes, S views, H x W pixels.

    All but the colour is that of the pixel's centre.

    Attributes:
        rgb: ``[B, S, 3, H, W]`` sRGB in [0, 1], in the 256 steps of an 8-bit image.
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

    Two engines give the same pictures but for the last bits. ``warp`` is one fused program per pixel, compiled by
    NVIDIA Warp (extra ``warp``) for the CPU or a GPU; the first use on a machine takes some twenty seconds to compile.
    ``torch`` needs nothing else and is some eight times slower.

    Args:
        image_size: (H, W) in pixels.
        antialias: take more colour samples where two surfaces meet within a pixel.
        shadow_samples: shadow rays toward each soft light.
        engine: which one; ``auto``: Warp where it is installed.
        chunk: rays that the torch engine works on at a time; bounds memory, whatever the batch. None: what suits the
            device.
        images: the pictures that surfaces may show, see :func:`~lorasub.scenes.pictures.scene_images`.

    Raises:
        ConfigError: an unknown engine, or Warp is asked for and not installed.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        antialias: bool = True,
        shadow_samples: int = 4,
        engine: EngineName = "auto",
        chunk: int | None = None,
        images: ImageAtlas | None = None,
    ) -> None:
        self.image_size = image_size
        self.antialias = antialias
        self.shadow_samples = shadow_samples
        self.engine = choose_engine(engine)
        self.chunk = chunk
        self.images = images

    @torch.no_grad()
    def render(self, scenes: SceneDescription) -> Layers:
        """Render every view of every scene.

        Raises:
            ConfigError: a surface shows a picture that ``images`` does not have.
        """
        device = scenes.cameras.fov.device
        if self.images is not None:
            self.images = self.images.to(device)
        if self.engine == "warp":
            return self._render_fused(scenes)
        chunk = self.chunk or (1 << 22 if device.type == "cuda" else 1 << 18)
        height, width = self.image_size
        together = max(1, chunk // (scenes.num_views * height * width))
        parts = [self._render(scenes[first : first + together], chunk) for first in range(0, len(scenes), together)]
        return Layers(
            **{
                field.name: torch.cat([getattr(part, field.name) for part in parts])
                for field in dataclasses.fields(Layers)
            }
        )

    def _render_fused(self, scenes: SceneDescription) -> Layers:
        # Warp is an extra, and takes a second to import
        from lorasub.scenes.rendering.fused.engine import render

        offsets = _EDGE_SAMPLES if self.antialias else ()
        seen = render(scenes, self.image_size, self.shadow_samples, offsets, self.images)
        return Layers(
            rgb=seen["rgb"].mul_(255.0).round_().div_(255.0),
            depth=seen["depth"],
            valid=seen["index"] >= 0,
            normals=seen["normal"],
            world_points=seen["point"],
            object_id=seen["index"],
            albedo=seen["albedo"],
            shading=seen["shading"],
            intrinsics=scenes.cameras.intrinsics(self.image_size),
            cam_from_world=scenes.cameras.cam_from_world,
        )

    def _render(self, scenes: SceneDescription, chunk: int) -> Layers:
        height, width = self.image_size
        views, groups = scenes.num_views, len(scenes) * scenes.num_views
        world = World.prepare(scenes, self.images)
        camera = _Rays.of(scenes, self.image_size)
        pixels = torch.arange(height * width, device=camera.origin.device)
        length = max(64, chunk // groups // 64 * 64)  # whole vectors: no element is computed by another code path
        seen = Look.concatenate(
            [
                look(world, camera.origin, camera.directions(some[None]), camera.pixel, self.shadow_samples)
                for some in torch.split(pixels, length)
            ]
        )
        rgb = tone_curve_(seen.linear * world.exposure[:, None])
        if self.antialias:
            self._smooth_edges(world, camera, seen, rgb, length)

        def image(values: Tensor) -> Tensor:
            if values.ndim == 3:  # [3, G, N]
                return values.permute(1, 0, 2).reshape(len(scenes), views, 3, height, width)
            return values.reshape(len(scenes), views, height, width)

        valid = seen.depth < HORIZON
        zero = torch.zeros((), device=rgb.device)
        return Layers(
            rgb=image((255.0 * rgb).round() / 255.0),
            depth=image(torch.where(valid, seen.depth, zero)),
            valid=image(valid),
            normals=image(torch.where(valid, seen.normal, zero)).movedim(2, -1).contiguous(),
            world_points=image(torch.where(valid, seen.point, zero)).movedim(2, -1).contiguous(),
            object_id=image(torch.where(valid, seen.index, -1)),
            albedo=image(torch.where(valid, seen.albedo, zero)),
            shading=image(torch.where(valid, seen.shading, zero)),
            intrinsics=scenes.cameras.intrinsics(self.image_size),
            cam_from_world=scenes.cameras.cam_from_world,
        )

    def _smooth_edges(self, world: World, camera: _Rays, seen: Look, rgb: Tensor, length: int) -> None:
        """Average more colour samples into the pixels ``rgb [3, G, N]`` at edges, in place."""
        few = Compact.of(self._edges(seen))
        if few is None:
            return
        total = few.take(rgb)
        for some, part in zip(torch.split(few.rays, length, 1), torch.split(total, length, 2), strict=True):
            # all samples in one go: a call costs as much as some ten thousand rays
            rays = torch.cat([camera.directions(some, offset) for offset in _EDGE_SAMPLES], dim=2)
            linear = look(world, camera.origin, rays, camera.pixel, 1).linear
            colors = tone_curve_(linear * world.exposure[:, None])
            part += torch.stack(torch.split(colors, some.shape[1], 2)).sum(0)
        few.put(rgb, total / (1 + len(_EDGE_SAMPLES)))

    def _edges(self, seen: Look) -> Tensor:
        """``[G, N]`` bool: a neighbour shows another surface, or the same one at a clearly different angle."""
        height, width = self.image_size
        key = (seen.index * 256 + seen.number).reshape(-1, height, width)
        normal = seen.normal.reshape(3, -1, height, width)
        edge = torch.zeros_like(key, dtype=torch.bool)
        for axis in (1, 2):
            one, two = key.narrow(axis, 0, key.shape[axis] - 1), key.narrow(axis, 1, key.shape[axis] - 1)
            first = normal.narrow(axis + 1, 0, key.shape[axis] - 1)
            second = normal.narrow(axis + 1, 1, key.shape[axis] - 1)
            differs = (one != two) | ((first * second).sum(0) < 0.6)
            edge.narrow(axis, 0, key.shape[axis] - 1).logical_or_(differs)
            edge.narrow(axis, 1, key.shape[axis] - 1).logical_or_(differs)
        return edge.flatten(1)


@dataclass(frozen=True, slots=True)
class _Rays:
    """The rays of G views: their common origin and what their directions follow from."""

    origin: Tensor  # [3, G, 1]
    rotation: Tensor  # [3, 3, G, 1] world from camera
    pixel: Tensor  # [G] size of a pixel at depth 1
    image_size: tuple[int, int]

    @classmethod
    def of(cls, scenes: SceneDescription, image_size: tuple[int, int]) -> _Rays:
        pose = scenes.cameras.cam_from_world.flatten(0, 1)
        rotation = pose[..., :3].permute(2, 1, 0)[..., None]
        focal = scenes.cameras.intrinsics(image_size)[..., 0, 0].flatten()
        return cls(-rotate(rotation, pose[..., 3].T[..., None]), rotation, 1.0 / focal, image_size)

    def directions(self, pixels: Tensor, offset: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        """World directions ``[3, G, N]`` through pixels ``[G or 1, N]``; their z-depth is 1, so distance is depth."""
        height, width = self.image_size
        x = (pixels % width + (0.5 + offset[0] - 0.5 * width)) * self.pixel[:, None]
        y = (pixels // width + (0.5 + offset[1] - 0.5 * height)) * self.pixel[:, None]
        return rotate(self.rotation, torch.stack([x, y, torch.ones_like(x)]))
