"""Puts the parts of an indoor scene together."""

from __future__ import annotations

from collections.abc import Sequence

from lorasub.scenes.description import SceneDescription
from lorasub.scenes.indoor.cameras import CAMERA_DRAWS, draw_indoor_cameras
from lorasub.scenes.indoor.layout import GEOMETRY_DRAWS, draw_interior
from lorasub.scenes.indoor.lights import LIGHT_DRAWS, draw_indoor_lights
from lorasub.scenes.indoor.materials import MATERIAL_DRAWS, draw_indoor_materials
from lorasub.scenes.indoor.ranges import IndoorRanges
from lorasub.scenes.streams import Draws

#: Numbers that geometry, texture, camera and lighting take from their streams at most.
INDOOR_DRAWS = (GEOMETRY_DRAWS, MATERIAL_DRAWS, CAMERA_DRAWS, LIGHT_DRAWS)


def draw_indoor(
    draws: Sequence[Draws], ranges: IndoorRanges, num_views: int, scene_ids: tuple[str, ...]
) -> SceneDescription:
    """Rooms seen from inside.

    Each attribute has its own stream, but cameras, lights and materials are placed with regard to the room: another
    camera stream gives other views of the same room.

    Args:
        draws: of geometry, texture, camera and lighting.
        ranges: what is drawn from.
        num_views: views per scene.
        scene_ids: one name per scene.
    """
    geometry, texture, camera, lighting = draws
    shapes, interior = draw_interior(geometry, ranges)
    return SceneDescription(
        geometry=shapes,
        materials=draw_indoor_materials(texture, interior),
        lights=draw_indoor_lights(lighting, interior),
        cameras=draw_indoor_cameras(camera, ranges, interior, num_views),
        scene_ids=scene_ids,
    )
