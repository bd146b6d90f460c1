from .structures import Predictions as Predictions
from .structures import SceneBatch as SceneBatch
from .subspaces import LayerSubspace as LayerSubspace
from .subspaces import LowRankUpdate as LowRankUpdate
from .subspaces import SubspaceBasis as SubspaceBasis
