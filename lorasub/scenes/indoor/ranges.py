"""The ranges that the preset ``indoor`` is drawn from; lengths are metres."""

from __future__ import annotations

from dataclasses import dataclass

from lorasub.errors import ConfigError

Range = tuple[float, float]

#: Half the side of the square that is left free in every room.
FREE = 0.33
#: Places for furniture along a wall, and small things in a scene, at most.
PLACES, MOST_SMALL = 3, 26
LEAST_ROOM, LEAST_HEIGHT = 1.2, 2.3


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

    Raises:
        ConfigError: a share outside of [0, 1], a range the wrong way round, or a room in which no camera can stand.
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

    def __post_init__(self) -> None:
        for name in ("hanging", "centre", "close", "facade", "surface", "circling", "panning"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"IndoorRanges.{name} is {getattr(self, name)}; it is a share, between 0 and 1")
        if self.close + self.facade > 1.0:
            raise ConfigError(f"close is {self.close} and facade is {self.facade}; together they are at most 1")
        for name in ("room", "height", "gap", "camera_height", "fov", "baseline", "turn", "near", "before", "around"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high:
                raise ConfigError(f"IndoorRanges.{name} is {(low, high)}; it must be two numbers, 0 < low <= high")
        for name, limits, most in (("filled", self.filled, PLACES), ("small", self.small, MOST_SMALL)):
            if not 0 <= limits[0] <= limits[1] <= most:
                raise ConfigError(
                    f"IndoorRanges.{name} is {tuple(limits)}; it is a range of numbers within 0 to {most}"
                )
        if not 0.0 < self.clearance < FREE:
            raise ConfigError(
                f"clearance is {self.clearance}; it must be between 0 and {FREE}, half of the free square"
            )
        if self.room[0] < LEAST_ROOM or self.height[0] < LEAST_HEIGHT:
            raise ConfigError(
                f"room is {self.room} and height is {self.height}; rooms are at least {LEAST_ROOM} from the middle to "
                f"each wall and {LEAST_HEIGHT} high"
            )
