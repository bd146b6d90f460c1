"""LoRA (Hu et al. 2021, arXiv 2106.09685) on Linear and Conv2d, with PEFT's names and initial values.

The PiSSA start (Meng et al. 2024, arXiv 2404.02948) trains the weight's own leading components. The paper subtracts
them from the base weight. Here the base weight stays as it is and the *start* is subtracted from the update instead:
``W - s B0 A0 + s B A`` is the same function either way, but so the base keeps its hash, other code sees the true
weights, the first step is exactly the base model, also in half precision, and disabling or unloading needs no repair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lorasub.adapters.bases import BasisSpec
from lorasub.adapters.config import LayerSpec
from lorasub.adapters.fused import Factors, can_fuse, linear_with_update
from lorasub.adapters.layer import AdapterLayer, adapter_dtype, add_product, conv_with, leading_components
from lorasub.adapters.peft_format import match_pattern
from lorasub.errors import ConfigError
from lorasub.files import hash_tensors
from lorasub.rng import torch_generator
from lorasub.subspaces.layers import LowRankUpdate

Init = Literal["default", "pissa"]


class LoRALayer(AdapterLayer):
    """Base of LoRA on Linear and on Conv2d.

    Attributes:
        r: the rank.
        lora_A: sub-module with the weight ``(r, in)``, for convolutions ``(r, channels, kernel height, kernel width)``.
        lora_B: sub-module with the weight ``(out, r)``, for convolutions ``(out, r, 1, 1)``.
    """

    kind: ClassVar[str] = "lora"
    lora_A: nn.Linear | nn.Conv2d  # noqa: N815
    lora_B: nn.Linear | nn.Conv2d  # noqa: N815
    start_A: Tensor | None  # noqa: N815
    start_B: Tensor | None  # noqa: N815

    def __init__(
        self,
        base_layer: nn.Linear | nn.Conv2d,
        *,
        r: int,
        lora_alpha: float,
        dropout: float = 0.0,
        init: Init = "default",
    ) -> None:
        super().__init__(base_layer, scale=lora_alpha / r, dropout=dropout)
        self.r = r
        self.drawn = True  # at random; other starts are kept
        self.lora_A, self.lora_B = self._make_factors()
        if init == "pissa":
            self._start_from_leading_components()
        else:
            # PEFT's values: A as torch initialises a Linear, B zero, so that the first step is the base model
            nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
            nn.init.zeros_(self.lora_B.weight)
            self.start_A = self.start_B = None

    def _make_factors(self) -> tuple[nn.Linear | nn.Conv2d, nn.Linear | nn.Conv2d]:
        raise NotImplementedError

    @torch.no_grad()
    def _start_from_leading_components(self) -> None:
        U, S, V = leading_components(self.base_layer, self.r)
        root = (S / self.scale).sqrt()
        self.lora_A.weight.copy_((V * root).T.reshape(self.lora_A.weight.shape))
        self.lora_B.weight.copy_((U * root).reshape(self.lora_B.weight.shape))
        # singular vectors are unique only up to sign: another machine may find others, so the start is saved
        self.register_buffer("start_A", self.lora_A.weight.detach().clone())
        self.register_buffer("start_B", self.lora_B.weight.detach().clone())

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """``lora_A.weight`` and ``lora_B.weight``."""
        factors = {"lora_A": self.lora_A, "lora_B": self.lora_B}
        return {f"{side}.{name}": p for side, factor in factors.items() for name, p in factor.named_parameters()}

    def frozen_state(self) -> dict[str, Tensor]:
        """The PiSSA start, if there is one."""
        if self.start_A is None or self.start_B is None:
            return {}
        return {"start_A": self.start_A, "start_B": self.start_B}

    def live_update(self) -> LowRankUpdate:
        """``scale * B @ A``; after a PiSSA start of rank 2 r, ``scale * [B, -B0] @ [A; A0]``."""
        A, B = self.lora_A.weight.flatten(1), self.lora_B.weight.flatten(1)
        if self.start_A is not None and self.start_B is not None:
            A = torch.cat([A, self.start_A.flatten(1)])
            B = torch.cat([B, -self.start_B.flatten(1)], dim=1)
        return LowRankUpdate(B=B, A=A, scale=self.scale)

    @torch.no_grad()
    def start_from(self, A: Tensor) -> None:
        """Sets ``lora_A`` to given numbers ``(r, in)``, which no fit draws anew."""
        self.lora_A.weight.copy_(A.reshape(self.lora_A.weight.shape))
        self.drawn = False

    def record_start(self) -> None:
        """See :meth:`AdapterLayer.record_start`. A PiSSA start is the same whenever it is made, and has a hash, too."""
        self.start = start_hash(self.lora_A.weight)

    def at_start(self) -> bool:
        """See :meth:`AdapterLayer.at_start`. B is zero until something is learnt, also where A itself is frozen."""
        if self.start is None or not self.drawn or self.start_A is not None or self.lora_B.weight.any():
            return False
        return start_hash(self.lora_A.weight) == self.start

    @torch.no_grad()
    def draw_start(self, *key: int | str) -> None:
        """See :meth:`AdapterLayer.draw_start`."""
        self.lora_A.weight.copy_(drawn_start(self.lora_A.weight, *key))
        self.record_start()

    def extra_repr(self) -> str:
        """Rank and scale."""
        return f"r={self.r}, {super().extra_repr()}"


class LoRALinear(LoRALayer):
    """LoRA on a Linear layer. A fused query-key-value projection is one Linear and gets one pair of factors."""

    base_layer: nn.Linear
    cast_factors: Factors | None = None

    def factors(self) -> Factors:
        """The weights of ``lora_A`` and ``lora_B``."""
        return self.lora_A.weight, self.lora_B.weight

    def _make_factors(self) -> tuple[nn.Linear, nn.Linear]:
        base = self.base_layer
        factory: dict[str, Any] = {"bias": False, "device": base.weight.device, "dtype": adapter_dtype(base)}
        return nn.Linear(base.in_features, self.r, **factory), nn.Linear(self.r, base.out_features, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """See :meth:`AdapterLayer.forward`; base layer and update in one operation where that is possible."""
        plain = self.merged or not self.enabled or self.lora_dropout is not None or self.start_A is not None
        if plain or not can_fuse(self.base_layer, x):
            return super().forward(x)
        return linear_with_update(x, self.base_layer, *self.factors(), self.scale, self.cast_factors)

    def add_update(self, x: Tensor, result: Tensor) -> Tensor:
        """See :meth:`AdapterLayer.add_update`."""
        hidden = F.linear(x, self.lora_A.weight.to(x.dtype))  # (2, 1041, 1024) -> (2, 1041, 16)
        if self.start_A is None or self.start_B is None:
            return add_product(result, hidden, self.lora_B.weight, self.scale)
        # two equal products cancel exactly, so the difference comes before the sum
        start = F.linear(F.linear(x, self.start_A.to(x.dtype)), self.start_B.to(x.dtype))
        return result.add(F.linear(hidden, self.lora_B.weight.to(x.dtype)) - start, alpha=self.scale)


class LoRAConv2d(LoRALayer):
    """LoRA on a Conv2d: A convolves like the base layer into r channels, B is a 1 x 1 convolution."""

    base_layer: nn.Conv2d

    def _make_factors(self) -> tuple[nn.Conv2d, nn.Conv2d]:
        base = self.base_layer
        factory: dict[str, Any] = {"bias": False, "device": base.weight.device, "dtype": adapter_dtype(base)}
        shape: dict[str, Any] = {
            "kernel_size": base.kernel_size,
            "stride": base.stride,
            "padding": base.padding,
            "dilation": base.dilation,
            "padding_mode": base.padding_mode,
        }
        return (
            nn.Conv2d(base.in_channels, self.r, **shape, **factory),
            nn.Conv2d(self.r, base.out_channels, kernel_size=1, **factory),
        )

    def add_update(self, x: Tensor, result: Tensor) -> Tensor:
        """See :meth:`AdapterLayer.add_update`."""
        hidden = conv_with(self.base_layer, x, self.lora_A.weight)  # (4, 256, 37, 37) -> (4, 16, 37, 37)
        update = F.conv2d(hidden, (self.lora_B.weight * self.scale).to(hidden.dtype))
        if self.start_A is not None and self.start_B is not None:
            start = conv_with(self.base_layer, x, self.start_A)
            update = update - F.conv2d(start, (self.start_B * self.scale).to(start.dtype))
        return result + update


def start_hash(lora_A: Tensor) -> str | None:
    """Returns 64 bits of a hash of a ``lora_A``, as hexadecimal digits; None on the meta device."""
    return None if lora_A.is_meta else hash_tensors({"lora_A": lora_A})[:16]


def drawn_start(like: Tensor, *key: int | str) -> Tensor:
    """Returns PEFT's first values for a ``lora_A`` from the stream of a key, drawn on the CPU for any device."""
    drawn = torch.empty(like.shape, dtype=like.dtype)
    return nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=torch_generator(*key))


def lora_layer(
    base_layer: nn.Linear | nn.Conv2d, *, r: int, lora_alpha: float, dropout: float = 0.0, init: Init = "default"
) -> LoRALayer:
    """Wrap a Linear or Conv2d in the LoRA layer for it."""
    wrapper = LoRAConv2d if isinstance(base_layer, nn.Conv2d) else LoRALinear
    return wrapper(base_layer, r=r, lora_alpha=lora_alpha, dropout=dropout, init=init)


@dataclass(frozen=True, kw_only=True)
class LoRA(LayerSpec):
    """Low-rank adaptation: ``W + lora_alpha / r * B A`` with A (r, in) and B (out, r) trained.

    Attributes:
        r: rank, at least 1.
        lora_alpha: scale times rank; None means 2 r, in every layer (also where ``rank_pattern`` changes r).
        dropout: probability in [0, 1) of dropping an input feature on the way into A.
        init: ``"default"``: A random, B zero, so that nothing changes at first. ``"pissa"``: the weight's own leading
            r components.
        rank_pattern: other ranks for some layers, as in PEFT: regular expressions for the end of a module path.
        alpha_pattern: other values of ``lora_alpha``, likewise.
    """

    r: int = 16
    lora_alpha: float | None = None
    dropout: float = 0.0
    init: Init = "default"
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, r in (("r", self.r), *self.rank_pattern.items()):
            if not isinstance(r, int) or r < 1:
                raise ConfigError(f"LoRA: the rank must be a whole number of at least 1, not {name}={r!r}")
        for name, alpha in (("lora_alpha", self.lora_alpha), *self.alpha_pattern.items()):
            if alpha is not None and not alpha > 0:
                raise ConfigError(f"LoRA: lora_alpha must be above 0, not {name}={alpha!r}")
        self._check_dropout(self.dropout)
        if self.init not in get_args(Init):
            raise ConfigError(f"LoRA: init={self.init!r}; it can be {', '.join(get_args(Init))}")

    def check_layers(self, paths: list[str], base_model_hash: str | None) -> None:
        """Every pattern must mean some layer.

        Raises:
            ConfigError: one does not.
        """
        for pattern in (*self.rank_pattern, *self.alpha_pattern):
            if not any(match_pattern((pattern,), path) for path in paths):
                raise ConfigError(
                    f"LoRA: the rank or alpha pattern '{pattern}' matches none of the {len(paths)} layers"
                )

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> AdapterLayer:
        """See :meth:`LayerSpec.wrap`.

        Raises:
            ConfigError: a PiSSA start of a rank above that of the weight.
        """
        r, alpha = self.rank_and_alpha(path)
        return lora_layer(base_layer, r=r, lora_alpha=alpha, dropout=self.dropout, init=self.init)

    def rank_and_alpha(self, path: str) -> tuple[int, float]:
        """Rank and lora_alpha of the layer at ``path``, the patterns taken into account."""
        r = self.rank_pattern.get(match_pattern(self.rank_pattern, path) or "", self.r)
        alpha = self.alpha_pattern.get(match_pattern(self.alpha_pattern, path) or "", self.lora_alpha or 2.0 * r)
        return r, alpha


@dataclass(frozen=True, kw_only=True, eq=False)
class EVA(BasisSpec, LoRA):
    """LoRA whose A starts as the first r input directions of a basis; B is zero, so that the first step is the base.

    With a basis from activations (``lorasub mine --from activations``) this is EVA without its sharing out of ranks
    between layers (``rho=1`` in PEFT). With one from gradients A starts where the loss pulls.

    Attributes:
        basis: the basis or the folder of one; every layer needs at least r input directions.
        arguments: those of :class:`LoRA`; ``init`` is ``default`` only.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init != "default":
            raise ConfigError(f"EVA: init={self.init!r}; the basis is the start here")

    def check_layers(self, paths: list[str], base_model_hash: str | None) -> None:
        """See :meth:`LoRA.check_layers` and :meth:`BasisSpec.check_layers`."""
        LoRA.check_layers(self, paths, base_model_hash)
        BasisSpec.check_layers(self, paths, base_model_hash)

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> AdapterLayer:
        """See :meth:`LayerSpec.wrap`.

        Raises:
            ConfigError: the basis has fewer input directions than the rank.
        """
        layer = super().wrap(path, base_layer)
        assert isinstance(layer, LoRALayer)
        V = self.loaded_basis.layers[path].V
        if V.shape[1] < layer.r:
            raise ConfigError(f"the basis has {V.shape[1]} input directions here, fewer than the rank {layer.r}")
        layer.start_from(V[:, : layer.r].T)
        return layer
