"""Frozen weights in the dtype that autocast would cast them to in every step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


@torch.no_grad()
def cast_frozen_weights(modules: Iterable[nn.Module], dtype: torch.dtype = torch.bfloat16) -> int:
    """Store the frozen weights of matrix products in a lower precision, for good.

    Under autocast results stay the same bit for bit, since autocast casts the same values anew in every step; half of
    the memory and one cast a step and weight are saved. Linear and Conv2d layers are cast; normalisations, LayerScales,
    tokens, the bases of projected layers (they are exported) and everything that is trained stay as they are.

    Call it after adapters are injected: their starting values and the base model's hash are taken from the full
    precision. Merging into a cast model would round the merged weights; merge into the model as it is loaded.

    Args:
        modules: what runs under autocast, such as ``backbone.repeated_blocks()``; heads that switch it off do not.
        dtype: a floating dtype.

    Returns:
        how many numbers were cast.

    Example:
        >>> model = torch.nn.Linear(8, 4).requires_grad_(False)
        >>> _ = cast_frozen_weights([model])
        >>> model.weight.dtype
        torch.bfloat16
    """
    count = 0
    for module in modules:
        for layer in module.modules():
            for tensor in layer.parameters(recurse=False) if isinstance(layer, nn.Linear | nn.Conv2d) else ():
                if not tensor.requires_grad and tensor.dtype != dtype:
                    tensor.data = tensor.data.to(dtype)
                    count += tensor.numel()
    return count
