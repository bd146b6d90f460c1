"""Tasks that a fine-tuned model is for: rooms, transparent objects, and flat pictures against real faces.

Each is also an example: of another batch before the model learns from it (``prepare_batch``), of other measurements
(``configure_metrics``), and of a state of its own that is kept in checkpoints and is equal on all processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat

from lorasub.errors import ConfigError
from lorasub.geometry import decode_pose, full_precision, unproject_depth
from lorasub.losses import LossTerms
from lorasub.metrics import DepthAccuracy, PointMapError, SceneMetric
from lorasub.metrics.protocols import protocol_metrics
from lorasub.structures import Predictions, SceneBatch
from lorasub.tasks.geometry import GeometryTask


class IndoorTask(GeometryTask):
    """Geometry from sensor depth, which is trusted only as far as the sensor reaches.

    The error of structured light and stereo grows with the square of the distance, and what is far beyond the range is
    often made up. Depth of metric scenes beyond ``max_depth`` counts as unknown, in training and in evaluation.

    Args:
        max_depth: in metres; scenes whose unit is not the metre keep all their depth.
        protocols: see :class:`~lorasub.tasks.GeometryTask`; by default also camera paths, and clouds with normals.
        arguments: the other arguments of :class:`~lorasub.tasks.GeometryTask`.
    """

    def __init__(
        self,
        max_depth: float = 5.0,
        protocols: Sequence[str | SceneMetric] = ("default", "evo_sim3", "recons_eval_points"),
        **arguments: Any,
    ) -> None:
        if not max_depth > 0:
            raise ConfigError(f"max_depth must be above 0 metres, not {max_depth}")
        super().__init__(protocols=protocols, **arguments)
        self.max_depth = max_depth

    def prepare_batch(self, batch: SceneBatch) -> SceneBatch:
        """Forget depth out of reach, then normalise."""
        metres = batch.depth * batch.scale[:, None, None, None]
        trusted = (metres <= self.max_depth) | ~batch.metric[:, None, None, None]
        valid = batch.valid & trusted
        return super().prepare_batch(
            batch.replace(
                valid=valid,
                depth=torch.where(valid, batch.depth, 0.0),
                world_points=torch.where(valid[..., None], batch.world_points, 0.0),
            )
        )


class TransparentObjectsTask(GeometryTask):
    """Geometry, scored inside the object masks beside the scores of the whole image.

    Depth is aligned by its median over the whole scene and then scored inside and outside of the objects apart, with
    the ratios 1.05, 1.10 and 1.25 of ClearGrasp (Sajjan et al., ICRA 2020). A model that looks through the glass has a
    good background and a bad object. True depth on the glass has to come from a painted twin or a mesh: a depth camera
    is wrong just there.

    Takes the arguments of :class:`~lorasub.tasks.GeometryTask`. Batches need ``object_masks``; scenes without them
    count for the whole image only.
    """

    def configure_metrics(self) -> MetricCollection:
        """Returns the metrics of the protocols, and those of depth in and outside of objects and of points in them."""
        metrics = protocol_metrics(self.protocols)
        metrics.add_metrics(
            {
                "objects": DepthAccuracy(region="objects", thresholds=(1.05, 1.1, 1.25)),
                "background": DepthAccuracy(region="background"),
                "object_points": PointMapError(region="objects"),
            }
        )
        return metrics


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
        """Returns the metrics of the protocols, and AUROC and accuracy."""
        metrics = protocol_metrics(self.protocols)
        metrics.add_metrics({"planar_or_real": PlanarOrReal(self.threshold)})
        return metrics

    def compute_loss(self, predictions: Predictions, batch: SceneBatch) -> LossTerms:
        """VGGT's losses; in training the scenes' relief is remembered for the threshold."""
        if self.training and batch.labels is not None and predictions.depth is not None:
            self._remember(relief(predictions, batch).detach(), batch.labels)
        return super().compute_loss(predictions, batch)

    def on_validation_epoch_start(self) -> None:
        """Gives the metrics the threshold as it is now."""
        self._set_thresholds()

    def on_test_epoch_start(self) -> None:
        """Gives the metrics the checkpoint's threshold."""
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


@full_precision
def plane_residual(points: Tensor, valid: Tensor) -> Tensor:
    """Root mean squared distance to the best plane, relative to the extent along it.

    The square root of the ratio of the smallest to the largest eigenvalue of the points' covariance: 0 for points on a
    plane, whatever its distance, tilt and size, and 1 at most.

    Args:
        points: ``[..., N, 3]``.
        valid: ``[..., N]`` bool.

    Returns:
        ``[...]`` in [0, 1]; NaN where fewer than 4 points are valid (3 always lie on a plane), where they lie on a line
        or in one spot, or where one is not finite.
    """
    count = valid.sum(-1)
    # Apple's GPUs know no float64
    precise = torch.float32 if points.device.type == "mps" else torch.float64
    p = torch.where(valid[..., None], points, 0.0).to(precise)
    usable = (count > 3) & p.isfinite().all(-1).all(-1)
    p = torch.where(usable[..., None, None], p, 0.0)
    weights = valid[..., None].to(p) / count.clamp(min=1)[..., None, None]
    centred = torch.where(valid[..., None], p - (weights * p).sum(-2, keepdim=True), 0.0)
    spread = torch.linalg.eigvalsh((weights * centred).mT @ centred).clamp(min=0)
    usable = usable & (spread[..., 1] > 1e-12 * spread[..., 2])
    return torch.where(usable, (spread[..., 0] / spread[..., 2]).sqrt(), torch.nan).to(points.dtype)


def best_threshold(scores: Tensor, labels: Tensor) -> Tensor:
    """The threshold with the best balanced accuracy for "label 1 where the score is above".

    Half way between two neighbouring scores; the middle one where several are equally good.

    Args:
        scores: ``[N]``.
        labels: ``[N]`` 0 or 1.

    Returns:
        ``[]``; NaN unless both labels occur.
    """
    positive = labels == 1
    if not positive.any() or positive.all():
        return scores.new_tensor(torch.nan)
    ordered, order = scores.sort()
    positive = positive[order].to(scores)
    # below[i]: share of each class among the i smallest scores
    below = torch.cat([positive.new_zeros(1), positive.cumsum(0)]) / positive.sum()
    below_negative = torch.cat([positive.new_zeros(1), (1 - positive).cumsum(0)]) / (1 - positive).sum()
    balanced = below_negative + (1 - below)
    distinct = torch.ones_like(balanced, dtype=torch.bool)
    distinct[1:-1] = ordered[1:] > ordered[:-1]  # equal scores cannot be told apart
    balanced = torch.where(distinct, balanced, -1.0)
    best = (balanced == balanced.max()).nonzero().flatten()
    cut = int(best[len(best) // 2])
    around = torch.cat([ordered[:1], ordered, ordered[-1:]])
    return (around[cut] + around[cut + 1]) / 2


def relief(predictions: Predictions, batch: SceneBatch) -> Tensor:
    """Plane residual of each scene's predicted surfaces, the median over views: 0 for a flat picture.

    Each view's predicted depth is unprojected by itself: with a micro-baseline the cameras hardly differ, and errors of
    their poses would make a flat picture thick. Object masks, where the batch has them, say which pixels count.

    Args:
        predictions: ``depth`` is read, and the intrinsics of the pose encoding if there is one (else the batch's).
        batch: ``object_masks`` is read; all pixels count in scenes where it is empty or absent.

    Returns:
        ``[B]``, 0 for a plane; NaN where no view has enough pixels.
    """
    assert predictions.depth is not None
    intrinsics = batch.intrinsics
    if predictions.pose_encoding is not None:
        _, intrinsics = decode_pose(predictions.pose_encoding, batch.image_size)
    points = unproject_depth(predictions.depth, intrinsics).flatten(2, 3)
    used = torch.ones_like(batch.valid) if batch.object_masks is None else batch.object_masks
    used = used | ~used.flatten(1).any(1)[:, None, None, None]
    return plane_residual(points, used.flatten(2)).nanmedian(dim=1).values


class PlanarOrReal(SceneMetric):
    """AUROC and accuracy of "real", label 1, against "planar", label 0, from :func:`relief`.

    Scenes without a label do not count. AUROC needs no threshold; accuracy is NaN as long as there is none.

    Args:
        threshold: relief above which a scene is called real.

    Results: ``relief_planar`` and ``relief_real``, means of the two classes; ``accuracy``; ``auroc`` of the whole set,
    NaN unless both classes are there.
    """

    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, threshold: float = math.nan) -> None:
        super().__init__(
            ("relief_planar", "relief_real", "accuracy"),
            protocol="planar or real: plane residual relative to extent, median over views",
        )
        self.threshold = threshold
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, predictions: Predictions, batch: SceneBatch) -> None:
        """Score one batch; without predicted depth nothing happens.

        Args:
            predictions: ``depth`` and the pose encoding are read.
            batch: ``labels`` and ``object_masks`` are read.
        """
        if predictions.depth is None:
            return
        found = relief(predictions, batch)
        labels = torch.full_like(found, -1, dtype=torch.int64) if batch.labels is None else batch.labels
        for scene, (score, label) in enumerate(zip(found.tolist(), labels.tolist(), strict=True)):
            if label < 0:
                self.note(scene, "the scene has no label")
            elif math.isnan(score):
                self.note(scene, "too few predicted points, or none that are finite, to fit a plane to")
        used = (labels >= 0) & ~found.isnan()
        # also when it is nothing: processes exchange these lists, and one that has none would leave the others waiting
        self.scores.append(found[used])
        self.labels.append(labels[used])
        self.add({"relief_planar": found}, used & (labels == 0))
        self.add({"relief_real": found}, used & (labels == 1))
        if not math.isnan(self.threshold):
            self.add({"accuracy": (found > self.threshold) == (labels == 1)}, used)

    def compute(self) -> dict[str, Tensor]:
        """Means over scenes, and AUROC over all of them."""
        means = super().compute()
        area = next(iter(means.values())).new_tensor(torch.nan)
        if self.scores:
            scores, labels = dim_zero_cat(self.scores), dim_zero_cat(self.labels)
            if (labels == 0).any() and (labels == 1).any():
                area = binary_auroc(scores, labels)
        return {**means, self.full_name("auroc"): area}
