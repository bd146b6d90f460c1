"""A scene description in the layout that the kernels want."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.scenes.description import LightKind, Pattern, SceneDescription
from lorasub.scenes.images import ImageAtlas
from lorasub.scenes.rendering.intersection import Solids

#: Shadow rays toward a directional light end here.
SUN_DISTANCE = 20.0


@dataclass(frozen=True, slots=True)
class World:
    """G groups of rays (the views), M surfaces, L lights; components lead.

    Attributes:
        solids: what rays can meet, the room aside.
        casters: those of them that cast shadows; clear ones do not.
        room: ``[3, G]`` half width, half depth, height.
        open: ``[G]`` bool.
        pattern: ``[G, M]`` int32.
        image: ``[G, M]`` int32.
        texels: ``[3, I, N]``, see :class:`~lorasub.scenes.images.ImageAtlas`; None if no surface shows a picture.
        colors: ``[3, 3, G, M]`` palette colour, then RGB.
        finish: ``[8, G, M]`` scale, warp, phase (3), roughness, specular, refraction.
        light_kind: ``[G, L]`` int32.
        light: ``[3, G, L]`` position or direction.
        light_color: ``[3, G, L]``.
        light_radius: ``[G, L]``.
        zenith: ``[3, G]``.
        horizon: ``[3, G]``.
        exposure: ``[G]``.
        soft: for each light whether any of them is soft.
        clear: whether anything is transparent.
    """

    solids: Solids
    casters: Solids
    room: Tensor
    open: Tensor
    pattern: Tensor
    image: Tensor
    texels: Tensor | None
    colors: Tensor
    finish: Tensor
    light_kind: Tensor
    light: Tensor
    light_color: Tensor
    light_radius: Tensor
    zenith: Tensor
    horizon: Tensor
    exposure: Tensor
    soft: tuple[bool, ...]
    clear: bool

    @classmethod
    def prepare(cls, scenes: SceneDescription, images: ImageAtlas | None = None) -> World:
        """Lay out every view of every scene as a group of its own.

        Raises:
            ConfigError: a surface shows a picture that ``images`` does not have.
        """
        views, materials, lights, geometry = scenes.num_views, scenes.materials, scenes.lights, scenes.geometry
        lit = int((lights.kind != int(LightKind.NONE)).any(0).sum())  # lights in use come first

        def groups(values: Tensor, *front: int) -> Tensor:
            values = values.repeat_interleave(views, dim=0)
            rest = [axis for axis in range(values.ndim) if axis not in front]
            return values.permute(*front, *rest).contiguous()

        finish = [
            materials.scale,
            materials.warp,
            *materials.phase.unbind(-1),
            materials.roughness,
            materials.specular,
            materials.refraction,
        ]
        solids = Solids.prepare(geometry, views)
        clear = bool((materials.refraction > 0.0).any())
        return cls(
            solids=solids,
            casters=solids.without(groups(materials.refraction > 0.0)) if clear else solids,
            room=groups(geometry.room, 1),
            open=groups(geometry.open),
            pattern=groups(materials.pattern),
            image=groups(materials.image),
            texels=texels_of(scenes, images),
            colors=groups(materials.colors, 2, 3),
            finish=groups(torch.stack(finish, dim=-1), 2),
            light_kind=groups(lights.kind[:, :lit]),
            light=groups(lights.position[:, :lit], 2),
            light_color=groups(lights.color[:, :lit], 2),
            light_radius=groups(lights.radius[:, :lit]),
            zenith=groups(lights.zenith, 1),
            horizon=groups(lights.horizon, 1),
            exposure=groups(lights.exposure),
            soft=tuple((lights.radius[:, :lit] > 0.0).any(0).tolist()),
            clear=clear,
        )


def texels_of(scenes: SceneDescription, images: ImageAtlas | None) -> Tensor | None:
    """The atlas that the scenes' pictures are in; None if no surface shows one.

    Raises:
        ConfigError: a surface shows a picture that ``images`` does not have.
    """
    shown = scenes.materials.image[scenes.materials.pattern == int(Pattern.IMAGE)]
    if not len(shown):
        return None
    if images is None or int(shown.max()) >= len(images):
        raise ConfigError(
            f"a surface shows picture {int(shown.max())}, but the renderer has {len(images or ())} of them: give it "
            "the scenes' own, Renderer(..., images=scene_images(sampler))"
        )
    return images.texels
