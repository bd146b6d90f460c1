"""3D foundation models behind one contract."""

from lorasub.backbones.base import Backbone
from lorasub.backbones.constant import ConstantGeometry
from lorasub.backbones.vggt import VGGT, VGGTConfig

__all__ = ["VGGT", "Backbone", "ConstantGeometry", "VGGTConfig"]
