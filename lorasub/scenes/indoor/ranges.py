"""The ranges that the preset ``indoor`` is drawn from; lengths are metres."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class IndoorRanges:
    """Rooms, what stands in them, and cameras inside.

    Attributes:
        room: half width and half depth of a room.
        height: of a room.
        filled: how many pieces stand along a wall.
        crooked: yaw of a piece against its wall, radians.
        gap: between a piece and its wall.
        hanging: share of places along a wall with something on the wall.
        centre: share of rooms with something in the middle.
        small: number of small things that stand on others.
        clearance: least distance of a camera from everything; from close by, half as much.
        close: share of scenes that look at shelves and table tops from close by.
        facade: share of scenes that show a wall from outside instead of a room.
        surface: share of scenes in which the wall and what stands along it fill the view.
        circling: share of the other scenes in which the cameras circle a piece.
        panning: share of the other scenes in which the cameras mostly turn.
        camera_height: above the floor.
        pitch: mean and standard deviation, radians; negative looks down.
        roll: standard deviation, radians.
        fov: vertical field of view, radians.
        baseline: distance of neighbouring views over the median depth.
        turn: angle between neighbouring views of a panning camera, radians.
        near: distance from which small things are seen.
        before: distance from which facades are seen.
        around: distance from a piece at which cameras circle it.
    """

    room: Range = (1.2, 3.5)
    height: Range = (2.3, 3.2)
    filled: tuple[int, int] = (1, 3)
    crooked: float = 0.087
    gap: Range = (0.002, 0.03)
    hanging: float = 0.6
    centre: float = 0.65
    small: tuple[int, int] = (8, 26)
    clearance: float = 0.22
    close: float = 0.22
    facade: float = 0.08
    surface: float = 0.12
    circling: float = 0.25
    panning: float = 0.3
    camera_height: Range = (0.8, 1.8)
    pitch: tuple[float, float] = (-0.28, 0.2)
    roll: float = 0.06
    fov: Range = (0.65, 1.15)
    baseline: Range = (0.02, 0.4)
    turn: Range = (0.09, 0.44)
    near: Range = (0.3, 1.0)
    before: Range = (1.8, 7.0)
    around: Range = (0.6, 2.0)
