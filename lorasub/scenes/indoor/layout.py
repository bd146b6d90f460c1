"""Draws rooms and facades: large pieces first, then small things on what has a top."""

from __future__ import annotations

import numpy as np

from lorasub.scenes.description import Geometry
from lorasub.scenes.indoor.centre import draw_centre
from lorasub.scenes.indoor.facades import draw_facade
from lorasub.scenes.indoor.interior import CENTRE_SLOTS, MAX_SOLIDS, Interior, Objects
from lorasub.scenes.indoor.ranges import IndoorRanges
from lorasub.scenes.indoor.solids import solids_of
from lorasub.scenes.indoor.tabletops import draw_small, supports_of
from lorasub.scenes.indoor.walls import draw_walls
from lorasub.scenes.streams import Draws

#: Numbers that a room takes from its stream at most.
GEOMETRY_DRAWS = 1500


def draw_interior(draws: Draws, ranges: IndoorRanges) -> tuple[Geometry, Interior]:
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
    geometry, low, high = solids_of(objects, half, height, facade)
    return geometry, Interior(half, height, close, facade, face, large, objects.kind, supports, low, high, spot, depths)
