"""Fine-tuning of whole weights, of whose change only the leading singular triplets are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lorasub.adapters.config import LayerSpec
from lorasub.adapters.layer import AdapterLayer, UpdateLayer, adapter_dtype, conv_with
from lorasub.errors import ConfigError
from lorasub.subspaces.layers import LowRankUpdate


class TruncatedLayer(UpdateLayer):
    """A Linear or a Conv2d with a trained change of its weight, which counts in full only in training.

    Attributes:
        r: rank of what counts in evaluation and in files.
        delta: shaped as the weight, zero at the start.
    """

    kind: ClassVar[str] = "truncated"
    readable: ClassVar[bool] = False

    def __init__(self, base_layer: nn.Linear | nn.Conv2d, *, r: int) -> None:
        super().__init__(base_layer, scale=1.0)
        weight = base_layer.weight
        self.r = min(r, *weight.flatten(1).shape)
        self.delta = nn.Parameter(torch.zeros_like(weight, dtype=adapter_dtype(base_layer)))
        self._found: tuple[int, Tensor, Tensor] | None = None

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """``delta``."""
        return {"delta": self.delta}

    def add_update(self, x: Tensor, result: Tensor) -> Tensor:
        """See :meth:`AdapterLayer.add_update`; the whole change in training, what is kept of it in evaluation."""
        if not self.training:
            return super().add_update(x, result)
        self._found = None  # the step that follows changes what was found
        if isinstance(self.base_layer, nn.Conv2d):
            return result + conv_with(self.base_layer, x, self.delta)
        return result + F.linear(x, self.delta.to(x.dtype))

    def live_update(self) -> LowRankUpdate:
        """The truncated SVD of the change, as U (U^T D V) V^T: gradients reach D within the subspace that is kept."""
        U, V = self._subspace()
        return LowRankUpdate(B=U @ (U.T @ self.delta.flatten(1) @ V), A=V.T)

    def _subspace(self) -> tuple[Tensor, Tensor]:
        """The leading singular vectors of the change; kept for as long as nothing is trained.

        Where gradients are asked for they are found anew: a step may follow, and the fused optimisers that fits on a
        GPU take leave the version of what they change as it is.
        """
        version, trains = self.delta._version, torch.is_grad_enabled() and self.delta.requires_grad
        found, self._found = self._found, None
        if trains or found is None or found[0] != version or found[1].device != self.delta.device:
            # not as inference tensors, which no later backward pass could use
            with torch.inference_mode(False), torch.no_grad():
                U, _, Vh = torch.linalg.svd(self.delta.flatten(1), full_matrices=False)
            found = version, U[:, : self.r], Vh[: self.r].T
        self._found = None if trains else found
        return found[1], found[2]

    def extra_repr(self) -> str:
        """The rank."""
        return f"r={self.r}, {super().extra_repr()}"


@dataclass(frozen=True, kw_only=True)
class TruncatedFineTuning(LayerSpec):
    """Train a whole change D of each weight, ``W + D``, and keep only its best approximation of rank r.

    Training sees all of D. Validation, tests, merging and files have the truncated SVD of D, which is a LoRA of rank r:
    mining takes it as it takes any other. Biases and norms are not trained, and weight decay pulls D to zero, not W.

    Attributes:
        r: rank that is kept.
    """

    r: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.r, int) or self.r < 1:
            raise ConfigError(f"TruncatedFineTuning: the rank must be a whole number of at least 1, not r={self.r!r}")

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> AdapterLayer:
        """See :meth:`LayerSpec.wrap`."""
        return TruncatedLayer(base_layer, r=self.r)
