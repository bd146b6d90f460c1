"""The presets ``planar`` and ``transparent``: flat is flat, glass has the depth of glass, labels and masks say so."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.scenes.description import FIRST_OBJECT, SceneDescription
from lorasub.scenes.pictures import scene_batch, scene_images
from lorasub.scenes.portraits import Part
from lorasub.scenes.presets import SceneSampler
from lorasub.scenes.ranges import (
    PRESET_RANGES,
    CameraRanges,
    GeometryRanges,
    PortraitRanges,
    SceneRanges,
    TextureRanges,
)
from lorasub.scenes.rendering.renderer import Layers, Renderer

FEW = dataclasses.replace(PRESET_RANGES["planar"], portrait=PortraitRanges(photographs=2))


@pytest.fixture(scope="module")
def planar() -> tuple[SceneDescription, Layers]:
    sampler = SceneSampler(attribute="planar", num_views=2, ranges=FEW)
    scenes = sampler.sample(range(10))
    renderer = Renderer((42, 42), antialias=False, shadow_samples=1, images=scene_images(sampler))
    return scenes, renderer.render(scenes)


def off_plane(points: Tensor) -> float:
    """Standard deviation of points ``[N, 3]`` across the plane that fits them best, in world units."""
    return float(torch.linalg.svdvals(points.double() - points.double().mean(0))[-1]) / len(points) ** 0.5


def test_cards_are_flat_and_heads_are_not(planar: tuple[SceneDescription, Layers]) -> None:
    scenes, seen = planar
    assert scenes.labels is not None
    assert {0, 1} == set(scenes.labels.tolist())
    for index, label in enumerate(scenes.labels.tolist()):
        for view in range(2):
            surface = seen.object_id[index, view] - FIRST_OBJECT
            card, skin = surface == Part.CARD, surface == Part.SKIN
            part = skin if label else card
            assert float(part.float().mean()) > 0.08, (index, view)
            assert not bool((card if label else skin).any())
            depth_across = off_plane(seen.world_points[index, view][part])
            assert depth_across > 0.04 if label else depth_across < 5e-3


def test_labels_are_a_function_of_the_index_and_about_half() -> None:
    sampler = SceneSampler(attribute="planar", num_views=1)
    labels = sampler.sample(range(200)).labels
    assert labels is not None
    assert 70 < int(labels.sum()) < 130
    again = sampler.sample([41, 3]).labels
    assert again is not None
    assert again.tolist() == [labels[41], labels[3]]


def test_labels_and_masks_reach_the_batch(planar: tuple[SceneDescription, Layers]) -> None:
    scenes, seen = planar
    batch = scene_batch(scenes, seen)
    assert batch.labels is not None
    assert batch.labels.tolist() == (scenes.labels.tolist() if scenes.labels is not None else None)
    assert batch.object_masks is not None
    inside = seen.object_id[batch.object_masks]
    assert int(inside.min()) >= FIRST_OBJECT
    assert int(inside.max()) < FIRST_OBJECT + len(Part)
    outside = seen.object_id[~batch.object_masks]
    assert not bool(((outside >= FIRST_OBJECT) & (outside < FIRST_OBJECT + len(Part))).any())


def test_planar_baselines_are_a_hand_tremor() -> None:
    pose = SceneSampler(attribute="planar", num_views=4).sample(range(8)).cameras.cam_from_world
    eye = -torch.einsum("bsji,bsj->bsi", pose[..., :3], pose[..., 3])
    apart = (eye - eye[:, :1]).norm(dim=-1)[:, 1:]
    assert float(apart.min()) > 0.002
    assert float(apart.max()) < 0.25  # a tenth of the distance


def test_photographs_show_heads(planar: tuple[SceneDescription, Layers]) -> None:
    images = scene_images(SceneSampler(attribute="planar", num_views=5, stream="validation", ranges=FEW))
    assert images is not None
    assert len(images) == 2
    again = scene_images(SceneSampler(attribute="planar", ranges=FEW))
    assert again is images  # one data set, one set of photographs
    assert float(images.texels[..., :1024].std()) > 0.02


def test_labels_survive_slicing_joining_and_json(planar: tuple[SceneDescription, Layers]) -> None:
    scenes, _ = planar
    assert scenes.labels is not None
    joined = SceneDescription.concatenate([scenes[:3], scenes[[4, 3]]])
    assert joined.labels is not None
    assert joined.labels.tolist() == scenes.labels[[0, 1, 2, 4, 3]].tolist()
    back = SceneDescription.from_json(joined.to_json())
    assert back.labels is not None
    assert torch.equal(back.labels, joined.labels)


def test_glass_is_masked_and_has_the_depth_of_its_surface() -> None:
    scenes = SceneSampler(attribute="transparent", num_views=2).sample(range(4))
    renderer = Renderer((42, 42), antialias=False, shadow_samples=1)
    seen = renderer.render(scenes)
    materials = scenes.materials
    solid = scenes.replace(materials=dataclasses.replace(materials, refraction=torch.zeros_like(materials.refraction)))
    opaque = renderer.render(solid)
    assert torch.equal(seen.depth, opaque.depth)
    assert torch.equal(seen.object_id, opaque.object_id)
    batch = scene_batch(scenes, seen)
    assert batch.labels is None
    assert batch.object_masks is not None
    assert float(batch.object_masks.float().mean()) > 0.03
    index = seen.object_id.clamp(min=0).long()
    for scene in range(4):
        assert torch.equal(batch.object_masks[scene], materials.refraction[scene][index[scene]] > 0)
    # glass shows something else than its own surface; no other direct view changes
    changed = (seen.rgb - opaque.rgb).abs().amax(2) > 0.02
    assert float(changed[batch.object_masks].float().mean()) > 0.7
    assert scene_batch(solid, opaque).object_masks is None


def test_wrong_ranges_are_told_in_words() -> None:
    with pytest.raises(ConfigError, match=r"shapes has \['torus'\], which cannot be of glass"):
        SceneSampler(
            attribute="all",
            ranges=SceneRanges(geometry=GeometryRanges(shapes=("torus", "box")), texture=TextureRanges(clear=0.2)),
        )
    crowded = SceneRanges(geometry=GeometryRanges(count=(5, 25)), camera=CameraRanges(paths=("micro",)))
    with pytest.raises(ConfigError, match="around a portrait there are at most 17"):
        SceneSampler(attribute="planar", ranges=crowded).sample([0])
