"""VGGT: images of a scene in; cameras, depth maps and point maps out, in one forward pass."""

from lorasub.backbones.vggt.config import VGGTConfig
from lorasub.backbones.vggt.model import VGGT

__all__ = ["VGGT", "VGGTConfig"]
