"""BitFit (Ben Zaken et al. 2021, arXiv 2106.10199): only biases are trained."""

from __future__ import annotations

from dataclasses import dataclass

from lorasub.adapters.config import ParameterSpec, Targets


@dataclass(frozen=True, kw_only=True)
class BitFit(ParameterSpec):
    """Train the biases of the targets alone, those of norms included.

    Attributes:
        targets: whose biases to train.
        exclude: what to leave out.
    """

    targets: Targets = "blocks"
    exclude: Targets = ()

    def __post_init__(self) -> None:
        self._check_targets()

    def trains(self, name: str) -> bool:
        """See :meth:`ParameterSpec.trains`. One of the biases of ``torch.nn.MultiheadAttention`` is in_proj_bias."""
        return name.endswith("bias")
