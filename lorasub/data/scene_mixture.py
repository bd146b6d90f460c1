"""Kinds of scenes and their shares: which kind scene i of a data set is, and what describes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorasub.errors import ConfigError
from lorasub.rng import GOLDEN
from lorasub.scenes.description import SceneDescription
from lorasub.scenes.presets import Preset, SceneSampler
from lorasub.scenes.ranges import SceneRanges
from lorasub.scenes.streams import IntArray


@dataclass(frozen=True, kw_only=True)
class SceneKind:
    """One kind of scene in a mixture.

    Attributes:
        preset: what the scenes are drawn from, such as ``all`` or ``indoor``.
        share: of the scenes, in proportion to the shares of the other kinds.
        ranges: replaces the preset's own ranges.
    """

    preset: Preset = "all"
    share: float = 1.0
    ranges: SceneRanges | None = None

    def __post_init__(self) -> None:
        if not (self.share > 0 and math.isfinite(self.share)):
            raise ConfigError(f"scenes of preset '{self.preset}' have the share {self.share}; it must be positive")


class SceneMixture:
    """Scenes of several kinds. Scene i is a pure function of the arguments and i.

    The kinds come in turn, as evenly as their shares allow: among any n scenes in a row there are n times the share of
    each kind, but for a few.

    Args:
        kinds: at least one.
        seed: of everything.
        num_views: views of each scene.
        stream: name of the random streams.
    """

    def __init__(self, kinds: Sequence[SceneKind], *, seed: int, num_views: int, stream: str) -> None:
        if not kinds:
            raise ConfigError("a mixture of scenes needs at least one kind")
        self._ends = np.cumsum([kind.share for kind in kinds]) / sum(kind.share for kind in kinds)
        self.samplers = tuple(
            SceneSampler(
                attribute=kind.preset,
                seed=seed,
                num_views=num_views,
                stream=stream if number == 0 else f"{stream}/kind{number}",
                ranges=kind.ranges,
            )
            for number, kind in enumerate(kinds)
        )

    def kinds_of(self, scenes: Sequence[int]) -> IntArray:
        """``[N]`` index of each scene's kind."""
        places = np.asarray(scenes, dtype=np.float64) * GOLDEN % 1.0
        return np.minimum(np.searchsorted(self._ends, places, side="right"), len(self._ends) - 1)

    def describe(self, scenes: Sequence[int]) -> tuple[SceneDescription | None, ...]:
        """One description for each kind, of those of the scenes that are of it, in their order; None where none is."""
        kinds = self.kinds_of(scenes)
        own = [[scene for scene, kind in zip(scenes, kinds, strict=True) if kind == number] for number in self._numbers]
        return tuple(
            sampler.sample(indices) if indices else None for sampler, indices in zip(self.samplers, own, strict=True)
        )

    @property
    def _numbers(self) -> range:
        return range(len(self.samplers))
