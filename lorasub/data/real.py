"""Real captures as a LightningDataModule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from lorasub.contracts import BatchShape
from lorasub.data.augmentation import Augmentation
from lorasub.data.base import SceneDataModule
from lorasub.data.frames import Capture
from lorasub.data.loading import evaluation_loader, trained_batches, training_loader
from lorasub.data.readers.base import Reader
from lorasub.data.real_scenes import CaptureScenes, EpochAndIndexSampler, SuccessiveScenes, ViewFormat
from lorasub.data.sources import (
    CaptureSource,
    Decoding,
    EvaluationSet,
    FlatSettings,
    HeldOut,
    announce,
    find_below,
    refuse_plain_images,
    weights_of_captures,
    with_own_names,
)
from lorasub.data.splits import SplitName
from lorasub.data.view_sampling import BaselineSampling, ViewSampling
from lorasub.errors import ConfigError
from lorasub.rng import seed_of
from lorasub.structures import SceneBatch


class PosedRGBD(SceneDataModule):
    """Scenes of a few views drawn from captures on disk, whatever of depth and poses these have.

    Batches are :class:`~lorasub.structures.SceneBatch` in the source's world units. Frames without depth, without a
    pose or without both are welcome: masks say so.

    Args:
        root: folder of the capture, or a list of folders; captures are looked for in and below them. An entry of the
            list may be a :class:`~lorasub.data.sources.CaptureSource` with its own format and weight; then every epoch
            mixes the sources in the proportion of their weights, a plain folder weighing 1.
        format: ``"auto"``, the name of a format (``docs/data.md`` lists them), or a reader with options.
        base_folder: where relative folders start; the working folder by default.
        batch_size: scenes of a batch, on each process.
        num_views: views of a scene.
        image_size: (H, W), or one number for both. The backbone wants multiples of its patch size.
        held_out: which frames are for validation and test.
        sampling: which frames go together; by the distance of their cameras unless told otherwise.
        augmentation: what happens to the images of training scenes, on the device, a pure function of (seed, step).
        evaluation: name -> further folders that ``test`` scores, each under its name.
        scenes_per_epoch: training scenes of an epoch; None makes every training frame the reference of one.
        val_scenes: validation and test scenes, evenly spaced; None makes every validation frame the reference of one.
        predict_root: what ``predict`` reads, with format ``"auto"``: a capture or a plain folder of images. None takes
            ``root``.
        seed: seed of the order of scenes and of the choice of views.
        decoding: how frames are cut, decoded and kept, and what happens to damaged ones.
        **flat: settings of ``held_out`` and ``decoding`` by their old names, see
            :class:`~lorasub.data.sources.FlatSettings`.
    """

    def __init__(
        self,
        root: str | list[str | CaptureSource],
        format: Reader | str = "auto",
        base_folder: str = "",
        batch_size: int = 1,
        num_views: int = 4,
        image_size: int | tuple[int, int] = 112,
        held_out: HeldOut = HeldOut(),  # noqa: B008 - frozen
        sampling: ViewSampling | None = None,
        augmentation: Augmentation | None = None,
        evaluation: dict[str, EvaluationSet] | None = None,
        scenes_per_epoch: int | None = None,
        val_scenes: int | None = None,
        predict_root: str | None = None,
        seed: int = 0,
        decoding: Decoding = Decoding(),  # noqa: B008 - frozen
        **flat: Any,
    ) -> None:
        super().__init__()
        counts = {"batch_size": batch_size, "num_views": num_views, "scenes_per_epoch": scenes_per_epoch}
        for name, value in (counts | {"val_scenes": val_scenes}).items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
        if min(size) < 1:
            raise ConfigError(f"image_size must be positive, got {image_size}")
        entries = [root] if isinstance(root, str | Path) else list(root)
        self.sources = [
            entry if isinstance(entry, CaptureSource) else CaptureSource(root=str(entry), format=format)
            for entry in entries
        ]
        self.weighted = any(isinstance(entry, CaptureSource) for entry in entries)
        self.base_folder = base_folder
        self.batch_size = batch_size
        self.num_views = num_views
        self.held_out, self.decoding = FlatSettings(**flat).merge(held_out, decoding)
        self.view_format = ViewFormat(size=size, crop=self.decoding.crop)
        self.sampling = sampling or BaselineSampling()
        self.augmentation = augmentation
        self.evaluation = dict(evaluation or {})
        self.scenes_per_epoch = scenes_per_epoch
        self.val_scenes = val_scenes
        self.predict_root = predict_root
        self.seed = seed
        self._captures: list[list[Capture]] | None = None
        self._datasets: dict[str, CaptureScenes] = {}

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """Names of the loaders of ``test``, in order; the first is that of the held-out part of ``root``."""
        return "held_out", *self.evaluation

    @property
    def images_change(self) -> bool:
        """True if training scenes are augmented."""
        return self.augmentation is not None

    @property
    def batch_shape(self) -> BatchShape | None:
        """The scenes of a step."""
        return BatchShape(self.batch_size, self.num_views, *self.view_format.size)

    @property
    def identity(self) -> str:
        """The sources, what of them is trained on, and the seed."""
        return f"{self.sources} {self.held_out} {self.scenes_per_epoch} {self.num_views} {self.view_format} {self.seed}"

    @property
    def captures(self) -> list[Capture]:
        """The captures below ``root``, read when first asked for."""
        return [capture for group in self._captures_of_sources() for capture in group]

    def dataset(self, split: SplitName) -> CaptureScenes:
        """The scenes of one split; made once, so that its cache lives as long as this module.

        Raises:
            ConfigError: the split is empty or too small.
            DataError: the captures cannot be read.
        """
        if split not in self._datasets:
            parts = [
                [self.held_out.split(capture)[split] for capture in group] for group in self._captures_of_sources()
            ]
            groups = [[part for part in group if part is not None] for group in parts]
            found = [capture for group in groups for capture in group]
            if not found:
                raise ConfigError(f"the '{split}' split of {self._names()} is empty; change {self.held_out}")
            refuse_plain_images(found, self._names())
            mixed = split == "train" and self.weighted
            weights = weights_of_captures(groups, [source.weight for source in self.sources]) if mixed else None
            self._datasets[split] = self._scenes(
                found, weights=weights, length=self.scenes_per_epoch if split == "train" else self.val_scenes
            )
        return self._datasets[split]

    def evaluation_dataset(self, name: str) -> CaptureScenes:
        """The scenes of one of the sets of ``evaluation``; made once.

        Raises:
            ConfigError: it holds too few frames for a scene.
            DataError: it cannot be read.
        """
        key = f"evaluation {name}"
        if key not in self._datasets:
            chosen = self.evaluation[name]
            captures = self._find(chosen.root, chosen.format)
            refuse_plain_images(captures, chosen.root)
            self._datasets[key] = self._scenes(
                captures, length=chosen.scenes, num_views=chosen.num_views, sampling=chosen.sampling
            )
        return self._datasets[key]

    def train_dataloader(self) -> DataLoader[SceneBatch]:
        """Training scenes, in a stateless order that is split over processes and resumes exactly."""
        return training_loader(
            self.dataset("train"),
            batch_size=self.batch_size,
            seed=self.seed,
            trainer=self.trainer,
            num_workers=self.decoding.num_workers,
            collate_fn=SceneBatch.concatenate,
            sampler_class=EpochAndIndexSampler,
        )

    def val_dataloader(self) -> DataLoader[SceneBatch]:
        """Validation scenes: the same ones every time."""
        return self._loader(self.dataset("val"), self.batch_size)

    def test_dataloader(self) -> DataLoader[SceneBatch] | list[DataLoader[SceneBatch]]:
        """The validation scenes, then the sets of ``evaluation`` in the order of :attr:`evaluation_names`."""
        if not self.evaluation:
            return self.val_dataloader()
        others = [self._loader(self.evaluation_dataset(name), self.batch_size) for name in self.evaluation]
        return [self.val_dataloader(), *others]

    def predict_dataloader(self) -> DataLoader[SceneBatch]:
        """Every frame once and in order, ``num_views`` at a time; the batch size is 1 since the last may be shorter."""
        root = self.predict_root
        dataset = SuccessiveScenes(
            with_own_names(self.captures) if root is None else self._find(root, "auto"),
            num_views=self.num_views,
            view_format=self.view_format,
            cache_mb=self.decoding.cache_mb,
            skip_damaged=self.decoding.skip_damaged,
        )
        return self._loader(dataset, 1)

    def on_after_batch_transfer(self, batch: SceneBatch, dataloader_idx: int) -> SceneBatch:
        """Augment training scenes on the device where they have arrived.

        Scene b of rank r takes the place b W + r of the step's slice of the order (W ranks), as it does in the order
        itself: its augmentation does not depend on over how many processes the step is spread.
        """
        trainer = self.trainer
        if self.augmentation is None or trainer is None or not trainer.training:
            return batch
        step, ranks = trained_batches(trainer), trainer.world_size
        places = [index * ranks + trainer.global_rank for index in range(len(batch))]
        return self.augmentation.augment(batch, [seed_of(self.seed, "augmentation", step, place) for place in places])

    def _captures_of_sources(self) -> list[list[Capture]]:
        if self._captures is None:
            self._captures = [self._find(source.root, source.format) for source in self.sources]
        return self._captures

    def _find(self, root: str, format: str | Reader) -> list[Capture]:
        """Reads captures and says once what their readers noted."""
        captures = find_below(self.base_folder, root, format, skip_damaged=self.decoding.skip_damaged)
        announce(captures)
        return captures

    def _scenes(
        self,
        captures: list[Capture],
        *,
        length: int | None,
        weights: list[float] | None = None,
        num_views: int | None = None,
        sampling: ViewSampling | None = None,
    ) -> CaptureScenes:
        return CaptureScenes(
            with_own_names(captures),
            num_views=num_views or self.num_views,
            view_format=self.view_format,
            sampling=sampling or self.sampling,
            seed=self.seed,
            length=length,
            weights=weights,
            cache_mb=self.decoding.cache_mb,
            skip_damaged=self.decoding.skip_damaged,
        )

    def _names(self) -> str:
        return ", ".join(source.root for source in self.sources)

    def _loader(self, dataset: Dataset[Any], batch_size: int) -> DataLoader[SceneBatch]:
        return evaluation_loader(
            dataset,
            batch_size=batch_size,
            trainer=self.trainer,
            num_workers=self.decoding.num_workers,
            collate_fn=SceneBatch.concatenate,
        )
