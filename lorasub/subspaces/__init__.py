"""Subspaces of weight updates: mining, measuring, combining. Pure tensors; works with plain torch."""

from lorasub.subspaces.basis import AdapterSource, LayerSubspace, MiningRecord, SubspaceBasis
from lorasub.subspaces.space_file import read_space_file, write_space_file
from lorasub.subspaces.updates import LowRankUpdate

__all__ = [
    "AdapterSource",
    "LayerSubspace",
    "LowRankUpdate",
    "MiningRecord",
    "SubspaceBasis",
    "read_space_file",
    "write_space_file",
]
