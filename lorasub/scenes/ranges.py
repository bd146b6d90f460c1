"""The ranges that scenes are drawn from. Every one is a configuration value; lengths are in world units.

Objects stand within :data:`LAYOUT_RADIUS` of the origin and cameras outside of it, inside the room: the attributes can
then be drawn independently without a camera ever being inside an object or behind a wall.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lorasub.scenes.indoor.ranges import IndoorRanges
from lorasub.scenes.shapes import RECIPES, Shape

Range = tuple[float, float]
#: The four parts of a scene that are drawn independently; each is a field of :class:`SceneRanges`.
Attribute = Literal["geometry", "texture", "camera", "lighting"]

#: No object reaches farther from the origin, sideways, than this.
LAYOUT_RADIUS = 2.2
#: Cameras stay within these distances from the origin, sideways.
CAMERA_SHELL: Range = (2.45, 3.4)
#: Cameras and lamps stay below; rooms are higher.
HEADROOM = 2.6


@dataclass(frozen=True, kw_only=True)
class GeometryRanges:
    """Shapes, sizes and layout.

    Attributes:
        count: number of objects.
        radius: half width of an object.
        aspect: height of an object over its width.
        elongation: depth of an object over its width.
        tilt: angle between an object's axis and the vertical, radians.
        shapes: which objects occur: names of :data:`~lorasub.scenes.shapes.RECIPES`, and shapes of your own.
        floating: share of objects that hang in the air, and how high they do.
        room: half width and half depth of the room.
        height: of the room.
        open: share of scenes on open ground.
    """

    count: tuple[int, int] = (5, 25)
    radius: Range = (0.14, 0.5)
    aspect: Range = (0.5, 1.8)
    elongation: Range = (0.6, 1.0)
    tilt: Range = (0.0, 0.6)
    shapes: tuple[str | Shape, ...] = tuple(RECIPES)
    floating: float = 0.15
    elevation: Range = (0.2, 1.0)
    room: Range = (3.7, 5.5)
    height: Range = (2.8, 4.0)
    open: float = 0.35


@dataclass(frozen=True, kw_only=True)
class TextureRanges:
    """Materials.

    Attributes:
        patterns: which textures occur; ``image`` takes pictures from a folder.
        images: that folder. A picture is six times as wide as a feature of ``scale``.
        scale: size of one feature.
        warp: how far noise bends a pattern, in features.
        hue: of the palette's first colour, in turns.
        saturation: of the palette's colours.
        value: of the palette's colours (the V of HSV).
        roughness: width of the highlight.
        specular: strength of the highlight.
        clear: share of objects that are of glass.
        refraction: refractive index of glass.
    """

    patterns: tuple[str, ...] = (
        "plain",
        "noise",
        "cells",
        "checker",
        "stripes",
        "dots",
        "wood",
        "marble",
        "gradient",
    )
    images: str | None = None
    scale: Range = (0.06, 0.6)
    warp: Range = (0.0, 1.0)
    hue: Range = (0.0, 1.0)
    saturation: Range = (0.05, 0.85)
    value: Range = (0.15, 0.95)
    roughness: Range = (0.15, 0.9)
    specular: Range = (0.0, 0.4)
    clear: float = 0.0
    refraction: Range = (1.3, 1.6)


@dataclass(frozen=True, kw_only=True)
class LightingRanges:
    """Lights.

    Attributes:
        count: number of lights.
        directional: share of lights that are directional.
        elevation: angle above the horizon, radians.
        distance: of point lights, sideways from the origin.
        lamp_height: of point lights.
        intensity: of each light before all are scaled to the same sum.
        temperature: colour temperature in kelvin.
        soft: share of lights with a radius.
        radius: of soft lights.
        ambient: strength of the sky's light.
        exposure: factor before the tone curve.
    """

    count: tuple[int, int] = (1, 4)
    directional: float = 0.4
    elevation: Range = (0.35, 1.45)
    distance: Range = (0.3, 3.0)
    lamp_height: Range = (1.7, 2.6)
    intensity: Range = (0.4, 1.0)
    temperature: Range = (2800.0, 11000.0)
    soft: float = 0.5
    radius: Range = (0.05, 0.3)
    ambient: Range = (0.08, 0.5)
    exposure: Range = (0.7, 1.5)


@dataclass(frozen=True, kw_only=True)
class CameraRanges:
    """Cameras.

    Attributes:
        paths: which camera paths occur.
        azimuth: of the first view around the scene, radians.
        arc: angle that an orbit sweeps in all, radians.
        step: largest angle between neighbouring views, radians; what guarantees overlap.
        distance: sideways from the origin.
        height: above the floor.
        target: how far sideways from the origin the point is that the camera looks at.
        target_height: of that point above the floor.
        fov: vertical field of view, radians.
        roll: rotation about the viewing axis, radians.
        tremor: length of the steps of a hand-held camera.
    """

    paths: tuple[str, ...] = ("orbit", "arc", "dolly", "look_around", "random_walk", "micro")
    azimuth: Range = (0.0, 6.2832)
    arc: Range = (0.25, 1.9)
    step: float = 0.5
    distance: Range = CAMERA_SHELL
    height: Range = (0.35, 2.3)
    target: Range = (0.0, 0.7)
    target_height: Range = (0.2, 0.7)
    fov: Range = (0.7, 1.25)
    roll: Range = (-0.25, 0.25)
    tremor: Range = (0.004, 0.03)


@dataclass(frozen=True, kw_only=True)
class PortraitRanges:
    """Heads, and photographs of them, in the preset ``planar``; other presets have none.

    Attributes:
        head: half height of a head.
        proportions: factors on its length, width and height.
        features: factors on the sizes of nose, eyes, brows, lips, ears and so on.
        height: of the middle of the head or the card above the floor.
        yaw: turn of the head about the vertical, radians; 0 looks at the cameras.
        pitch: nod, radians.
        roll: tilt to the side, radians.
        card: half width of a photograph, one value because materials have to fit to it.
        card_turn: yaw, pitch and roll of a card, radians.
        photographs: how many there are; each is a view of another head, rendered before the first scene.
    """

    head: float = 0.48
    proportions: Range = (0.9, 1.1)
    features: Range = (0.85, 1.15)
    height: Range = (1.35, 1.45)
    yaw: Range = (-0.4, 0.4)
    pitch: Range = (-0.15, 0.15)
    roll: Range = (-0.12, 0.12)
    card: float = 0.62
    card_turn: Range = (-0.2, 0.2)
    photographs: int = 64


@dataclass(frozen=True, kw_only=True)
class SceneRanges:
    """The ranges of all four attributes, and of what only one preset has."""

    geometry: GeometryRanges = field(default_factory=GeometryRanges)
    texture: TextureRanges = field(default_factory=TextureRanges)
    camera: CameraRanges = field(default_factory=CameraRanges)
    lighting: LightingRanges = field(default_factory=LightingRanges)
    portrait: PortraitRanges = field(default_factory=PortraitRanges)
    indoor: IndoorRanges = field(default_factory=IndoorRanges)


#: Shapes of glass: single solids with closed forms, inside of which rays are followed.
CLEAR_SHAPES = ("sphere", "box", "cylinder", "cone", "frustum")
#: Ranges of the presets that have their own.
PRESET_RANGES: dict[str, SceneRanges] = {
    "planar": SceneRanges(
        geometry=GeometryRanges(count=(6, 14), open=0.15, floating=0.0),
        camera=CameraRanges(
            paths=("micro",),
            azimuth=(-0.35, 0.35),
            distance=(2.45, 3.2),
            height=(1.3, 1.6),
            target=(0.0, 0.12),
            target_height=(1.32, 1.42),
            fov=(0.38, 0.72),
            roll=(-0.1, 0.1),
            tremor=(0.02, 0.06),
        ),
    ),
    "transparent": SceneRanges(
        geometry=GeometryRanges(count=(5, 14), radius=(0.2, 0.5), shapes=CLEAR_SHAPES, floating=0.0),
        texture=TextureRanges(clear=0.6),
    ),
}
