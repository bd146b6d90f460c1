"""Puts an indoor scene together: large pieces, small things on them, then materials, lights and cameras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorasub.scenes.description import FIRST_OBJECT, Geometry, Primitive, SceneDescription
from lorasub.scenes.geometry import turn_about_z
from lorasub.scenes.indoor.cameras import CAMERA_DRAWS, draw_indoor_cameras
from lorasub.scenes.indoor.facades import draw_facade
from lorasub.scenes.indoor.interior import CATALOGUE, CENTRE_SLOTS, MAX_SOLIDS, Interior, Objects
from lorasub.scenes.indoor.layout import draw_centre, draw_small, draw_walls, supports_of
from lorasub.scenes.indoor.lights import LIGHT_DRAWS, draw_indoor_lights
from lorasub.scenes.indoor.materials import MATERIAL_DRAWS, draw_indoor_materials
from lorasub.scenes.indoor.ranges import IndoorRanges
from lorasub.scenes.streams import Array, BoolArray, Draws

#: Numbers that a room takes from its stream at most.
GEOMETRY_DRAWS = 1500
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
    shapes, interior = _draw_interior(geometry, ranges)
    return SceneDescription(
        geometry=shapes,
        materials=draw_indoor_materials(texture, interior),
        lights=draw_indoor_lights(lighting, interior),
        cameras=draw_indoor_cameras(camera, ranges, interior, num_views),
        scene_ids=scene_ids,
    )


def _draw_interior(draws: Draws, ranges: IndoorRanges) -> tuple[Geometry, Interior]:
    """Rooms and what is in them, for the renderer and for those who place cameras and lights in them."""
    half = draws.uniform(ranges.room, 2)
    height = draws.uniform(ranges.height)
    setting = draws.uniform((0.0, 1.0))
    facade = setting < ranges.facade
    close = ~facade & (setting < ranges.facade + ranges.close)
    across = draws.chance(0.4) & close  # over a table in the middle, with the room behind it
    standing, hanging, depths = draw_walls(draws, ranges, half, height, close)
    centre, spot = draw_centre(draws, ranges, half, depths, across)
    outdoors, free, above, face = draw_facade(draws)
    large = Objects.join(standing, hanging, centre).where(facade, outdoors).limited(MAX_SOLIDS)
    half = np.where(facade[:, None], free, half)
    height = np.where(facade, above, height)
    spot = np.where(facade[:, None], [0.0, 1.0], spot)
    across &= large.present[:, CENTRE_SLOTS.start]
    supports = supports_of(large, height, np.where(across, CENTRE_SLOTS.start, 0), close)
    small = draw_small(draws, ranges, supports)
    objects = Objects.join(large, small).limited(MAX_SOLIDS)
    geometry, low, high = _solids_of(objects, half, height, facade)
    return geometry, Interior(half, height, close, facade, face, large, objects.kind, supports, low, high, spot, depths)


def _solids_of(objects: Objects, half: Array, height: Array, outdoors: BoolArray) -> tuple[Geometry, Array, Array]:
    """The solids of all objects, and the boxes around them."""
    batch = len(objects.kind)
    rows = np.arange(batch)[:, None]
    each = np.where(objects.present[..., None], CATALOGUE.kind[objects.kind], int(Primitive.NONE))
    pieces = each.shape[-1]
    kind = each.reshape(batch, -1)
    front = np.argsort(kind == int(Primitive.NONE), axis=-1, kind="stable")[:, :MAX_SOLIDS]  # used places first
    kind = kind[rows, front]
    owner, piece = front // pieces, front % pieces
    what, yaw, wide = objects.kind[rows, owner], objects.yaw[rows, owner], objects.half[rows, owner]
    inside = CATALOGUE.center_a[what, piece] * wide + CATALOGUE.center_b[what, piece]
    size = CATALOGUE.size_a[what, piece] * wide + CATALOGUE.size_b[what, piece]
    up = CATALOGUE.up[what, piece]
    size = np.maximum((np.abs(up).swapaxes(-1, -2) @ size[..., None])[..., 0], 5e-4)  # along the primitive's axes
    turn = turn_about_z(yaw)
    center = objects.center[rows, owner] + (turn @ inside[..., None])[..., 0]
    rotation = turn @ up
    extent = (np.abs(rotation) @ size[..., None])[..., 0]
    used = (kind != int(Primitive.NONE))[..., None]
    low, high = np.where(used, center - extent, 1e3), np.where(used, center + extent, -1e3)

    geometry = Geometry.of(
        kind=kind,
        center=center,
        rotation=rotation,
        size=size,
        shape=CATALOGUE.shape[what, piece],
        surface=FIRST_OBJECT + 2 * owner + CATALOGUE.accent[what, piece],
        room=np.concatenate([half, height[:, None]], axis=-1),
        open=outdoors,
    )
    return geometry, low, high
