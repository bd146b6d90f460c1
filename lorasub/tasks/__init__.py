"""LightningModules: what is trained, on which loss, scored by what. Subclass one to make a task of your own."""

from lightning.pytorch import Trainer

from lorasub.tasks.base import SceneOutput, SceneTask
from lorasub.tasks.geometry import GeometryTask
from lorasub.tasks.pretraining import PretrainingTask
from lorasub.tasks.schedule import warmup_cosine

__all__ = ["GeometryTask", "PretrainingTask", "SceneOutput", "SceneTask", "Trainer", "warmup_cosine"]
