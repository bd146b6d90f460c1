"""Base class of metrics: named weighted means that add up over batches and processes, scene by scene."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
import torchmetrics
from torch import Tensor

from lorasub.structures import Predictions, SceneBatch


@dataclass(slots=True)
class SceneScores:
    """Values of one metric in one scene.

    Attributes:
        sums: name -> sum of values times weights.
        weights: name -> sum of weights; the scene's value is the quotient, and 0 means that nothing was measured.
        notes: why something was not measured, in words.
    """

    sums: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class SceneMetric(torchmetrics.Metric, ABC):
    """A torchmetrics metric of (predictions, batch) whose results are weighted means.

    A subclass names its results and its protocol, and adds values with :meth:`add`. A result that nothing was added to
    is NaN. The state has a fixed size and sums over processes.

    Subclasses whose results depend on settings must put the settings into the protocol: it is part of the states'
    names. Without that, ``MetricCollection`` would take two metrics that both saw nothing in the first batch for the
    same one, and from then on update only one of them.

    Args:
        names: the results' names.
        protocol: says exactly how the numbers are measured; it is written beside them in result files.

    Attributes:
        protocol_id: the named protocol that this metric belongs to, if any. It stands before the results' names, so
            that two protocols' numbers cannot be mistaken for one another (:mod:`lorasub.metrics.protocols`).
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    def __init__(self, names: tuple[str, ...], protocol: str) -> None:
        super().__init__()
        self.names = names
        self.protocol = protocol
        self.protocol_id: str | None = None
        self.add_state(f"sums of {protocol}", torch.zeros(len(names)), dist_reduce_fx="sum")
        self.add_state(f"weights of {protocol}", torch.zeros(len(names)), dist_reduce_fx="sum")
        self._scenes: dict[int, SceneScores] = {}
        self._scenes_of_update = -1

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
            values: name -> tensor ``[B, ...]`` of the shape of ``weights``.
            weights: ``[B, ...]`` number, bool or share that each value stands for. The first axis counts scenes.
        """
        sums, totals = getattr(self, f"sums of {self.protocol}"), getattr(self, f"weights of {self.protocol}")
        weights = weights.detach().to(sums)
        per_scene_weights = weights.flatten(1).sum(1) if weights.ndim > 1 else weights
        for name, value in values.items():
            index = self.names.index(name)
            weighted = torch.where(weights > 0, value.detach().to(sums) * weights, 0.0)
            per_scene = weighted.flatten(1).sum(1) if weighted.ndim > 1 else weighted
            sums[index] += per_scene.sum()
            totals[index] += per_scene_weights.sum()
            for scene, (total, weight) in enumerate(zip(per_scene.tolist(), per_scene_weights.tolist(), strict=True)):
                scores = self._scores(scene)
                scores.sums[name] = scores.sums.get(name, 0.0) + total
                scores.weights[name] = scores.weights.get(name, 0.0) + weight

    def note(self, scene: int, reason: str) -> None:
        """Say why something of a scene was not measured; result files repeat it.

        Args:
            scene: index in the batch of the current update.
            reason: one sentence.
        """
        notes = self._scores(scene).notes
        if reason not in notes:
            notes.append(reason)

    def last_scenes(self) -> dict[int, SceneScores]:
        """Values of the last update by the scene's index in its batch; scenes without any are absent."""
        return self._scenes if self._scenes_of_update == self.update_count else {}

    def compute(self) -> dict[str, Tensor]:
        """Name -> weighted mean ``[]`` over everything seen on all processes; NaN where nothing was."""
        sums, totals = getattr(self, f"sums of {self.protocol}"), getattr(self, f"weights of {self.protocol}")
        means = (sums / totals).unbind()
        return {self.full_name(name): mean for name, mean in zip(self.names, means, strict=True)}

    def full_name(self, name: str) -> str:
        """A result's name with its protocol's before it: ``recons_eval_scale/abs_rel``."""
        return f"{self.protocol_id}/{name}" if self.protocol_id else name

    def _scores(self, scene: int) -> SceneScores:
        if self._scenes_of_update != self.update_count:  # the first word of this update
            self._scenes, self._scenes_of_update = {}, self.update_count
        return self._scenes.setdefault(scene, SceneScores())
