"""3D foundation models behind one contract."""

from lorasub.backbones.base import Backbone
from lorasub.backbones.constant import ConstantGeometry
from lorasub.backbones.transformers_depth import TransformersDepth
from lorasub.backbones.vggt import VGGT, VGGTConfig

__all__ = ["VGGT", "Backbone", "ConstantGeometry", "TransformersDepth", "VGGTConfig"]
