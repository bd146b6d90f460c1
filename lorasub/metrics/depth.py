"""Depth accuracy as a torchmetrics class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.metrics.base import SceneMetric
from lorasub.metrics.functional.depth import (
    DepthAlignment,
    alignment_determined,
    depth_errors,
    depth_within,
    matched_depths,
)
from lorasub.structures import Predictions, SceneBatch

Region = Literal["all", "objects", "background"]


class DepthAccuracy(SceneMetric):
    """AbsRel, SqRel, delta < 1.25, MAE, RMSE and LogRMSE of predicted depth.

    Every unit (a frame, or all frames of a scene together) is aligned and measured by itself; the results are means
    over units, weighted by their valid pixels, as in recons_eval and CUT3R. SqRel, MAE and RMSE are in the source's
    unit. A unit with no more pixels than the alignment fits numbers is left out, with a note.

    Args:
        alignment: see :func:`lorasub.metrics.functional.align_depth`.
        per: ``frame`` fits the alignment to each frame, as for single-image depth; ``scene`` one to all frames of a
            scene, as for video depth, which also measures whether frames agree in scale.
        max_depth: true depth beyond it does not count, in the source's unit.
        clip: aligned predictions beyond it are held there, in the source's unit.
        frame_step: only every so many frames of a scene count, from the first.
        region: ``objects`` scores inside the scenes' object masks, ``background`` outside of them. The alignment is
            fitted to all valid pixels in any case: an object must be where the scene around it says.
        thresholds: further ratios r for shares of pixels with max(p / g, g / p) < r, reported as ``delta@r``.

    Results: ``abs_rel``, ``sq_rel``, ``delta1``, ``mae``, ``rmse``, ``log_rmse``, and ``delta@r``; with a region its
    name stands before each, as in ``objects_abs_rel``.

    Example:
        >>> metric = DepthAccuracy("none")
        >>> batch = SceneBatch.from_views(torch.rand(2, 3, 28, 28), depth=torch.full((2, 28, 28), 2.0))
        >>> metric.update(Predictions(depth=batch.depth * 1.1), batch)
        >>> round(metric.compute()["abs_rel"].item(), 4)
        0.1
    """

    def __init__(
        self,
        alignment: DepthAlignment = "median",
        per: Literal["frame", "scene"] = "scene",
        max_depth: float | None = None,
        clip: float | None = None,
        frame_step: int = 1,
        region: Region = "all",
        thresholds: Sequence[float] = (),
    ) -> None:
        for name, value, allowed in (
            ("alignment", alignment, get_args(DepthAlignment)),
            ("per", per, ("frame", "scene")),
            ("region", region, get_args(Region)),
        ):
            if value not in allowed:
                raise ConfigError(f"DepthAccuracy {name} {value!r} is unknown; choose from {', '.join(allowed)}")
        if frame_step < 1 or any(threshold <= 1 for threshold in thresholds):
            raise ConfigError(
                f"DepthAccuracy needs frame_step >= 1 and ratios above 1, not {frame_step} and {list(thresholds)}"
            )
        region_prefix = "" if region == "all" else f"{region}_"
        names = ("abs_rel", "sq_rel", "delta1", "mae", "rmse", "log_rmse", *(f"delta@{r:g}" for r in thresholds))
        details = [f"depth, alignment {alignment} per {per}"]
        details += [f"true depth up to {max_depth:g}"] if max_depth is not None else []
        details += [f"clipped to {clip:g}"] if clip is not None else []
        details += [f"every {frame_step} frames"] if frame_step > 1 else []
        details += [f"{region} only, aligned on all"] if region != "all" else []
        details += [f"ratios {', '.join(f'{r:g}' for r in thresholds)}"] if thresholds else []
        super().__init__(tuple(region_prefix + name for name in names), protocol=", ".join(details))
        self.alignment = alignment
        self.region_prefix = region_prefix
        self.per = per
        self.max_depth = max_depth
        self.clip = clip
        self.frame_step = frame_step
        self.region = region
        self.thresholds = tuple(thresholds)

    def update(self, predictions: Predictions, batch: SceneBatch) -> None:
        """Measure one batch; without predicted depth nothing happens.

        Args:
            predictions: ``depth`` is read.
            batch: ``depth``, ``valid`` and ``scale`` are read, and ``object_masks`` for a region.
        """
        if predictions.depth is None:
            return
        scale = batch.scale[:, None, None, None]
        frames = slice(None, None, self.frame_step)
        target = (batch.depth * scale)[:, frames]
        valid = batch.valid[:, frames]
        if self.max_depth is not None:
            valid = valid & (target < self.max_depth)
        scored = valid & self._inside(batch)[:, frames]
        start = 2 if self.per == "frame" else 1
        prediction, target, valid, scored = (
            tensor.flatten(start) for tensor in ((predictions.depth * scale)[:, frames], target, valid, scored)
        )
        prediction, target = matched_depths(prediction, target, valid, self.alignment)
        if self.clip is not None:
            prediction = prediction.clamp(max=self.clip)
        errors = depth_errors(prediction, target, scored)
        values = {name: getattr(errors, name) for name in ("abs_rel", "sq_rel", "delta1", "mae", "rmse", "log_rmse")}
        values |= {f"delta@{r:g}": depth_within(prediction, target, scored, r) for r in self.thresholds}
        determined = alignment_determined(valid, self.alignment)
        self._explain(determined, valid, scored)
        weights = torch.where(determined, scored.sum(-1), 0)
        self.add({self.region_prefix + name: value for name, value in values.items()}, weights)

    def _inside(self, batch: SceneBatch) -> Tensor:
        if self.region == "all":
            return torch.ones_like(batch.valid)
        if batch.object_masks is None:
            return torch.zeros_like(batch.valid)
        return batch.object_masks if self.region == "objects" else ~batch.object_masks

    def _explain(self, determined: Tensor, valid: Tensor, scored: Tensor) -> None:
        """Say why a scene, or a part of its frames, was left out."""
        for scene in range(len(valid)):
            missing = int((~determined[scene] | ~scored[scene].any(-1)).sum())
            if not missing:
                continue
            if not valid[scene].any():
                self.note(scene, "no pixel has a true depth")
            elif self.region != "all" and not scored[scene].any():
                self.note(scene, f"no pixel with a true depth is in the region '{self.region}'")
            else:
                units = determined[scene].numel()
                self.note(
                    scene,
                    f"{missing} of {units} {self.per}s have too few pixels to align by {self.alignment} and to score",
                )
