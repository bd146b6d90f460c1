"""One layer's weight update in factored form, the only shape in which mining ever sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from lorasub.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LowRankUpdate:
    """The update ``scale * B @ A`` of one layer. The product itself is never formed.

    Attributes:
        B: ``(out, r)``, PEFT's ``lora_B``.
        A: ``(r, in)``, PEFT's ``lora_A``. For a convolution, in = channels * kernel height * kernel width.
        scale: PEFT's scaling, ``lora_alpha / r``.
        start: hash of the random ``lora_A`` that the fit started from; None where it is not known.
    """

    B: Tensor
    A: Tensor
    scale: float = 1.0
    start: str | None = None

    def __post_init__(self) -> None:
        if self.B.ndim != 2 or self.A.ndim != 2 or self.B.shape[1] != self.A.shape[0] or self.A.shape[0] == 0:
            raise ConfigError(
                f"a low-rank update needs B (out, r) and A (r, in) with r >= 1, "
                f"not B {tuple(self.B.shape)} and A {tuple(self.A.shape)}"
            )

    @property
    def r(self) -> int:
        """The rank."""
        return self.A.shape[0]


#: The updates of one adapter by layer path. A mapping that reads from a file on access keeps memory at one layer.
AdapterUpdates: TypeAlias = Mapping[str, LowRankUpdate]
#: Wraps the layer paths while they are worked through; a progress bar such as ``tqdm`` fits.
Progress: TypeAlias = Callable[[Sequence[str]], Iterable[str]]
