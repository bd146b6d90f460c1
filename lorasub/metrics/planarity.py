"""Planar or real, told from predicted geometry, as a torchmetrics class."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat

from lorasub.geometry import decode_pose, unproject_depth
from lorasub.metrics.base import SceneMetric
from lorasub.metrics.functional.planarity import plane_residual
from lorasub.structures import Predictions, SceneBatch


def relief(predictions: Predictions, batch: SceneBatch) -> Tensor:
    """How far each scene is from flat: the plane residual of its views' predicted surfaces, the median over views.

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
