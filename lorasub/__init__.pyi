from .backbones import VGGT as VGGT
from .backbones import Backbone as Backbone
from .backbones import VGGTConfig as VGGTConfig
from .structures import Predictions as Predictions
from .structures import SceneBatch as SceneBatch
