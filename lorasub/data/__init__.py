"""LightningDataModules for synthetic and real scenes, and the loader pieces they share."""

from lorasub.data.base import SceneDataModule
from lorasub.data.curriculum import Stage
from lorasub.data.mixed import MixedScenes
from lorasub.data.photos import Photos
from lorasub.data.pretraining import PretrainingScenes
from lorasub.data.real import PosedRGBD
from lorasub.data.scene_bank import SceneBank
from lorasub.data.scene_mixture import SceneKind
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
