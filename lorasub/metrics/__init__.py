"""Evaluation: pure functions in :mod:`lorasub.metrics.functional`, and torchmetrics classes that accumulate them.

The classes are updated with (predictions, batch), so that a task can hold any number of them in one
``torchmetrics.MetricCollection``. Each names its protocol (``metric.protocol``).
"""

from lorasub.metrics.base import SceneMetric
from lorasub.metrics.depth import DepthAccuracy
from lorasub.metrics.points import PointMapError
from lorasub.metrics.pose import PoseAccuracy

__all__ = ["DepthAccuracy", "PointMapError", "PoseAccuracy", "SceneMetric"]
