"""Where batches come from: LightningDataModules for synthetic and real scenes, and the loader pieces they share."""

from lorasub.data.base import SceneDataModule
from lorasub.data.curriculum import CurriculumScenes, Stage
from lorasub.data.mixed import MixedScenes
from lorasub.data.real import PosedRGBD
from lorasub.data.scene_bank import SceneBank
from lorasub.data.synthetic import SyntheticScenes

__all__ = ["CurriculumScenes", "MixedScenes", "PosedRGBD", "SceneBank", "SceneDataModule", "Stage", "SyntheticScenes"]
