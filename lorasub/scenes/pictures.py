"""Makes batches of rendered scenes, and the atlas of pictures that their surfaces show."""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor

from lorasub.scenes.description import SceneDescription
from lorasub.scenes.images import ATLAS_SIZE, ImageAtlas
from lorasub.scenes.portraits import PORTRAIT_SURFACES
from lorasub.scenes.presets import SceneSampler
from lorasub.scenes.rendering.renderer import Layers, Renderer
from lorasub.structures import SceneBatch


def scene_images(sampler: SceneSampler) -> ImageAtlas | None:
    """The pictures that a sampler's surfaces show; None if they show none.

    Those of the preset ``planar`` are photographs of other heads, rendered here: the same ones for every stream of a
    data set, about as many a second as other views.

    Raises:
        DataError: a folder of images cannot be used.
    """
    ranges = sampler.drawn_from
    if sampler.attribute == "planar":
        return _photographs(dataclasses.replace(sampler, stream="photographs", num_views=1))
    return None if ranges.texture.images is None else ImageAtlas.from_folder(ranges.texture.images)


def scene_batch(scenes: SceneDescription, layers: Layers) -> SceneBatch:
    """Described and rendered scenes as a batch, with labels, and masks of the objects that a preset is about.

    Those are heads and cards where scenes have labels, else the objects of glass, if there are any.
    """
    surface = layers.object_id.clamp(min=0).long()
    masks: Tensor | None = None
    if scenes.labels is not None:
        masks = (surface >= PORTRAIT_SURFACES.start) & (surface < PORTRAIT_SURFACES.stop)
    elif bool((scenes.materials.refraction > 0).any()):
        clear = scenes.materials.refraction > 0  # [B, M]
        masks = clear.gather(1, surface.flatten(1)).reshape(surface.shape) & layers.valid
    return layers.to_batch(scenes.scene_ids).replace(labels=scenes.labels, object_masks=masks)


@functools.lru_cache(maxsize=4)
def _photographs(sampler: SceneSampler) -> ImageAtlas:
    many = sampler.drawn_from.portrait.photographs
    views: list[Tensor] = []
    blank = ImageAtlas.of(torch.zeros(many, 3, ATLAS_SIZE, ATLAS_SIZE))  # cards in the same batch are thrown away
    renderer = Renderer((ATLAS_SIZE, ATLAS_SIZE), antialias=False, shadow_samples=1, images=blank)
    start = 0
    while len(views) < many:
        scenes = sampler.sample(range(start, start + 16))
        assert scenes.labels is not None
        real = scenes[scenes.labels.nonzero().flatten().tolist()]
        views += list(renderer.render(real).rgb[:, 0])
        start += 16
    return ImageAtlas.of(torch.stack(views[:many]))
