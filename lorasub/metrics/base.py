"""What lorasub's metrics share: named weighted means that add up over batches and processes."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torchmetrics
from torch import Tensor

from lorasub.structures import Predictions, SceneBatch


class SceneMetric(torchmetrics.Metric, ABC):
    """A torchmetrics metric of (predictions, batch) whose results are weighted means.

    A subclass names its results and its protocol, and adds values with :meth:`add`. A result that nothing was added to
    is NaN. The state has a fixed size and sums over processes.

    Subclasses whose results depend on settings must put the settings into the protocol: it is part of the states'
    names. Without that, ``MetricCollection`` would take two metrics that both saw nothing in the first batch for the
    same one, and from then on update only one of them.

    Args:
        names: the results' names, the keys of :meth:`compute`.
        protocol: says exactly how the numbers are measured; to be written beside them in result files.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    def __init__(self, names: tuple[str, ...], protocol: str) -> None:
        super().__init__()
        self.names = names
        self.protocol = protocol
        self.add_state(f"sums of {protocol}", torch.zeros(len(names)), dist_reduce_fx="sum")
        self.add_state(f"weights of {protocol}", torch.zeros(len(names)), dist_reduce_fx="sum")

    @abstractmethod
    def update(self, predictions: Predictions, batch: SceneBatch) -> None:
        """Measure one batch. Parts that are missing on either side are left out.

        Args:
            predictions: of the backbone.
            batch: the truth, normalised or not; lengths are reported in the source's unit (times ``batch.scale``).
        """

    def add(self, values: dict[str, Tensor], weights: Tensor) -> None:
        """Add values by name; those of weight 0 are not read and may be NaN.

        Args:
            values: name -> tensor of the shape of ``weights``.
            weights: number, bool or share that each value stands for.
        """
        sums, totals = getattr(self, f"sums of {self.protocol}"), getattr(self, f"weights of {self.protocol}")
        weights = weights.detach().to(sums)
        for name, value in values.items():
            index = self.names.index(name)
            sums[index] += torch.where(weights > 0, value.detach().to(sums) * weights, 0.0).sum()
            totals[index] += weights.sum()

    def compute(self) -> dict[str, Tensor]:
        """Name -> weighted mean ``[]`` over everything seen on all processes; NaN where nothing was."""
        sums, totals = getattr(self, f"sums of {self.protocol}"), getattr(self, f"weights of {self.protocol}")
        return dict(zip(self.names, (sums / totals).unbind(), strict=True))
