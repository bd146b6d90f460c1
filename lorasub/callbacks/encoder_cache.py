"""Keeps the tokens of a frozen encoder, so that each image of a fixed data set is encoded once."""

from __future__ import annotations

import contextlib
import logging

from lightning.pytorch import Callback, LightningModule, Trainer

from lorasub.contracts import CacheReport, EncoderModel, backbone_of, described
from lorasub.errors import ConfigError

log = logging.getLogger(__name__)


class EncoderCache(Callback):
    """Caches the encoder's tokens for the length of a fit, validation included.

    It pays where the same images come again: several epochs over real captures, validation sets. Whatever is not worth
    it or not safe switches it off, with a line in the log: images that are augmented, an encoder that trains.
    Predictions change by the rounding of half precision. Each process has a memory of its own; a folder may be shared.

    Args:
        memory_mb: limit of what is kept in each process's main memory. An image takes (H / 14) x (W / 14) x width x 2
            bytes: 25 kB for nano at 112 x 112, 2.8 MB for VGGT-1B at 518 x 518.
        folder: where to keep tokens on disk, too, for later runs and other processes; None: nowhere.
        disk_mb: limit of what the folder may hold.
    """

    def __init__(self, memory_mb: float = 1024.0, folder: str | None = None, disk_mb: float = 10240.0) -> None:
        if memory_mb < 0 or disk_mb < 0:
            raise ConfigError(f"EncoderCache: memory_mb is {memory_mb} and disk_mb {disk_mb}; neither can be negative")
        self.memory_mb = memory_mb
        self.folder = folder
        self.disk_mb = disk_mb
        self._cache: CacheReport | None = None
        self._attached = contextlib.ExitStack()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach the cache to the backbone, or say why not.

        Raises:
            ConfigError: the task's backbone has no encoder that could be cached.
        """
        backbone = backbone_of(pl_module)
        if not isinstance(backbone, EncoderModel):
            raise ConfigError(
                f"EncoderCache needs a backbone with cached_encoder, such as VGGT; {type(backbone).__name__} has none"
            )
        reason = self._reason_against(trainer, backbone)
        if reason is not None:
            if trainer.is_global_zero:
                log.info("encoder tokens are not cached: %s", reason)
            return
        context = backbone.cached_encoder(memory_mb=self.memory_mb, folder=self.folder, disk_mb=self.disk_mb)
        self._cache = self._attached.enter_context(context)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the cache away, and say what it did."""
        if self._cache is not None and trainer.is_global_zero:
            log.info("%s", self._cache.report())
        self._detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the cache away."""
        self._detach()

    def _detach(self) -> None:
        self._attached.close()
        self._cache = None

    @staticmethod
    def _reason_against(trainer: Trainer, backbone: EncoderModel) -> str | None:
        if described(trainer.datamodule).images_change:  # type: ignore[attr-defined]
            return "augmentation changes the images at every step"
        if backbone.encoder_trains:
            return "the encoder trains"
        return None
