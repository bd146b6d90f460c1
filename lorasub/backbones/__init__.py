"""3D foundation models behind one contract."""

from lorasub.backbones.base import Backbone
from lorasub.backbones.vggt import VGGT, VGGTConfig

__all__ = ["VGGT", "Backbone", "VGGTConfig"]
