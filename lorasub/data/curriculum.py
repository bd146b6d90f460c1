"""Synthetic scenes that grow harder while a backbone is trained from nothing: larger images, more views, wider moves.

Which scenes a training step sees, which of their views and in what colours, is a pure function of the seed, the step's
number and the stages. Nothing has to be remembered: a fit that is resumed in the middle of a stage goes on exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
)
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lorasub.contracts import BatchShape
from lorasub.data.loading import ResumableLoader, trained_batches
from lorasub.data.synthetic import SyntheticScenes
from lorasub.errors import ConfigError
from lorasub.rng import generator
from lorasub.scenes.presets import SceneSampler
from lorasub.scenes.ranges import CameraRanges, SceneRanges
from lorasub.scenes.rendering.renderer import Renderer
from lorasub.structures import SceneBatch


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What training steps see from a certain step on.

    Attributes:
        from_step: the first step of the stage; it lasts until the next one begins.
        image_size: height and width in pixels, a multiple of the backbone's patch size.
        views: least and most views of a scene in a step. Each step draws its number, the same for all its scenes.
        batch_size: scenes per process and step.
        rendered_views: views that are rendered of a scene, among which each use of it picks; the most of ``views`` by
            default. Views stand in the order of the camera's path.
        camera: ranges of the camera; those of the data module by default.
    """

    from_step: int
    image_size: int
    views: tuple[int, int]
    batch_size: int
    rendered_views: int | None = None
    camera: CameraRanges | None = None

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
    def num_rendered(self) -> int:
        """Views that are rendered of each scene."""
        return self.views[1] if self.rendered_views is None else self.rendered_views


class CurriculumScenes(SyntheticScenes):
    """Scenes of the preset ``all`` without end, in stages, and a fixed held-out set to validate on.

    Scenes are rendered ``pool`` batches at a time and then used ``reuse`` times each, every time in other company, with
    other views, in another order (the first view is the reference) and in other colours. Where rendering takes as long
    as training this buys almost twice the steps for the same time.

    Args:
        stages: in the order of their first steps; the first begins at step 0.
        reuse: how often each rendered scene is used.
        pool: batches that are rendered at once and mixed.
        color_jitter: brightness, contrast and saturation of each training view are multiplied by factors between
            1 - color_jitter and 1 + color_jitter.
        seed: of everything.
        val_scenes: held-out scenes.
        val_batch_size: of the held-out scenes, per process.
        num_views: views of a held-out scene.
        image_size: of the held-out scenes.
        ranges: what scenes are drawn from; a stage may have its own ranges of the camera.
        antialias: smooth the edges of what is seen.
        shadow_samples: shadow rays toward each soft light.
        engine: accepted from older configs, and ignored with a note: there is one renderer.

    Raises:
        ConfigError: no stage, stages out of order, or a number out of range.
    """

    def __init__(
        self,
        stages: list[Stage],
        reuse: int = 1,
        pool: int = 1,
        color_jitter: float = 0.0,
        seed: int = 0,
        val_scenes: int = 32,
        val_batch_size: int = 4,
        num_views: int = 4,
        image_size: int | tuple[int, int] = 112,
        ranges: SceneRanges | None = None,
        antialias: bool = True,
        shadow_samples: int = 2,
        engine: str | None = None,
    ) -> None:
        super().__init__(
            attribute="all",
            seed=seed,
            val_scenes=val_scenes,
            num_views=num_views,
            image_size=image_size,
            batch_size=val_batch_size,
            ranges=ranges,
            antialias=antialias,
            shadow_samples=shadow_samples,
            engine=engine,
        )
        firsts = [stage.from_step for stage in stages]
        if not firsts or firsts[0] != 0 or firsts != sorted(set(firsts)):
            raise ConfigError(f"the stages begin at steps {firsts}; the first must be 0 and each later than the last")
        if reuse < 1 or pool < 1:
            raise ConfigError(f"reuse and pool must be at least 1, not {reuse} and {pool}")
        if not 0 <= color_jitter < 1:
            raise ConfigError(f"color_jitter is {color_jitter}; it must be in [0, 1)")
        self.stages = list(stages)
        self.reuse = reuse
        self.pool = pool
        self.color_jitter = color_jitter
        ranges = ranges or SceneRanges()
        self._samplers = [
            SceneSampler(
                attribute="all",
                seed=seed,
                num_views=stage.num_rendered,
                stream=f"train/stage{index}",
                ranges=SceneRanges(
                    geometry=ranges.geometry,
                    texture=ranges.texture,
                    camera=stage.camera or ranges.camera,
                    lighting=ranges.lighting,
                ),
            )
            for index, stage in enumerate(self.stages)
        ]
        self._renderers = [
            Renderer((stage.image_size, stage.image_size), antialias=antialias, shadow_samples=shadow_samples)
            for stage in self.stages
        ]
        self._pool: tuple[tuple[int, int], SceneBatch] | None = None

    @property
    def images_change(self) -> bool:
        """Whether colours are changed."""
        return self.color_jitter > 0

    @property
    def batch_shape(self) -> BatchShape | None:
        """The largest of all stages."""
        shapes = [
            BatchShape(stage.batch_size, stage.views[1], stage.image_size, stage.image_size) for stage in self.stages
        ]
        return max(shapes, key=math.prod)

    @property
    def identity(self) -> str:
        """The samplers of all stages."""
        return f"{self._samplers}"

    def train_dataloader(self) -> DataLoader[Any]:
        """The numbers of the steps to come; a step's scenes are made when it arrives on the device."""
        assert self.trainer is not None
        return ResumableLoader(StepNumbers(partial(trained_batches, self.trainer)), batch_size=None)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> SceneBatch:
        """Render what is to be trained or validated on, on the device that trains."""
        if isinstance(batch, int):
            assert self.trainer is not None
            return self.training_batch(
                batch, self.trainer.strategy.root_device, self.trainer.global_rank, self.trainer.world_size
            )
        return super().on_after_batch_transfer(batch, dataloader_idx)

    def training_batch(
        self, step: int, device: torch.device | str = "cpu", rank: int = 0, world_size: int = 1
    ) -> SceneBatch:
        """What one process is trained on in one step; the same whenever it is asked for."""
        number = self.stage_number(step)
        stage = self.stages[number]
        block, use = divmod(step - stage.from_step, self.pool * self.reuse)
        turn, batch = divmod(use, self.pool)
        scenes = self._pooled(number, block * world_size + rank, torch.device(device))

        order = self._random("order", number, block * world_size + rank, turn).permutation(len(scenes))
        chosen = order[batch * stage.batch_size : (batch + 1) * stage.batch_size]
        count = int(self._random("views", step).integers(stage.views[0], stage.views[1] + 1))
        # each scene its own, or a step would hold nothing but near pairs of views, and the next nothing but far ones
        every = np.broadcast_to(np.arange(stage.num_rendered), (stage.batch_size, stage.num_rendered))
        views = self._random("view order", step, rank).permuted(every, axis=1)[:, :count]
        result = scenes.select_scenes(chosen.tolist()).select_views(views.tolist())
        if self.color_jitter == 0:
            return result
        factors = self._random("color", step, rank).uniform(-1, 1, (*result.images.shape[:2], 3))
        return result.replace(images=jitter_colors(result.images, 1 + self.color_jitter * torch.from_numpy(factors)))

    def stage_number(self, step: int) -> int:
        """Index of the stage that a step belongs to."""
        return max(index for index, stage in enumerate(self.stages) if stage.from_step <= step)

    def _pooled(self, number: int, index: int, device: torch.device) -> SceneBatch:
        """All scenes of a pool; the last pool is kept, as a memory of what can be made again at any time."""
        if self._pool is None or self._pool[0] != (number, index):
            self._pool = None  # let go of the old pool before the new one needs its memory
            size = self.stages[number].batch_size
            firsts = range(index * self.pool * size, (index + 1) * self.pool * size, size)
            parts = [self._render(number, range(first, first + size), device) for first in firsts]
            self._pool = (number, index), SceneBatch.concatenate(parts)
        return self._pool[1]

    def _render(self, number: int, scenes: Sequence[int], device: torch.device) -> SceneBatch:
        description = self._samplers[number].sample(scenes).to(device)
        return self._renderers[number].render(description).to_batch(description.scene_ids)

    def _random(self, *key: int | str) -> np.random.Generator:
        return generator(self.seed, "curriculum", *key)


class StepNumbers(IterableDataset[int]):
    """All whole numbers from the first step that has not been trained on.

    Args:
        trained: tells how many steps have been trained on, whenever an iteration begins.
    """

    def __init__(self, trained: Callable[[], int]) -> None:
        self.trained = trained

    def __iter__(self) -> Iterator[int]:
        step = self.trained()
        while True:
            yield step
            step += 1


def jitter_colors(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply brightness, contrast (about the mean grey) and saturation of each view.

    Args:
        images: ``[B, S, 3, H, W]`` in [0, 1].
        factors: ``[B, S, 3]``, one for each of the three.

    Returns:
        As ``images``, clamped to [0, 1].
    """
    brightness, contrast, saturation = factors.to(images).flatten(0, 1).unbind(-1)
    flat = adjust_brightness_accumulative(images.flatten(0, 1), brightness)
    flat = adjust_contrast_with_mean_subtraction(flat, contrast)
    flat = adjust_saturation_with_gray_subtraction(flat, saturation)
    return torch.unflatten(flat.clamp(0, 1), 0, images.shape[:2])
