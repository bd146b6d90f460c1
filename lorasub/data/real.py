"""Real captures as a LightningDataModule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Dataset

from lorasub.data.decoding import Crop
from lorasub.data.frames import Capture
from lorasub.data.loading import evaluation_loader, training_loader
from lorasub.data.readers.base import Reader
from lorasub.data.readers.discovery import find_captures
from lorasub.data.real_scenes import CaptureScenes, EpochAndIndexSampler, SuccessiveScenes, ViewFormat
from lorasub.data.splits import SplitName, split_by_file, split_by_fraction
from lorasub.data.view_sampling import BaselineSampling
from lorasub.errors import ConfigError, DataError
from lorasub.structures import SceneBatch


class PosedRGBD(pl.LightningDataModule):
    """Scenes of a few views drawn from captures on disk, whatever of depth and poses these have.

    Batches are :class:`~lorasub.structures.SceneBatch` in the source's world units. Frames without depth, without a
    pose or without both are welcome: masks say so.

    Args:
        root: folder of the capture, or a list of folders; captures are looked for in and below them.
        format: ``"auto"``, the name of a format (``docs/data.md`` lists them), or a reader with options.
        batch_size: scenes of a batch, on each process.
        num_views: views of a scene.
        image_size: (H, W), or one number for both. The backbone wants multiples of its patch size.
        crop: ``"principal_point"`` or ``"center"``, see :func:`~lorasub.data.decoding.load_view`.
        val_fraction: the last part of each capture's frames is for validation and test. 1 uses all of them there.
        split_file: JSON file with frozen lists of frames, instead of ``val_fraction``.
        sampling: which frames go together.
        scenes_per_epoch: training scenes of an epoch; None makes every training frame the reference of one.
        val_scenes: validation and test scenes, evenly spaced; None makes every validation frame the reference of one.
        predict_root: what ``predict`` reads, with format ``"auto"``: a capture or a plain folder of images. None takes
            ``root``.
        seed: seed of the order of scenes and of the choice of views.
        num_workers: processes that decode. 0 decodes in the training process, which is fine once the cache is warm.
        cache_mb: memory for decoded and resized frames, in each of these processes.
        skip_damaged: leave out frames that cannot be decoded, with a warning for each, instead of stopping.
    """

    def __init__(
        self,
        root: str | list[str],
        format: str | Reader = "auto",
        batch_size: int = 1,
        num_views: int = 4,
        image_size: int | tuple[int, int] = 112,
        crop: Crop = "principal_point",
        val_fraction: float = 0.2,
        split_file: str | None = None,
        sampling: BaselineSampling | None = None,
        scenes_per_epoch: int | None = None,
        val_scenes: int | None = None,
        predict_root: str | None = None,
        seed: int = 0,
        num_workers: int = 0,
        cache_mb: float = 1024.0,
        skip_damaged: bool = False,
    ) -> None:
        super().__init__()
        counts = {"batch_size": batch_size, "num_views": num_views, "scenes_per_epoch": scenes_per_epoch}
        for name, value in (counts | {"val_scenes": val_scenes}).items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if num_workers < 0:
            raise ConfigError(f"num_workers must not be negative, got {num_workers}")
        size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
        if min(size) < 1:
            raise ConfigError(f"image_size must be positive, got {image_size}")
        self.roots = [root] if isinstance(root, str | Path) else list(root)
        self.format = format
        self.batch_size = batch_size
        self.num_views = num_views
        self.view_format = ViewFormat(size=size, crop=crop)
        self.val_fraction = val_fraction
        self.split_file = split_file
        self.sampling = sampling or BaselineSampling()
        self.scenes_per_epoch = scenes_per_epoch
        self.val_scenes = val_scenes
        self.predict_root = predict_root
        self.seed = seed
        self.num_workers = num_workers
        self.cache_mb = cache_mb
        self.skip_damaged = skip_damaged
        self._captures: list[Capture] | None = None
        self._datasets: dict[SplitName, CaptureScenes] = {}

    @property
    def captures(self) -> list[Capture]:
        """The captures below ``root``, read when first asked for."""
        if self._captures is None:
            self._captures = [capture for root in self.roots for capture in find_captures(root, self.format)]
            for capture in self._captures:
                rank_zero_info(f"{capture.root}: {len(capture)} frames, format {capture.format}")
                for note in capture.notes:
                    rank_zero_info(f"  {note}")
        return self._captures

    def dataset(self, split: SplitName) -> CaptureScenes:
        """The scenes of one split; made once, so that its cache lives as long as this module.

        Raises:
            ConfigError: the split is empty or too small.
            DataError: the captures cannot be read.
        """
        if split not in self._datasets:
            parts = [self._split(capture)[split] for capture in self.captures]
            found = [part for part in parts if part is not None]
            if not found:
                raise ConfigError(
                    f"the '{split}' split of {', '.join(map(str, self.roots))} is empty; change val_fraction "
                    f"({self.val_fraction}) or split_file ({self.split_file})"
                )
            if not any(capture.has_poses or capture.has_depth for capture in found):
                raise DataError(
                    f"{', '.join(map(str, self.roots))}: none of the {sum(map(len, found))} images has a pose or "
                    "depth, so there is nothing to learn from or to compare with (predict needs neither). docs/data.md "
                    "describes the layouts that are recognised"
                )
            self._datasets[split] = CaptureScenes(
                found,
                num_views=self.num_views,
                view_format=self.view_format,
                sampling=self.sampling,
                seed=self.seed,
                length=self.scenes_per_epoch if split == "train" else self.val_scenes,
                cache_mb=self.cache_mb,
                skip_damaged=self.skip_damaged,
            )
        return self._datasets[split]

    def train_dataloader(self) -> DataLoader[SceneBatch]:
        """Training scenes, in a stateless order that is split over processes and resumes exactly."""
        return training_loader(
            self.dataset("train"),
            batch_size=self.batch_size,
            seed=self.seed,
            trainer=self.trainer,
            num_workers=self.num_workers,
            collate_fn=SceneBatch.concatenate,
            sampler_class=EpochAndIndexSampler,
        )

    def val_dataloader(self) -> DataLoader[SceneBatch]:
        """Validation scenes: the same ones every time."""
        return self._loader(self.dataset("val"), self.batch_size)

    def test_dataloader(self) -> DataLoader[SceneBatch]:
        """The validation scenes."""
        return self._loader(self.dataset("val"), self.batch_size)

    def predict_dataloader(self) -> DataLoader[SceneBatch]:
        """Every frame once and in order, ``num_views`` at a time; the batch size is 1 since the last may be shorter."""
        captures = self.captures if self.predict_root is None else find_captures(self.predict_root)
        dataset = SuccessiveScenes(captures, num_views=self.num_views, view_format=self.view_format)
        return self._loader(dataset, 1)

    def _split(self, capture: Capture) -> dict[SplitName, Capture | None]:
        if self.split_file is not None:
            return split_by_file(capture, self.split_file)
        return split_by_fraction(capture, self.val_fraction)

    def _loader(self, dataset: Dataset[Any], batch_size: int) -> DataLoader[SceneBatch]:
        return evaluation_loader(
            dataset, batch_size=batch_size, num_workers=self.num_workers, collate_fn=SceneBatch.concatenate
        )
