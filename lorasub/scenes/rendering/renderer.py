"""Renders described scenes: colour, and everything that is known exactly about each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.scenes.description import SceneDescription
from lorasub.scenes.images import ImageAtlas
from lorasub.scenes.rendering.launch import trace
from lorasub.structures import SceneBatch

#: Where in the pixel the further colour samples of edge pixels lie, (x, y) from its centre, which is a sample too.
_EDGE_SAMPLES = ((-0.3, -0.15), (0.3, 0.15))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Rendered layers of B scenes, S views, H x W pixels.

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

    A ray caster: one program per pixel, compiled by NVIDIA Warp for the CPU or a GPU. The first use on a machine
    compiles for some twenty seconds and is remembered; it needs no network.

    Args:
        image_size: (H, W) in pixels.
        antialias: take more colour samples where two surfaces meet within a pixel.
        shadow_samples: shadow rays toward each soft light.
        images: the pictures that surfaces may show, see :func:`~lorasub.scenes.images.scene_images`.

    Examples:
        >>> from lorasub.scenes.presets import SceneSampler
        >>> scenes = SceneSampler(attribute="all", num_views=2).sample([0])
        >>> Renderer((28, 42)).render(scenes).depth.shape
        torch.Size([1, 2, 28, 42])
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        antialias: bool = True,
        shadow_samples: int = 4,
        images: ImageAtlas | None = None,
    ) -> None:
        self.image_size = image_size
        self.antialias = antialias
        self.shadow_samples = shadow_samples
        self.images = images

    @torch.no_grad()
    def render(self, scenes: SceneDescription) -> Layers:
        """Render every view of every scene.

        Raises:
            ConfigError: a surface shows a picture that ``images`` does not have, or a scene has too many bodies.
        """
        if self.images is not None:
            self.images = self.images.to(scenes.cameras.fov.device)
        hits = trace(
            scenes,
            self.image_size,
            shadow_samples=self.shadow_samples,
            edge_samples=_EDGE_SAMPLES if self.antialias else (),
            images=self.images,
        )
        return Layers(
            rgb=hits.rgb.mul_(255.0).round_().div_(255.0),
            depth=hits.depth,
            valid=hits.surface >= 0,
            normals=hits.normal,
            world_points=hits.point,
            object_id=hits.surface,
            albedo=hits.albedo,
            shading=hits.shading,
            intrinsics=scenes.cameras.intrinsics(self.image_size),
            cam_from_world=scenes.cameras.cam_from_world,
        )
