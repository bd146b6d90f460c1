"""The task of VGGT itself: cameras, depth and points of a scene from its views."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import AdamW
from torchmetrics import MetricCollection

from lorasub.adapters import AdapterSpec
from lorasub.backbones import Backbone
from lorasub.losses import LossTerms, VGGTLoss
from lorasub.metrics import SceneMetric, protocol_metrics
from lorasub.metrics.protocols import DEFAULT
from lorasub.structures import Predictions, SceneBatch
from lorasub.tasks.base import OptimizerFactory, SceneTask


class GeometryTask(SceneTask):
    """Fit cameras, depth and (where the backbone has the head) points with VGGT's published losses.

    Args:
        backbone: the 3D model.
        adapter: one adapter, or several with disjoint targets.
        loss: weights and details of the loss; VGGT's published ones by default.
        optimizer: called with the trainable parameters.
        warmup: share of all steps in which the learning rate rises; a cosine follows.
        protocols: what validation and test measure: ids of :data:`lorasub.metrics.PROTOCOLS`, and metrics of your own.

    Example:
        >>> task = GeometryTask(backbone=ls.VGGT(tiny), adapter=ls.LoRA(r=4), protocols=["default", "evo_sim3"])
        >>> task.adapters.table().trainable < 0.5 * sum(p.numel() for p in task.backbone.parameters())
        True
    """

    def __init__(
        self,
        backbone: Backbone,
        adapter: AdapterSpec | Sequence[AdapterSpec] | None = None,
        loss: VGGTLoss | None = None,
        optimizer: OptimizerFactory = lambda parameters: AdamW(parameters, lr=1e-3, weight_decay=0.05),
        warmup: float = 0.05,
        protocols: Sequence[str | SceneMetric] = (DEFAULT,),
    ) -> None:
        super().__init__(backbone, adapter, loss, optimizer, warmup)
        self.protocols = tuple(protocols)

    def configure_loss(self) -> nn.Module:
        """VGGT's losses with their published weights."""
        return VGGTLoss()

    def configure_metrics(self) -> MetricCollection:
        """Returns the metrics of the protocols."""
        return protocol_metrics(self.protocols)

    def compute_loss(self, predictions: Predictions, batch: SceneBatch) -> LossTerms:
        """Weighted camera, depth and point losses of each scene."""
        assert isinstance(self.loss, VGGTLoss)
        terms: LossTerms = self.loss(predictions, batch)
        return terms
