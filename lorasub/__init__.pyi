from .structures import Predictions as Predictions
from .structures import SceneBatch as SceneBatch
