"""Evaluation: pure functions in :mod:`lorasub.metrics.functional`, and torchmetrics classes that accumulate them.

The classes are updated with (predictions, batch), so that a task can hold any number of them in one
``torchmetrics.MetricCollection``. Each says how exactly it measures (``metric.protocol``); the combinations that others
publish have ids in :data:`PROTOCOLS`.
"""

from lorasub.metrics.base import SceneMetric, SceneScores
from lorasub.metrics.calibration import ConfidenceCalibration
from lorasub.metrics.depth import DepthAccuracy
from lorasub.metrics.points import PointCloudAccuracy, PointMapError
from lorasub.metrics.pose import PoseAccuracy, TrajectoryError
from lorasub.metrics.protocols import PROTOCOLS, Protocol, protocol_metrics

__all__ = [
    "PROTOCOLS",
    "ConfidenceCalibration",
    "DepthAccuracy",
    "PointCloudAccuracy",
    "PointMapError",
    "PoseAccuracy",
    "Protocol",
    "SceneMetric",
    "SceneScores",
    "TrajectoryError",
    "protocol_metrics",
]
