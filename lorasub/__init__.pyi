from .data.synthetic import SyntheticScenes as SyntheticScenes
from .structures import Predictions as Predictions
from .structures import SceneBatch as SceneBatch
