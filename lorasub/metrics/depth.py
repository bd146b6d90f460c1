"""Depth accuracy as a torchmetrics class."""

from __future__ import annotations

from typing import Literal, get_args

from lorasub.errors import ConfigError
from lorasub.metrics.base import SceneMetric
from lorasub.metrics.functional.depth import DepthAlignment, align_depth, depth_errors
from lorasub.structures import Predictions, SceneBatch


class DepthAccuracy(SceneMetric):
    """AbsRel, delta < 1.25 and RMSE of predicted depth.

    Every unit (a frame, or all frames of a scene together) is aligned and measured by itself; the results are means
    over units, weighted by their valid pixels, as in recons_eval and CUT3R. RMSE is in the source's unit.

    Args:
        alignment: see :func:`lorasub.metrics.functional.align_depth`.
        per: ``frame`` fits the alignment to each frame, as for single-image depth; ``scene`` one to all frames of a
            scene, as for video depth, which also measures whether frames agree in scale.

    Results: ``abs_rel``, ``delta1``, ``rmse``.
    """

    def __init__(self, alignment: DepthAlignment = "median", per: Literal["frame", "scene"] = "scene") -> None:
        if alignment not in get_args(DepthAlignment):
            raise ConfigError(
                f"DepthAccuracy alignment {alignment!r} is unknown; choose from {', '.join(get_args(DepthAlignment))}"
            )
        if per not in ("frame", "scene"):
            raise ConfigError(f"DepthAccuracy per {per!r} is unknown; choose frame or scene")
        super().__init__(("abs_rel", "delta1", "rmse"), protocol=f"depth, alignment {alignment} per {per}")
        self.alignment = alignment
        self.per = per

    def update(self, predictions: Predictions, batch: SceneBatch) -> None:
        """Measure one batch; without predicted depth nothing happens.

        Args:
            predictions: ``depth`` is read.
            batch: ``depth``, ``valid`` and ``scale`` are read.
        """
        if predictions.depth is None:
            return
        start = 2 if self.per == "frame" else 1
        scale = batch.scale[:, None, None, None]
        prediction, target = (predictions.depth * scale).flatten(start), (batch.depth * scale).flatten(start)
        valid = batch.valid.flatten(start)
        errors = depth_errors(align_depth(prediction, target, valid, self.alignment), target, valid)
        self.add({"abs_rel": errors.abs_rel, "delta1": errors.delta1, "rmse": errors.rmse}, valid.sum(-1))
