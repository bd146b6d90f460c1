"""The scenes of each step of pre-training: stages, kinds, and a timetable of the pool that they are kept in.

Everything here is a pure function of the seed and the step's number.
"""

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


#: Descriptions of one block, one for each kind of scene; None where the block has no scene of the kind.
Described = tuple[SceneDescription | None, ...]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Settings of the training steps from a certain step on.

    Attributes:
        from_step: the first step of the stage; it lasts until the next one begins.
        image_size: height and width in pixels, a multiple of the backbone's patch size.
        views: least and most views of a scene in a step. Each step draws its number, the same for all its scenes.
        batch_size: scenes per process and step.
        rendered_views: views that are rendered of a scene, among which each use of it picks; the most of ``views`` by
            default. Views stand in the order of the camera's path.
        scenes: kinds of scenes and their shares; one kind, with its defaults, by default.
    """

    from_step: int
    image_size: int
    views: tuple[int, int]
    batch_size: int
    rendered_views: int | None = None
    scenes: list[SceneKind] | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"stage from step {self.from_step}: {name} is {getattr(self, name)}, not at least 1")
        least, most = self.views
        if not 1 <= least <= most <= self.num_rendered:
            raise ConfigError(
                f"stage from step {self.from_step}: views {list(self.views)} must be the least and the most views, at "
                f"least 1 and at most the {self.num_rendered} that are rendered"
            )

    @property
    def kinds(self) -> list[SceneKind]:
        """Kinds of scenes that the stage draws."""
        return [SceneKind()] if self.scenes is None else self.scenes

    @property
    def num_rendered(self) -> int:
        """Views that are rendered of each scene."""
        return self.views[1] if self.rendered_views is None else self.rendered_views


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """Timetable of a stage's pool, in numbers of batches.

    A block of ``renewed`` batches enters after every ``renewed * reuse`` steps, when the oldest block leaves. A pass
    over the pool takes ``size`` steps, each of which takes another part of a random order of its places.

    Attributes:
        size: batches in the pool.
        renewed: batches in a block.
        reuse: passes that a block stays for.
    """

    size: int = 1
    renewed: int = 1
    reuse: int = 1

    def __post_init__(self) -> None:
        if min(self.size, self.renewed, self.reuse) < 1 or self.size % self.renewed:
            raise ConfigError(
                f"the pool has {self.size} batches, of which {self.renewed} are renewed at a time, and reuse is "
                f"{self.reuse}; all must be at least 1, and the first a multiple of the second"
            )

    @property
    def blocks(self) -> int:
        """Blocks in the pool."""
        return self.size // self.renewed

    @property
    def period(self) -> int:
        """Steps from one renewal to the next."""
        return self.renewed * self.reuse

    def oldest(self, step: int) -> int:
        """The oldest block in the pool at a step of the stage (counted from 0); blocks are counted from 0."""
        return step // self.period

    def entering(self, step: int) -> int | None:
        """The block that enters the pool at a step of the stage; None if it stays as it is, and at the first step."""
        return None if step == 0 or step % self.period else self.oldest(step) + self.blocks - 1


class Curriculum:
    """Stages, the mixture of each, and the plan of the pool.

    Args:
        stages: in the order of their first steps; the first begins at step 0.
        plan: the same in all stages.
        seed: of everything.

    Raises:
        ConfigError: no stage, or stages out of order.
    """

    def __init__(self, stages: Sequence[Stage], plan: PoolPlan, seed: int) -> None:
        firsts = [stage.from_step for stage in stages]
        if not firsts or firsts[0] != 0 or firsts != sorted(set(firsts)):
            raise ConfigError(f"the stages begin at steps {firsts}; the first must be 0 and each later than the last")
        self.stages = tuple(stages)
        self.plan = plan
        self.mixtures = tuple(
            SceneMixture(stage.kinds, seed=seed, num_views=stage.num_rendered, stream=f"train/stage{number}")
            for number, stage in enumerate(self.stages)
        )

    def stage_number(self, step: int) -> int:
        """Index of the stage that a step belongs to."""
        return max(number for number, stage in enumerate(self.stages) if stage.from_step <= step)

    def entering(self, step: int) -> tuple[int, int] | None:
        """Stage and number of the block that enters the pool at a step; None if none does, or a whole pool does."""
        number = self.stage_number(step)
        block = self.plan.entering(step - self.stages[number].from_step)
        return None if block is None else (number, block)

    def describe(self, number: int, block: int, rank: int = 0, world_size: int = 1) -> Described:
        """The scenes of one process's block of a stage, by kind."""
        size = self.plan.renewed * self.stages[number].batch_size
        first = (block * world_size + rank) * size
        return self.mixtures[number].describe(range(first, first + size))
