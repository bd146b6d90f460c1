"""Synthetic scenes for pre-training: kinds of scenes in any mixture, larger and with more views from stage to stage.

Which scenes a training step sees, which of their views and in what colours, is a pure function of the seed, the step's
number and the stages. Nothing has to be remembered: a fit that is resumed in the middle of a stage goes on exactly.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lorasub.contracts import BatchShape
from lorasub.data.augmentation import jitter_colors
from lorasub.data.curriculum import Curriculum, Described, PoolPlan, Stage
from lorasub.data.loading import ResumableLoader, trained_batches
from lorasub.data.synthetic import SyntheticScenes
from lorasub.errors import ConfigError
from lorasub.rng import generator, seed_of
from lorasub.scenes.pictures import scene_batch, scene_images
from lorasub.scenes.presets import Preset
from lorasub.scenes.rendering.renderer import Renderer
from lorasub.scenes.sensor import SensorNuisance
from lorasub.structures import SceneBatch

#: Fields of a SceneBatch that have a second axis for the views.
_PER_VIEW = frozenset(("images", "intrinsics", "cam_from_world", "pose_valid", "depth", "valid", "world_points"))


class RollingPool:
    """The ``size`` latest blocks of an endless sequence of equally large blocks of scenes.

    Block i stands in slot ``i % size``: a new one takes the place of the oldest, in the same memory.

    Args:
        size: number of blocks.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._held = [-1] * size
        self._names: list[str] = []
        self._frames: list[tuple[str, ...]] = []
        self._scenes: SceneBatch | None = None

    def advance(self, first: int, make: Callable[[int], SceneBatch]) -> None:
        """Hold the blocks ``first .. first + size - 1``.

        Args:
            first: number of the oldest block.
            make: gives a block. It is called for those that are not here yet.
        """
        for block in range(first, first + self.size):
            if self._held[block % self.size] != block:
                self._put(block % self.size, make(block))
                self._held[block % self.size] = block

    def __len__(self) -> int:
        return len(self._names)

    def take(self, scenes: Tensor, views: Tensor) -> SceneBatch:
        """Copies of some views of some scenes.

        Args:
            scenes: ``[B]`` int64 on the CPU, places in the pool.
            views: ``[B, V]`` int64 on the CPU, the views of each scene, in their order.
        """
        assert self._scenes is not None
        device = self._scenes.images.device
        one, two = scenes.to(device, non_blocking=True), views.to(device, non_blocking=True)
        tensors = {
            name: value[one[:, None], two] if name in _PER_VIEW else value[one] for name, value in self._tensors()
        }
        return SceneBatch(
            **tensors,
            scene_ids=tuple(self._names[scene] for scene in scenes.tolist()),
            frame_ids=tuple(
                tuple(self._frames[scene][view] for view in chosen)
                for scene, chosen in zip(scenes.tolist(), views.tolist(), strict=True)
            ),
        )

    def _put(self, slot: int, scenes: SceneBatch) -> None:
        # what backbones are not pre-trained on; only some kinds of scenes have it
        scenes = scenes.replace(labels=None, object_masks=None)
        count = len(scenes)
        if self._scenes is None:
            self._scenes = SceneBatch.concatenate([scenes] * self.size)
            self._names, self._frames = list(self._scenes.scene_ids), list(self._scenes.frame_ids)
        where = slice(slot * count, (slot + 1) * count)
        for name, value in self._tensors():
            value[where] = getattr(scenes, name)
        self._names[where], self._frames[where] = scenes.scene_ids, scenes.frame_ids

    def _tensors(self) -> list[tuple[str, Tensor]]:
        fields = [field.name for field in dataclasses.fields(SceneBatch)]
        values = [(name, getattr(self._scenes, name)) for name in fields]
        return [(name, value) for name, value in values if isinstance(value, torch.Tensor)]


class StepScenes(NamedTuple):
    """A step's number, and the new scenes that loader processes have described for it.

    Attributes:
        step: its number.
        described: pickled descriptions of the block that enters the pool; None if none does. In one piece, since a
            worker would hand over each of its hundred tensors by a file descriptor of its own.
    """

    step: int
    described: bytes | None


class PretrainingScenes(SyntheticScenes):
    """Scenes without end, in stages, from a mixture of presets; and a fixed held-out set to validate on.

    Worker processes describe scenes ahead. They are rendered on the training device into a pool that stays there, where
    a block of new scenes takes the place of the oldest at regular steps. Each scene is used ``reuse`` times on average,
    at most once more or less (those of a stage's first pool leave earlier): every time in other company, with other
    views in another order (the first view is the reference), in other colours, through another camera's sensor.

    Args:
        stages: in the order of their first steps; the first begins at step 0.
        reuse: how often each rendered scene is used.
        pool: batches in the pool.
        renewed: batches that are rendered at once and replaced at once, a divisor of ``pool``; all of them by default.
        color_jitter: brightness, contrast and saturation of each training view are multiplied by factors between
            1 - color_jitter and 1 + color_jitter.
        sensor: what a camera adds to the training views; None: a perfect camera.
        seed: of everything.
        val_preset: the preset of the held-out scenes.
        val_scenes: held-out scenes.
        val_batch_size: of the held-out scenes, per process.
        num_views: views of a held-out scene.
        image_size: of the held-out scenes.
        antialias: smooth the edges of what is seen.
        shadow_samples: shadow rays toward each soft light.
        num_workers: processes that describe training scenes ahead. A scene takes about one millisecond.
        engine: accepted from older configs, and ignored with a note: there is one renderer.

    Raises:
        ConfigError: no stage, stages out of order, or a number out of range.
    """

    def __init__(
        self,
        stages: list[Stage],
        reuse: int = 1,
        pool: int = 1,
        renewed: int | None = None,
        color_jitter: float = 0.0,
        sensor: SensorNuisance | None = None,
        seed: int = 0,
        val_preset: Preset = "all",
        val_scenes: int = 32,
        val_batch_size: int = 4,
        num_views: int = 4,
        image_size: int | tuple[int, int] = 112,
        antialias: bool = True,
        shadow_samples: int = 2,
        num_workers: int = 0,
        engine: str | None = None,
    ) -> None:
        super().__init__(
            attribute=val_preset,
            seed=seed,
            val_scenes=val_scenes,
            num_views=num_views,
            image_size=image_size,
            batch_size=val_batch_size,
            antialias=antialias,
            shadow_samples=shadow_samples,
            engine=engine,
        )
        if not 0 <= color_jitter < 1:
            raise ConfigError(f"color_jitter is {color_jitter}; it must be in [0, 1)")
        if num_workers < 0:
            raise ConfigError(f"num_workers is {num_workers}; it must be at least 0")
        plan = PoolPlan(size=pool, renewed=pool if renewed is None else renewed, reuse=reuse)
        self.curriculum = Curriculum(stages, plan, seed)
        self.color_jitter = color_jitter
        self.training_sensor = sensor
        self.training_workers = num_workers
        self._pool: RollingPool | None = None
        self._pool_of: tuple[int, int, int] | None = None

    @property
    def images_change(self) -> bool:
        """Whether colours are changed."""
        return self.color_jitter > 0 or self.training_sensor is not None

    @property
    def batch_shape(self) -> BatchShape | None:
        """The largest of all stages."""
        shapes = [
            BatchShape(stage.batch_size, stage.views[1], stage.image_size, stage.image_size)
            for stage in self.curriculum.stages
        ]
        return max(shapes, key=math.prod)

    @property
    def identity(self) -> str:
        """The samplers of all stages."""
        return f"{[mixture.samplers for mixture in self.curriculum.mixtures]}"

    def train_dataloader(self) -> DataLoader[Any]:
        """The steps to come, with descriptions of what enters the pool; rendered when they arrive on the device."""
        assert self.trainer is not None
        steps = BlocksOfSteps(self.curriculum, self.trainer.global_rank, self.trainer.world_size)
        return StepLoader(steps, functools.partial(trained_batches, self.trainer), self.training_workers)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leaves descriptions where they are; Lightning would look at each of their millions of bytes."""
        return (
            batch if isinstance(batch, StepScenes) else super().transfer_batch_to_device(batch, device, dataloader_idx)
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> SceneBatch:
        """Render training and held-out scenes on the device that trains."""
        if isinstance(batch, StepScenes):
            assert self.trainer is not None
            device, ranks = self.trainer.strategy.root_device, (self.trainer.global_rank, self.trainer.world_size)
            # written by our own worker a moment ago
            described = None if batch.described is None else pickle.loads(batch.described)
            return self.training_batch(batch.step, device, *ranks, described=described)
        return super().on_after_batch_transfer(batch, dataloader_idx)

    def training_batch(
        self,
        step: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        described: Described | None = None,
    ) -> SceneBatch:
        """Make one process's batch of one step; it is the same whenever it is asked for.

        Args:
            step: number of the step.
            device: where scenes are rendered and kept.
            rank: this process.
            world_size: number of processes.
            described: the block that enters the pool at this step, where a worker has described it.
        """
        curriculum = self.curriculum
        number, plan = curriculum.stage_number(step), curriculum.plan
        stage = curriculum.stages[number]
        since = step - stage.from_step
        pool = self._pool_for(number, rank, world_size)

        def make(block: int) -> SceneBatch:
            ready = described if (number, block) == curriculum.entering(step) else None
            parts = ready or curriculum.describe(number, block, rank, world_size)
            return self._render(number, parts, torch.device(device))

        pool.advance(plan.oldest(since), make)
        turn, batch = divmod(since, plan.size)
        order = self._random("order", number, rank, turn).permutation(len(pool))
        chosen = torch.from_numpy(order[batch * stage.batch_size : (batch + 1) * stage.batch_size])
        result = pool.take(chosen, self._views(stage, step, rank))
        if self.color_jitter > 0:
            factors = self._random("color", step, rank).uniform(-1, 1, (*result.images.shape[:2], 3))
            jittered = jitter_colors(result.images, 1 + self.color_jitter * torch.from_numpy(factors))
            result = result.replace(images=jittered)
        if self.training_sensor is not None:
            result = self.training_sensor.apply(result, seed_of(self.seed, "sensor", step))
        return result

    def _views(self, stage: Stage, step: int, rank: int) -> Tensor:
        """``[B, V]``: as many views in all processes; which ones and in what order, each scene its own.

        Were they the same for all scenes, a step would hold nothing but near pairs of views, the next but far ones.
        """
        count = int(self._random("views", step).integers(stage.views[0], stage.views[1] + 1))
        every = np.broadcast_to(np.arange(stage.num_rendered), (stage.batch_size, stage.num_rendered))
        return torch.from_numpy(self._random("view order", step, rank).permuted(every, axis=1)[:, :count].copy())

    def _pool_for(self, *key: int) -> RollingPool:
        """The pool of a stage and process, which is a memory of what can be made again at any time."""
        if self._pool is None or self._pool_of != key:
            self._pool = None  # let go of the old one before the new one needs its memory
            self._pool, self._pool_of = RollingPool(self.curriculum.plan.blocks), (key[0], key[1], key[2])
        return self._pool

    def _render(self, number: int, described: Described, device: torch.device) -> SceneBatch:
        parts = []
        for kind, scenes in enumerate(described):
            if scenes is not None:
                there = scenes.to(device)
                parts.append(scene_batch(there, self._renderer(number, kind).render(there)))
        return SceneBatch.concatenate(parts)

    @functools.cache  # noqa: B019 - a data module lives as long as the process
    def _renderer(self, number: int, kind: int) -> Renderer:
        size = self.curriculum.stages[number].image_size
        return Renderer(
            (size, size),
            antialias=self.antialias,
            shadow_samples=self.shadow_samples,
            images=scene_images(self.curriculum.mixtures[number].samplers[kind]),
        )

    def _random(self, *key: int | str) -> np.random.Generator:
        return generator(self.seed, "pretraining", *key)


class BlocksOfSteps(IterableDataset[StepScenes]):
    """Steps without end, with the descriptions of the blocks that enter the pool; workers take turns.

    Args:
        curriculum: stages and plan.
        rank: the process that trains.
        world_size: number of such processes.

    Attributes:
        first: the step that an iteration begins with.
    """

    def __init__(self, curriculum: Curriculum, rank: int, world_size: int) -> None:
        self.curriculum = curriculum
        self.rank = rank
        self.world_size = world_size
        self.first = 0

    def __iter__(self) -> Iterator[StepScenes]:
        worker = get_worker_info()
        own, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in itertools.count(self.first + own, workers):
            entering = self.curriculum.entering(step)
            if entering is None:
                yield StepScenes(step, None)
            else:
                described = self.curriculum.describe(*entering, self.rank, self.world_size)
                yield StepScenes(step, pickle.dumps(described))


class StepLoader(ResumableLoader):
    """Gives the steps in order, whatever the number of workers, from the first that has not been trained on.

    Args:
        steps: what is loaded.
        trained: tells how many steps have been trained on, whenever an iteration begins.
        num_workers: worker processes.
    """

    def __init__(self, steps: BlocksOfSteps, trained: Callable[[], int], num_workers: int) -> None:
        ahead = None if num_workers == 0 else 4
        super().__init__(
            steps, batch_size=None, num_workers=num_workers, prefetch_factor=ahead, generator=torch.Generator()
        )
        self.steps = steps
        self.trained = trained

    def __iter__(self) -> Iterator[StepScenes]:  # type: ignore[override]
        self.steps.first = self.trained()
        return super().__iter__()
