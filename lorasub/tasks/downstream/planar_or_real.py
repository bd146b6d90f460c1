"""Tells a real face from a flat picture of one, from the geometry that the model predicts.

Also an example of a task with a state of its own, kept in checkpoints and equal on all processes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from lorasub.errors import ConfigError
from lorasub.losses import LossTerms
from lorasub.metrics.protocols import protocol_metrics
from lorasub.structures import Predictions, SceneBatch
from lorasub.tasks.downstream.planarity import PlanarOrReal, best_threshold, relief
from lorasub.tasks.geometry import GeometryTask


class PlanarOrRealTask(GeometryTask):
    """Geometry under a micro-baseline, and from it: planar (label 0) or real (label 1).

    The score of a scene is its relief: how far predicted surface points lie from their best plane, relative to their
    extent (:func:`~lorasub.tasks.downstream.relief`). The model learns geometry only; the labels choose the threshold,
    the one with the best balanced accuracy on the latest training scenes. So nothing learns to tell print from skin by
    its texture.

    Args:
        window: how many of the latest training scenes with a label choose the threshold.
        arguments: those of :class:`~lorasub.tasks.GeometryTask`.
    """

    recent: Tensor

    def __init__(self, window: int = 512, **arguments: Any) -> None:
        if window < 2:
            raise ConfigError(f"the threshold needs a window of at least 2 scenes, not {window}")
        super().__init__(**arguments)
        # relief and label of the latest training scenes, the newest last; a buffer, so that checkpoints have it
        self.register_buffer("recent", torch.full((window, 2), torch.nan))

    @property
    def threshold(self) -> float:
        """Relief above which a scene is called real; NaN until training has seen both kinds."""
        known = self.recent[~self.recent.isnan().any(dim=1)]
        return float(best_threshold(known[:, 0], known[:, 1]))

    def configure_metrics(self) -> MetricCollection:
        """Those of the protocols, and AUROC and accuracy."""
        metrics = protocol_metrics(self.protocols)
        metrics.add_metrics({"planar_or_real": PlanarOrReal(self.threshold)})
        return metrics

    def compute_loss(self, predictions: Predictions, batch: SceneBatch) -> LossTerms:
        """VGGT's losses; in training the scenes' relief is remembered for the threshold."""
        if self.training and batch.labels is not None and predictions.depth is not None:
            self._remember(relief(predictions, batch).detach(), batch.labels)
        return super().compute_loss(predictions, batch)

    def on_validation_epoch_start(self) -> None:
        """Use the threshold as it is now."""
        self._set_thresholds()

    def on_test_epoch_start(self) -> None:
        """Use the threshold of the checkpoint."""
        self._set_thresholds()

    def _set_thresholds(self) -> None:
        for metrics in self.metrics.values():
            assert isinstance(metrics, MetricCollection)
            metric = metrics["planar_or_real"]
            assert isinstance(metric, PlanarOrReal)
            metric.threshold = self.threshold

    def _remember(self, scores: Tensor, labels: Tensor) -> None:
        """Push the scenes of all processes into the window, on every process the same."""
        fresh = torch.stack([scores.float(), torch.where(labels >= 0, labels.float(), torch.nan)], dim=1)
        if self._trainer is not None and self.trainer.world_size > 1:
            gathered = self.all_gather(fresh)
            assert isinstance(gathered, Tensor)
            fresh = gathered.flatten(0, 1)
        fresh = fresh[~fresh.isnan().any(dim=1)]
        self.recent = torch.cat([self.recent, fresh])[-len(self.recent) :]
