"""Rooms captured with a depth camera.

Also an example of a task that changes what a batch is before the model learns from it: it overrides ``prepare_batch``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lorasub.errors import ConfigError
from lorasub.metrics import SceneMetric
from lorasub.structures import SceneBatch
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
