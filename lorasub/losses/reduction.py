"""Means over what is valid, scene by scene."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of each scene's valid values; 0, with a zero gradient, for a scene that has none.

    Args:
        values: ``[B, ...]``. What stands where the mask is false does not matter, NaN included.
        mask: bool of the same shape.

    Returns:
        ``[B]``.
    """
    total = torch.where(mask, values, 0.0).flatten(1).sum(1)
    return total / mask.flatten(1).sum(1).clamp(min=1)


def below_quantile(values: Tensor, mask: Tensor, quantile: float, *, min_count: int = 1000) -> Tensor:
    """The mask without each scene's largest values.

    Args:
        values: ``[B, ...]``.
        mask: bool of the same shape.
        quantile: valid values above this quantile (nearest rank) of their own scene are dropped; 1 drops nothing.
        min_count: scenes with this many valid values or fewer keep them all, as in VGGT.

    Returns:
        bool of the same shape. NaN is never dropped: it has to show in the loss.
    """
    with torch.no_grad():
        flat, flat_mask = values.flatten(1), mask.flatten(1)
        # Invalid values come behind all valid ones. Selecting one rank is some 20 times faster than sorting.
        candidates = torch.where(flat_mask, flat, torch.inf)
        thresholds = [
            row.kthvalue(round(quantile * (count - 1)) + 1).values if count > min_count else row.new_tensor(torch.inf)
            for row, count in zip(candidates, flat_mask.sum(1).tolist(), strict=True)
        ]
        too_large = flat > torch.stack(thresholds)[:, None]
        return mask & ~too_large.view_as(mask)
