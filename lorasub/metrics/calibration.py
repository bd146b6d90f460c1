"""Calibration of predicted confidence as a torchmetrics class."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.metrics.base import SceneMetric
from lorasub.metrics.functional.calibration import rank_correlation, sparsification
from lorasub.metrics.functional.depth import DepthAlignment, align_depth, alignment_determined
from lorasub.structures import Predictions, SceneBatch


class ConfidenceCalibration(SceneMetric):
    """AUSE and rank correlation of depth confidence and relative depth error; every scene counts the same.

    The area under the sparsification error compares the order that confidence gives with the order of the errors
    themselves (Ilg et al., ECCV 2018): 0 is perfect. Only the order of confidences counts, not their size.

    Args:
        alignment: of each scene's depth before its error ``|p - g| / g`` is taken; see
            :func:`lorasub.metrics.functional.align_depth`.

    Results: ``ause``; ``confidence_correlation``, Spearman's between confidence and error, -1 at best.
    """

    def __init__(self, alignment: DepthAlignment = "median") -> None:
        if alignment not in get_args(DepthAlignment):
            raise ConfigError(
                f"ConfidenceCalibration alignment {alignment!r} is unknown; "
                f"choose from {', '.join(get_args(DepthAlignment))}"
            )
        super().__init__(
            ("ause", "confidence_correlation"),
            protocol=f"depth confidence against AbsRel, alignment {alignment} per scene",
        )
        self.alignment = alignment

    def update(self, predictions: Predictions, batch: SceneBatch) -> None:
        """Measure one batch; without predicted depth and its confidence nothing happens.

        Args:
            predictions: ``depth`` and ``depth_conf`` are read.
            batch: ``depth``, ``valid`` and ``scale`` are read.
        """
        if predictions.depth is None or predictions.depth_conf is None:
            return
        rows = relative_errors(predictions.depth, batch, self.alignment)
        values = torch.full((2, len(batch)), torch.nan)
        for scene, (errors, confidence) in enumerate(zip(rows, predictions.depth_conf, strict=True)):
            known = batch.valid[scene].flatten()
            if not alignment_determined(known, self.alignment):
                self.note(scene, f"too few pixels have a true depth to align by {self.alignment}")
                continue
            errors, confidence = errors[known], confidence.flatten()[known]
            values[0, scene] = sparsification(errors, confidence).ause
            values[1, scene] = rank_correlation(errors, confidence)
            if values[:, scene].isnan().any():
                self.note(scene, "errors or confidences are all the same, or not finite")
        for name, value in zip(self.names, values, strict=True):
            self.add({name: value}, ~value.isnan())


def relative_errors(depth: Tensor, batch: SceneBatch, alignment: DepthAlignment) -> Tensor:
    """|p - g| / g of each scene's pixels ``[B, S H W]`` after alignment; meaningless where ``batch.valid`` is false."""
    scale = batch.scale[:, None]
    prediction, target, valid = depth.flatten(1) * scale, batch.depth.flatten(1) * scale, batch.valid.flatten(1)
    aligned = align_depth(prediction, target, valid, alignment)
    return (aligned - target).abs() / torch.where(valid, target, 1.0)
