"""Depth Anything 3: images of a scene in any number; cameras and depth out, from one plain transformer."""

from lorasub.backbones.depth_anything3.config import DepthAnything3Config
from lorasub.backbones.depth_anything3.model import DepthAnything3

__all__ = ["DepthAnything3", "DepthAnything3Config"]
