"""Synthetic scenes as a LightningDataModule: described by the workers, rendered on the device that trains."""

from __future__ import annotations

import functools
import logging
from typing import Any

from torch.utils.data import DataLoader, Dataset

from lorasub.contracts import BatchShape
from lorasub.data.base import SceneDataModule
from lorasub.data.loading import evaluation_loader, training_loader
from lorasub.errors import ConfigError
from lorasub.scenes.description import SceneDescription
from lorasub.scenes.pictures import scene_batch, scene_images
from lorasub.scenes.presets import Design, Preset, SceneSampler
from lorasub.scenes.ranges import SceneRanges
from lorasub.scenes.rendering.renderer import Renderer
from lorasub.scenes.sensor import SensorNuisance
from lorasub.structures import SceneBatch

_logger = logging.getLogger(__name__)


def note_old_engine(engine: str | None) -> None:
    """Tell a user whose config names a rendering engine that there is only one by now."""
    if engine is not None:
        _logger.info("engine: %s is ignored: scenes have one renderer by now; remove the line from the config", engine)


class SceneDescriptions(Dataset[SceneDescription]):
    """Scenes ``0 .. size - 1`` of a sampler, described when they are asked for.

    Args:
        sampler: what to draw from.
        size: number of scenes.
    """

    def __init__(self, sampler: SceneSampler, size: int) -> None:
        self.sampler = sampler
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> SceneDescription:
        return self.sampler.sample([index])

    def __getitems__(self, indices: list[int]) -> list[SceneDescription]:
        """A whole batch at once; torch's loader calls this."""
        return [self.sampler.sample(indices)]


class SyntheticScenes(SceneDataModule):
    """Scenes in which one attribute varies, rendered where the batch arrives.

    Batches are :class:`~lorasub.structures.SceneBatch` in the scenes' own units. Scene i is a pure function of (seed,
    attribute, design, partition, i): the same whatever the number of workers, ranks or restarts.

    Args:
        attribute: what varies: ``geometry``, ``texture``, ``camera`` or ``lighting``; ``all`` for pre-training;
            ``indoor`` for rooms seen from inside; ``planar`` for faces (label 1) and flat photographs of faces (label
            0), ``transparent`` for glass.
        partition: which of the attribute's data sets; each adapter of a set is fitted on another.
        design: ``within``: the attribute varies over its whole range, the rest comes from a wide pool that all
            attributes and partitions share; ``shift``: the attribute lies outside of what pre-training shows;
            ``across``: each partition owns a sub-range of the attribute, the rest varies alike in all; ``narrow``: as
            ``within``, with a pool of near-equal draws of the partition's own (see :mod:`lorasub.scenes.presets`).
        seed: of everything.
        num_scenes: scenes in an epoch, each of which comes once.
        val_scenes: held-out scenes of the same distribution.
        num_views: views per scene.
        image_size: height and width in pixels, one number for squares.
        batch_size: scenes per process and step.
        bases: size of the pool of designs ``within`` and ``narrow``; None: 256 and 64.
        ranges: what all parameters are drawn from; None: the preset's own.
        antialias: smooth the edges of what is seen. Without it views are made nearly twice as fast.
        shadow_samples: shadow rays toward each soft light; 1 makes all shadows sharp.
        sensor: noise and vignetting; None: a perfect camera.
        num_workers: processes that describe scenes. Describing is cheap: 0 is a good choice beside a renderer on the
            CPU.
        dose: how far outside of pre-training the attribute of design ``shift`` lies, in [0, 1].
        engine: accepted from older configs, and ignored with a note: there is one renderer.

    Raises:
        ConfigError: an unknown attribute or design, or a number out of range.

    Example:
        >>> data = SyntheticScenes("geometry", partition=1, num_scenes=8, image_size=56)
        >>> data.batch_shape
        BatchShape(scenes=4, views=4, height=56, width=56)
        >>> data.train_sampler.sample([0]).scene_ids
        ('geometry/p1/000000',)
    """

    def __init__(
        self,
        attribute: Preset = "all",
        partition: int = 0,
        design: Design = "within",
        seed: int = 0,
        num_scenes: int = 4096,
        val_scenes: int = 32,
        num_views: int = 4,
        image_size: int | tuple[int, int] = 112,
        batch_size: int = 4,
        bases: int | None = None,
        ranges: SceneRanges | None = None,
        antialias: bool = True,
        shadow_samples: int = 2,
        sensor: SensorNuisance | None = None,
        num_workers: int = 0,
        dose: float = 1.0,
        engine: str | None = None,
    ) -> None:
        super().__init__()
        note_old_engine(engine)
        for name, value, least in (
            ("num_scenes", num_scenes, 1),
            ("val_scenes", val_scenes, 0),
            ("num_views", num_views, 1),
            ("batch_size", batch_size, 1),
            ("shadow_samples", shadow_samples, 1),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise ConfigError(f"{name} is {value}; it must be at least {least}")
        self.image_size: tuple[int, int] = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.num_scenes = num_scenes
        self.val_scenes = val_scenes
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed

        def sampler(stream: str) -> SceneSampler:
            return SceneSampler(
                attribute=attribute,
                partition=partition,
                design=design,
                seed=seed,
                num_views=num_views,
                bases=bases,
                dose=dose,
                stream=stream,
                ranges=ranges,
            )

        self.train_sampler, self.val_sampler = sampler("train"), sampler("validation")
        self.antialias = antialias
        self.shadow_samples = shadow_samples
        self.sensor = sensor

    @property
    def batch_shape(self) -> BatchShape | None:
        """The scenes of a step."""
        return BatchShape(self.batch_size, self.train_sampler.num_views, *self.image_size)

    @property
    def identity(self) -> str:
        """The sampler, of which the scenes are a pure function, and how many there are."""
        return f"{self.train_sampler} {self.num_scenes} {self.image_size} {self.sensor}"

    @functools.cached_property
    def renderer(self) -> Renderer:
        """Renders the scenes; it is made when the first ones arrive, for it may have to load pictures."""
        return Renderer(
            self.image_size,
            antialias=self.antialias,
            shadow_samples=self.shadow_samples,
            images=scene_images(self.train_sampler),
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Scenes in an order of each epoch's own, different ones on every rank."""
        return training_loader(
            SceneDescriptions(self.train_sampler, self.num_scenes),
            batch_size=self.batch_size,
            seed=self.seed,
            trainer=self.trainer,
            num_workers=self.num_workers,
            collate_fn=SceneDescription.concatenate,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Returns the held-out scenes, always the same, for validation, test and prediction."""
        return evaluation_loader(
            SceneDescriptions(self.val_sampler, self.val_scenes),
            batch_size=self.batch_size,
            trainer=self.trainer,
            num_workers=self.num_workers,
            collate_fn=SceneDescription.concatenate,
        )

    test_dataloader = predict_dataloader = val_dataloader

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> SceneBatch:
        """Render the described scenes on the device where they have arrived."""
        if isinstance(batch, SceneDescription):
            seen = scene_batch(batch, self.renderer.render(batch))
            return seen if self.sensor is None else self.sensor.apply(seen, self.seed)
        return batch  # type: ignore[no-any-return]
