"""LightningModules: what is trained, on which loss, scored by what. Subclass one to make a task of your own."""

from lightning.pytorch import Trainer

from lorasub.tasks.base import SceneOutput, SceneTask
from lorasub.tasks.downstream import IndoorTask, PlanarOrRealTask, TransparentObjectsTask
from lorasub.tasks.geometry import GeometryTask
from lorasub.tasks.gradients import GradientPass, GradientVisitor, scene_losses, visit_gradients
from lorasub.tasks.no_look import NoLookScores, score_without_looking
from lorasub.tasks.pretraining import PretrainingTask
from lorasub.tasks.schedule import warmup_cosine

__all__ = [
    "GeometryTask",
    "GradientPass",
    "GradientVisitor",
    "IndoorTask",
    "NoLookScores",
    "PlanarOrRealTask",
    "PretrainingTask",
    "SceneOutput",
    "SceneTask",
    "Trainer",
    "TransparentObjectsTask",
    "scene_losses",
    "score_without_looking",
    "visit_gradients",
    "warmup_cosine",
]
