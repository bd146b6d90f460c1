"""Scores of models that do not look at the images: what a set of scenes gives away for nothing.

A set on which the mean depth map is right teaches an adapter that map, and not the attribute that it is named after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from lorasub.backbones import Backbone, ConstantGeometry
from lorasub.errors import ConfigError
from lorasub.geometry import normalize_scene
from lorasub.metrics import DepthAccuracy, PoseAccuracy
from lorasub.structures import SceneBatch

#: AbsRel below which a model that does not look has solved a set.
SOLVED = 0.1
#: A set should be so many times harder for a model that does not look than for the backbone.
WANTED = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Accuracy of one model on a set of scenes.

    Attributes:
        abs_rel: mean relative depth error, median-aligned for each scene; lower is better.
        auc_30: area under the pose accuracy curve up to 30 degrees, in [0, 1]; higher is better.
    """

    abs_rel: float
    auc_30: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoLookScores:
    """Models that do not look, beside one that does, on held-out scenes of a set.

    Attributes:
        mean: the mean depth map and the mean pose of each view over the training scenes.
        plane: a plane that faces cameras that do not move.
        backbone: the zero-shot backbone; None where none was given.
    """

    mean: Score
    plane: Score
    backbone: Score | None

    @property
    def best(self) -> float:
        """The lower AbsRel of the two that do not look."""
        return min(self.mean.abs_rel, self.plane.abs_rel)

    @property
    def ratio(self) -> float | None:
        """Error of the better model that does not look, divided by the backbone's."""
        return None if self.backbone is None else self.best / self.backbone.abs_rel

    @property
    def solved(self) -> bool:
        """Whether a model that does not look is right to :data:`SOLVED`."""
        return self.best < SOLVED


def score_without_looking(
    training: Iterable[SceneBatch], held_out: Sequence[SceneBatch], backbone: Backbone | None = None
) -> NoLookScores:
    """Score the mean of the training scenes, a plane, and a backbone on held-out scenes.

    Args:
        training: scenes of equal size and number of views.
        held_out: scenes with the same number of views.
        backbone: scored as it is.

    Raises:
        ConfigError: no scene, or none with depth or poses.
    """
    held_out = [normalize_scene(batch) for batch in held_out]
    if not held_out:
        raise ConfigError("there is no held-out scene to score on")
    device = held_out[0].images.device
    mean = ConstantGeometry.mean_of(training, per_view=True)
    return NoLookScores(
        mean=_score(mean.to(device), held_out),
        plane=_score(ConstantGeometry().to(device), held_out),
        backbone=None if backbone is None else _score(backbone, held_out),
    )


@torch.no_grad()
def _score(model: Backbone, batches: Sequence[SceneBatch]) -> Score:
    training = model.training
    model.eval()
    depth, poses = DepthAccuracy("median", per="scene"), PoseAccuracy()
    for batch in batches:
        predictions = model(batch.images)
        depth.update(predictions, batch)
        poses.update(predictions, batch)
    model.train(training)
    return Score(abs_rel=float(depth.compute()["abs_rel"]), auc_30=float(poses.compute()["auc@30"]))
