"""Adapters in ``torch.nn.MultiheadAttention``, which reads its weights without calling the layers that hold them.

Query, key and value are one parameter of the attention itself, ``in_proj_weight``. An adapter of it is kept as the
attention's child ``in_proj``, and from then on whoever reads ``in_proj_weight`` gets the sum of base weight and update,
with its gradient; so do readers of ``out_proj.weight``, or of the ``linear1.weight`` of a TransformerEncoderLayer
(:attr:`lorasub.adapters.AdapterLayer.weight`). That covers torch's fast path, too. Names are PEFT's: the adapter of
``in_proj_weight`` has the path of the attention.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor, nn

from lorasub.adapters.layer import AdapterLayer

#: Name of the child that holds the adapter of ``in_proj_weight``.
CHILD = "in_proj"


class AdaptedAttention:
    """Class that an attention with an adapter has beside its own: ``in_proj_weight`` includes the update."""

    in_proj: AdapterLayer

    @property
    def in_proj_weight(self) -> Tensor:
        """``(3 E, E)``, base and update."""
        return self.in_proj.weight


def is_fused_attention(module: nn.Module) -> bool:
    """Whether query, key and value are one parameter; with other widths of key or value they are three."""
    return isinstance(module, nn.MultiheadAttention) and module._parameters.get("in_proj_weight") is not None


def in_projection(attention: nn.Module) -> nn.Linear:
    """Returns a Linear that shares the attention's ``in_proj_weight`` and ``in_proj_bias``."""
    weight, bias = attention._parameters["in_proj_weight"], attention._parameters.get("in_proj_bias")
    assert weight is not None
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight, linear.bias = weight, bias  # type: ignore[assignment]
    return linear


def put_adapter(attention: nn.Module, layer: AdapterLayer) -> None:
    """Gives an attention the adapter of its ``in_proj_weight``."""
    attention.add_module(CHILD, layer)
    kind: Any = type(attention)
    attention.__class__ = _adapted(kind)


def take_adapter(attention: nn.Module) -> None:
    """Makes it the plain attention again."""
    del attention._modules[CHILD]
    attention.__class__ = type(attention).__mro__[2]


@functools.cache
def _adapted(kind: Any) -> Any:
    return type(f"Adapted{kind.__name__}", (AdaptedAttention, kind), {"__module__": __name__})
