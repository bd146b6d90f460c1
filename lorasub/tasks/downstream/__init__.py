"""Tasks that a fine-tuned model is for: rooms, transparent objects, and flat pictures against real faces."""

from lorasub.tasks.downstream.indoor import IndoorTask
from lorasub.tasks.downstream.planar_or_real import PlanarOrRealTask
from lorasub.tasks.downstream.planarity import PlanarOrReal, best_threshold, plane_residual, relief
from lorasub.tasks.downstream.transparent import TransparentObjectsTask

__all__ = [
    "IndoorTask",
    "PlanarOrReal",
    "PlanarOrRealTask",
    "TransparentObjectsTask",
    "best_threshold",
    "plane_residual",
    "relief",
]
