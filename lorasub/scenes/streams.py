"""Random parameters of scenes: each scene draws from its own stream, within a window of each range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lorasub.errors import ConfigError
from lorasub.rng import Key, uniforms

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Spread:
    """Share of each range that is open to draws, around a template's place in it.

    Args:
        continuous: share of a numeric range, in [0, 1]: 1 is the whole range, 0 always gives the template's value.
        discrete: the same for counts and kinds. 0 keeps the template's.
    """

    continuous: float
    discrete: float

    def __post_init__(self) -> None:
        for name in ("continuous", "discrete"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"Spread.{name} is {value}; it is the share of a range, between 0 and 1")


class Draws:
    """Random parameters of B scenes, handed out in a fixed order.

    A scene draws from its own stream, but within a window of each range: ``lo + (hi - lo) (t (1 - spread) + s spread)``
    with the template's number t and the scene's number s in [0, 1). A spread of 1 is the plain uniform distribution;
    a small one gives scenes that resemble the template.

    Args:
        template: key of the template's stream.
        scenes: B keys, one per scene.
        spread: share of the ranges that is open.
        count: how many numbers will be asked for at most.
    """

    def __init__(self, template: Key, scenes: Sequence[Key], spread: Spread, count: int) -> None:
        self._template = uniforms(template, count)
        self._scenes = np.stack([uniforms(key, count) for key in scenes])
        self._spread = spread
        self._next = 0

    def uniform(self, limits: tuple[float, float], *shape: int) -> Array:
        """``[B, *shape]`` in [lo, hi)."""
        low, high = limits
        return low + (high - low) * self._window(self._spread.continuous, shape)

    def log_uniform(self, limits: tuple[float, float], *shape: int) -> Array:
        """``[B, *shape]`` in [lo, hi), uniform in the logarithm."""
        return np.exp(self.uniform((math.log(limits[0]), math.log(limits[1])), *shape))

    def integer(self, limits: tuple[int, int], *shape: int) -> IntArray:
        """``[B, *shape]`` int64 in [lo, hi], both included."""
        low, high = limits
        return low + np.floor((high - low + 1) * self._window(self._spread.discrete, shape)).astype(np.int64)

    def choice(self, number: int, *shape: int) -> IntArray:
        """``[B, *shape]`` int64 in [0, number)."""
        return self.integer((0, number - 1), *shape)

    def chance(self, probability: float, *shape: int) -> BoolArray:
        """``[B, *shape]`` bool, true with the given probability."""
        return self._window(self._spread.discrete, shape) < probability

    def _window(self, spread: float, shape: tuple[int, ...]) -> Array:
        stop = self._next + math.prod(shape)
        if stop > self._template.size:
            raise ValueError(f"{stop} numbers were drawn where {self._template.size} were announced")
        mixed = self._template[self._next : stop] * (1.0 - spread) + self._scenes[:, self._next : stop] * spread
        self._next = stop
        return mixed.reshape(-1, *shape)
