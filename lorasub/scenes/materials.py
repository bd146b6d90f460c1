"""Draws materials."""

from __future__ import annotations

import numpy as np

from lorasub.errors import ConfigError
from lorasub.scenes.color import hsv_to_linear_rgb
from lorasub.scenes.description import FIRST_OBJECT, Materials, Pattern
from lorasub.scenes.geometry import MAX_OBJECTS
from lorasub.scenes.images import list_images
from lorasub.scenes.ranges import TextureRanges
from lorasub.scenes.streams import Draws

NUM_SURFACES = FIRST_OBJECT + MAX_OBJECTS
#: Numbers that :func:`draw_materials` takes from its stream.
MATERIAL_DRAWS = 24 * NUM_SURFACES
#: Width of a picture in features: what is worth looking at is wider than a stripe.
_PICTURE = 6.0


def draw_materials(draws: Draws, ranges: TextureRanges) -> Materials:
    """A material for every surface: floor, walls, ceiling and each object.

    Raises:
        ConfigError: an unknown pattern, or pictures without a folder.
        DataError: the folder of pictures cannot be used.
    """
    unknown = sorted(set(ranges.patterns) - {pattern.name.lower() for pattern in Pattern})
    if unknown or not ranges.patterns:
        raise ConfigError(f"unknown patterns {unknown}; choose from {[pattern.name.lower() for pattern in Pattern]}")
    if ("image" in ranges.patterns) != (ranges.images is not None):
        raise ConfigError(
            f"patterns are {list(ranges.patterns)} and images is {ranges.images}: the pattern 'image' and the folder "
            "that it takes pictures from go together"
        )
    many = NUM_SURFACES
    codes = np.array([int(Pattern[name.upper()]) for name in ranges.patterns])
    pattern = codes[draws.choice(len(codes), many)]
    scale = draws.log_uniform(ranges.scale, many)
    warp = draws.uniform(ranges.warp, many)
    phase = draws.uniform((0.0, 8.0), many, 3)
    # related hues look designed, unrelated ones look like noise: the second and third colour stay near the first, or
    # near its complement
    hue = draws.uniform(ranges.hue, many, 1) + np.concatenate(
        [np.zeros_like(scale)[..., None], draws.uniform((-0.12, 0.12), many, 2)], axis=-1
    )
    hue[..., 1] += 0.5 * draws.chance(0.3, many)
    saturation = draws.uniform(ranges.saturation, many, 3)
    value = draws.uniform(ranges.value, many, 3)
    roughness = draws.uniform(ranges.roughness, many)
    specular = draws.uniform(ranges.specular, many)
    clear = draws.chance(ranges.clear, many)
    clear[:, :FIRST_OBJECT] = False
    index = draws.uniform(ranges.refraction, many)
    image = np.zeros_like(pattern)
    if ranges.images is not None:
        image = draws.choice(len(list_images(ranges.images)), many)
    shows = pattern == int(Pattern.IMAGE)
    scale = np.where(shows, _PICTURE * scale, scale)
    # glass is hardly tinted, and shiny
    pattern = np.where(clear, int(Pattern.PLAIN), pattern)
    saturation = np.where(clear[..., None], 0.15 * saturation, saturation)
    value = np.where(clear[..., None], 0.85 + 0.15 * value, value)
    specular, roughness = np.where(clear, 0.5, specular), np.where(clear, 0.12, roughness)
    scale[:, :FIRST_OBJECT] *= 1.8  # floors and walls are seen from farther away
    specular[:, FIRST_OBJECT - 2 : FIRST_OBJECT] *= 0.2

    return Materials.of(
        pattern=pattern,
        colors=hsv_to_linear_rgb(hue, saturation, value),
        scale=scale,
        warp=warp,
        phase=phase,
        image=np.where(shows, image, 0),
        roughness=roughness,
        specular=specular,
        refraction=np.where(clear, index, 0.0),
    )
