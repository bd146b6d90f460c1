"""Several LoRA adapters of one model in one layer: each works on its own share of the batch.

A bank of n adapters takes batches that are n equal groups of scenes, one group after the other: rows
``[i b, (i + 1) b)`` belong to adapter i. Whatever a model folds into its first axis on the way to a layer (views,
tokens), the order stays, so that the first axis of every layer's input is n equal groups, too, and

    y[i] = base(x[i]) + scale * B[i] A[i] x[i]

is one batched product over the adapters. The adapters share nothing but the frozen base layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lorasub.adapters.layer import AdapterLayer, adapter_dtype, add_product
from lorasub.adapters.lora import LoRA, drawn_start, start_hash
from lorasub.errors import ConfigError
from lorasub.subspaces.layers import LowRankUpdate


class LoRABankLinear(AdapterLayer):
    """n LoRA adapters on one Linear layer.

    Attributes:
        lora_A: ``(n, r, in)``.
        lora_B: ``(n, out, r)``.
        index: the one adapter that all rows go through and that the layer's tensors, update and merging are about;
            None while the rows are n equal groups.
    """

    kind: ClassVar[str] = "lora"
    readable: ClassVar[bool] = False
    base_layer: nn.Linear

    def __init__(self, base_layer: nn.Linear, *, count: int, r: int, scale: float) -> None:
        self.index: int | None = None
        self.starts: list[str | None] = [None] * count
        super().__init__(base_layer, scale=scale)
        factory: dict[str, Any] = {"device": base_layer.weight.device, "dtype": adapter_dtype(base_layer)}
        self.lora_A = nn.Parameter(torch.zeros(count, r, base_layer.in_features, **factory))
        self.lora_B = nn.Parameter(torch.zeros(count, base_layer.out_features, r, **factory))

    @property
    def count(self) -> int:
        """n, the number of adapters."""
        return len(self.lora_A)

    @property
    def r(self) -> int:
        """The rank of each."""
        return self.lora_A.shape[1]

    def add_update(self, x: Tensor, result: Tensor) -> Tensor:
        """See :meth:`AdapterLayer.add_update`.

        Raises:
            ConfigError: the first axis is no n equal groups.
        """
        if self.index is not None:
            hidden = F.linear(x, self.lora_A[self.index].to(x.dtype))
            return add_product(result, hidden, self.lora_B[self.index], self.scale)
        if x.shape[0] % self.count:
            raise ConfigError(
                f"a bank of {self.count} adapters takes {self.count} equal groups of scenes, one after the other; its "
                f"layer was given {x.shape[0]} rows. With only(i) all rows go through adapter i"
            )
        groups = x.reshape(self.count, -1, x.shape[-1])  # (8, 1041, 1024) -> (4, 2082, 1024)
        hidden = torch.bmm(groups, self.lora_A.to(x.dtype).mT)
        B = self.lora_B.to(hidden.dtype).mT
        flat = result.reshape(self.count, -1, result.shape[-1])
        return torch.baddbmm(flat, hidden, B, alpha=self.scale).reshape(result.shape)

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """``lora_A`` and ``lora_B``; those of one adapter have the names of a LoRA layer, and share its storage."""
        if self.index is None:
            return {"lora_A": self.lora_A, "lora_B": self.lora_B}
        factors = {"lora_A.weight": self.lora_A, "lora_B.weight": self.lora_B}
        return {name: nn.Parameter(factor.detach()[self.index]) for name, factor in factors.items()}

    @property
    def start(self) -> str | None:
        """The start of the one adapter that is chosen."""
        return None if self.index is None else self.starts[self.index]

    @start.setter
    def start(self, value: str | None) -> None:
        if self.index is not None:
            self.starts[self.index] = value

    def record_start(self) -> None:
        """See :meth:`AdapterLayer.record_start`; of all adapters, or of the one that is chosen."""
        for index in range(self.count) if self.index is None else (self.index,):
            self.starts[index] = start_hash(self.lora_A[index])

    def at_start(self) -> bool:
        """See :meth:`AdapterLayer.at_start`; of the one that is chosen."""
        learnt = self.start is None or bool(self.lora_B[self.index].any())
        return not learnt and start_hash(self.lora_A[self.index]) == self.start

    @torch.no_grad()
    def draw_start(self, *key: int | str) -> None:
        """See :meth:`AdapterLayer.draw_start`; of the one that is chosen."""
        self.lora_A[self.index].copy_(drawn_start(self.lora_A[self.index], *key))
        self.record_start()

    def live_update(self) -> LowRankUpdate:
        """That of the one adapter that is chosen.

        Raises:
            ConfigError: none is.
        """
        if self.index is None:
            raise ConfigError(
                f"a bank holds {self.count} adapters, so it has no single update; ask within AdapterBank.only(i)"
            )
        return LowRankUpdate(B=self.lora_B[self.index], A=self.lora_A[self.index], scale=self.scale)

    def extra_repr(self) -> str:
        """Number of adapters, rank, scale."""
        chosen = "" if self.index is None else f", only {self.index}"
        return f"count={self.count}, r={self.r}, {super().extra_repr()}{chosen}"


@dataclass(frozen=True, kw_only=True)
class LoRABank(LoRA):
    """``count`` LoRA adapters that are trained at once, on batches of ``count`` equal groups of scenes.

    Only Linear layers can be adapted. Those in the blocks and the camera head of VGGT keep the scenes first; its dense
    heads are convolutions, which work through the views piece by piece, across the borders of groups.

    Attributes:
        count: how many adapters, at least 1.
        seeds: one for each adapter, which then starts as a LoRA does that is injected right after
            ``torch.manual_seed(seed)``. None: all are drawn from the global random state, one adapter after the other.
            ``lorasub fit`` fills in the seeds that fits of single adapters would have.
        arguments: those of :class:`LoRA`, alike for all adapters. No dropout and no PiSSA start: with the first, an
            adapter would be another than when it is trained alone; the second starts all of them from one place.
    """

    count: int
    seeds: tuple[int, ...] | list[int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.count, int) or self.count < 1:
            raise ConfigError(f"LoRABank: count must be a whole number of at least 1, not {self.count!r}")
        if self.seeds is not None and len(self.seeds) != self.count:
            raise ConfigError(f"LoRABank: there are {len(self.seeds)} seeds for {self.count} adapters")
        if self.dropout or self.init != "default":
            raise ConfigError(
                f"LoRABank has no dropout and the default start only, not dropout={self.dropout}, init={self.init!r}: "
                "fit these adapters one by one"
            )

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> LoRABankLinear:
        """See :meth:`LayerSpec.wrap`.

        Raises:
            ConfigError: the layer is a convolution.
        """
        if not isinstance(base_layer, nn.Linear):
            raise ConfigError(
                "a bank adapts Linear layers only. Target blocks, or [blocks, camera_head], whose layers are all "
                "Linear, or fit these adapters one by one"
            )
        r, alpha = self.rank_and_alpha(path)
        return LoRABankLinear(base_layer, count=self.count, r=r, scale=alpha / r)

    @torch.no_grad()
    def initialize(self, layers: Mapping[str, AdapterLayer]) -> None:
        """Draw the start of one adapter after the other, each layer by layer as a LoRA alone does."""
        for index in range(self.count):
            with _random_numbers_from(None if self.seeds is None else self.seeds[index]):
                for path, layer in layers.items():
                    assert isinstance(layer, LoRABankLinear)
                    alone = super().wrap(path, layer.base_layer)
                    start = alone.adapter_parameters()
                    layer.lora_A[index].copy_(start["lora_A.weight"])
                    layer.lora_B[index].copy_(start["lora_B.weight"])


@contextlib.contextmanager
def _random_numbers_from(seed: int | None) -> Iterator[None]:
    """Numbers drawn inside depend on the seed only, the global random state is left as it was; None: they are its."""
    if seed is None:
        yield
        return
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
