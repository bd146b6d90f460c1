"""3D foundation models behind one contract."""

from lorasub.backbones.base import Backbone
from lorasub.backbones.constant import ConstantGeometry
from lorasub.backbones.depth_anything3 import DepthAnything3, DepthAnything3Config
from lorasub.backbones.transformers_depth import TransformersDepth
from lorasub.backbones.vggt import VGGT, VGGTConfig
from lorasub.backbones.vggt_omega import VGGTOmega

__all__ = [
    "VGGT",
    "Backbone",
    "ConstantGeometry",
    "DepthAnything3",
    "DepthAnything3Config",
    "TransformersDepth",
    "VGGTConfig",
    "VGGTOmega",
]
