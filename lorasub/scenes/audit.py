"""Measures the variation of each attribute, so that "only geometry varies" is a number.

The four parts of a description are drawn independently, so one can be exchanged between two scenes while everything
else stays. The change that this makes, in the layer that the attribute alone is responsible for, is its variation:

=========  =============================================================================================
geometry   mean absolute difference of log depth; where only one of the two has a surface, log 2
texture    mean absolute difference of albedo
lighting   mean absolute difference of the diffuse light, over its mean
camera     angle between the views, plus the distance of their centres over their distance from the scene,
           plus the difference of their fields of view; radians, mean over views
=========  =============================================================================================

Units differ, so each is divided by what it is when that attribute is drawn from its whole range: 1 is as varied as the
ranges allow, 0 is constant. Each quotient compares like with like, and the quotients can be compared with each other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.geometry import camera_centers, rotation_angle
from lorasub.scenes.description import Cameras, SceneDescription
from lorasub.scenes.pictures import scene_images
from lorasub.scenes.presets import ATTRIBUTES, Preset, SceneSampler, Spreads
from lorasub.scenes.ranges import Attribute
from lorasub.scenes.rendering.renderer import Layers, Renderer
from lorasub.scenes.streams import Spread

_PART: dict[Attribute, str] = {
    "geometry": "geometry",
    "texture": "materials",
    "camera": "cameras",
    "lighting": "lights",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The variation of each attribute in one preset.

    Attributes:
        preset: attribute and design, such as ``geometry within``.
        images: attribute to variation as the images show it, see the module; 1 is the whole range.
        parameters: attribute to variation of its parameters: their standard deviation over scenes, over that of the
            whole range, averaged over all parameters.
        scenes: how many scenes were compared.
    """

    preset: str
    images: Mapping[Attribute, float]
    parameters: Mapping[Attribute, float]
    scenes: int

    def dominance(self, attribute: Attribute) -> float:
        """The attribute's variation over the largest of the others', in the images."""
        others = max(value for name, value in self.images.items() if name != attribute)
        return self.images[attribute] / max(others, 1e-9)


def audit(sampler: SceneSampler, *, num_scenes: int = 16, image_size: tuple[int, int] = (56, 56)) -> Audit:
    """Measure how much each attribute varies between a sampler's scenes.

    Args:
        sampler: what to measure.
        num_scenes: scenes ``0 .. num_scenes - 1`` are compared, each with the next.
        image_size: (H, W) of the pictures that are compared.

    Raises:
        ConfigError: fewer than two scenes.
    """
    if num_scenes < 2:
        raise ConfigError(f"num_scenes is {num_scenes}; an audit compares at least two scenes")
    whole = Spread(1.0, 1.0)
    # presets in which everything varies are compared with the whole of their own ranges
    preset: Preset = "all" if sampler.attribute in ATTRIBUTES else sampler.attribute
    reference = dataclasses.replace(sampler, attribute=preset, spreads=Spreads(moderate=whole))
    renderer = Renderer(image_size, antialias=False, images=scene_images(sampler))
    found, widest = (_variation(one.sample(range(num_scenes)), renderer) for one in (sampler, reference))
    return Audit(
        preset=f"{sampler.attribute} {sampler.design}",
        images={name: found[0][name] / max(widest[0][name], 1e-9) for name in ATTRIBUTES},
        parameters={name: _mean_ratio(found[1][name], widest[1][name]) for name in ATTRIBUTES},
        scenes=num_scenes,
    )


def _variation(scenes: SceneDescription, renderer: Renderer) -> tuple[dict[Attribute, float], dict[Attribute, Tensor]]:
    """Change of the images per attribute, and standard deviation of every parameter."""
    order = [*range(1, len(scenes)), 0]
    base = renderer.render(scenes)
    images: dict[Attribute, float] = {}
    deviations: dict[Attribute, Tensor] = {}
    for name in ATTRIBUTES:
        part = getattr(scenes, _PART[name])
        if name == "camera":
            images[name] = _camera_change(part, part[order])
        else:
            images[name] = _layer_change(name, base, renderer.render(scenes.replace(**{_PART[name]: part[order]})))
        values = [getattr(part, field.name).reshape(len(scenes), -1).double() for field in dataclasses.fields(part)]
        deviations[name] = torch.cat(values, dim=1).std(0)
    return images, deviations


def _layer_change(attribute: Attribute, one: Layers, two: Layers) -> float:
    both, either = one.valid & two.valid, one.valid | two.valid
    if attribute == "geometry":
        change = (one.depth.clamp(min=1e-3).log() - two.depth.clamp(min=1e-3).log()).abs()
        return float(torch.where(both, change, math.log(2.0))[either].mean())
    keep = both[:, :, None].expand_as(one.albedo)
    if attribute == "texture":
        return float((one.albedo - two.albedo)[keep].abs().mean())
    mean = 0.5 * (one.shading + two.shading)[keep].mean()
    return float((one.shading - two.shading)[keep].abs().mean() / mean)


def _camera_change(one: Cameras, two: Cameras) -> float:
    pose_a, pose_b = one.cam_from_world.double(), two.cam_from_world.double()
    angle = rotation_angle(pose_a[..., :3], pose_b[..., :3])
    centre_a, centre_b = camera_centers(pose_a), camera_centers(pose_b)
    distance = (centre_a - centre_b).norm(dim=-1) / (0.5 * (centre_a.norm(dim=-1) + centre_b.norm(dim=-1)))
    return float((angle + distance + (one.fov - two.fov).abs()).mean())


def _mean_ratio(found: Tensor, widest: Tensor) -> float:
    varies = widest > 1e-6
    return float((found[varies] / widest[varies]).mean())


def contact_sheet(
    sampler: SceneSampler, *, num_scenes: int = 4, image_size: tuple[int, int] = (96, 96)
) -> npt.NDArray[np.uint8]:
    """``[num_scenes H, S W, 3]``: one row of views per scene, for a look at what a preset gives."""
    renderer = Renderer(image_size, shadow_samples=2, images=scene_images(sampler))
    images = renderer.render(sampler.sample(range(num_scenes))).rgb
    scenes, views, _, height, width = images.shape
    sheet = images.permute(0, 3, 1, 4, 2).reshape(scenes * height, views * width, 3)
    result: npt.NDArray[np.uint8] = (255.0 * sheet).round().to(torch.uint8).cpu().numpy()
    return result
