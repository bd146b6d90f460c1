"""LightningModules: what is trained, on which loss, scored by what. Subclass one to make a task of your own."""

from lightning.pytorch import Trainer

from lorasub.tasks.base import SceneOutput, SceneTask
from lorasub.tasks.geometry import GeometryTask
from lorasub.tasks.gradients import GradientPass, GradientVisitor, visit_gradients
from lorasub.tasks.indoor import IndoorTask
from lorasub.tasks.memory import MemoryEstimate, estimate_memory
from lorasub.tasks.no_look import NoLookScores, score_without_looking
from lorasub.tasks.planar_or_real import PlanarOrRealTask
from lorasub.tasks.pretraining import PretrainingTask
from lorasub.tasks.schedule import warmup_cosine
from lorasub.tasks.sharding import FullyShardedStrategy
from lorasub.tasks.transparent import TransparentObjectsTask

__all__ = [
    "FullyShardedStrategy",
    "GeometryTask",
    "GradientPass",
    "GradientVisitor",
    "IndoorTask",
    "MemoryEstimate",
    "NoLookScores",
    "PlanarOrRealTask",
    "PretrainingTask",
    "SceneOutput",
    "SceneTask",
    "Trainer",
    "TransparentObjectsTask",
    "estimate_memory",
    "score_without_looking",
    "visit_gradients",
    "warmup_cosine",
]
