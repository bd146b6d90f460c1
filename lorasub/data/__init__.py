"""LightningDataModules for synthetic and real scenes, and the loader pieces they share."""

from lorasub.data.base import SceneDataModule
from lorasub.data.combined import MixedScenes, SceneBank
from lorasub.data.curriculum import SceneKind, Stage
from lorasub.data.photos import Photos
from lorasub.data.pretraining import PretrainingScenes
from lorasub.data.real import PosedRGBD
from lorasub.data.synthetic import SyntheticScenes

__all__ = [
    "MixedScenes",
    "Photos",
    "PosedRGBD",
    "PretrainingScenes",
    "SceneBank",
    "SceneDataModule",
    "SceneKind",
    "Stage",
    "SyntheticScenes",
]
