"""Subspaces of weight updates: mining, measuring, combining. Pure tensors; works with plain torch."""

from lorasub.subspaces.basis import LayerSubspace, SubspaceBasis

__all__ = ["LayerSubspace", "SubspaceBasis"]
