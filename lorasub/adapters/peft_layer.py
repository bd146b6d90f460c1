"""Layers of the PEFT package behind lorasub's own interface: DoRA, LoHa, LoKr, OFT, and LoRA as PEFT computes it.

They are here to be compared with. Each layer is made by PEFT alone, for this layer alone. AdaLoRA moves its rank budget
between all layers after every step and adds a term to the loss: see :class:`lorasub.tasks.rank_budget.RankBudget` and
:meth:`AdapterLayer.regularization`.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorasub.adapters.config import LayerSpec
from lorasub.adapters.layer import AdapterLayer
from lorasub.errors import ConfigError
from lorasub.subspaces.layers import LowRankUpdate

#: Kinds of PEFT whose layers stand on their own, and AdaLoRA.
SUPPORTED = ("LORA", "LOHA", "LOKR", "OFT", "ADALORA")


class PeftLayer(AdapterLayer):
    """A Linear or Conv2d with a layer of PEFT around it.

    Attributes:
        peft_layer: PEFT's own layer; it wraps the same ``base_layer``.
        config: PEFT's configuration that it was made with.
    """

    kind: ClassVar[str] = "peft"
    low_rank: ClassVar[bool] = False
    readable: ClassVar[bool] = False

    def __init__(self, base_layer: nn.Linear | nn.Conv2d, peft_layer: nn.Module, config: Any) -> None:
        super().__init__(base_layer, scale=1.0)
        self.peft_layer = peft_layer
        self.config = config

    @property
    def shares_ranks(self) -> bool:
        """Whether it is a layer of AdaLoRA (Zhang et al. 2023, arXiv 2303.10512)."""
        return hasattr(self.peft_layer, "lora_E")

    def regularization(self) -> Tensor | None:
        """Of AdaLoRA, how far its factors are from orthonormal, times ``orth_reg_weight`` (eq. 4 of the paper)."""
        if not self.shares_ranks:
            return None
        factors: Any = self.peft_layer
        A, B = factors.lora_A["default"], factors.lora_B["default"].T
        eye = torch.eye(len(A), dtype=A.dtype, device=A.device)
        # PEFT's form of it: norms, not their squares, and a mean over matrices
        deviations = [torch.linalg.matrix_norm(factor @ factor.T - eye) for factor in (A, B)]
        return self.config.orth_reg_weight * torch.stack(deviations).mean()  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """PEFT's output; that of the base layer while merged or switched off."""
        result: Tensor = (self.base_layer if self.merged or not self.enabled else self.peft_layer)(x)
        return result

    def add_update(self, x: Tensor, result: Tensor) -> Tensor:
        """See :meth:`AdapterLayer.add_update`. PEFT's layers compute the base's output themselves."""
        output: Tensor = self.peft_layer(x)
        return output

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Parameters that PEFT trains, such as ``peft_layer.lora_magnitude_vector.default.weight``."""
        own = {id(parameter) for parameter in self.base_layer.parameters()}
        return {name: p for name, p in self.named_parameters() if id(p) not in own and p.requires_grad}

    @torch.no_grad()
    def delta_weight(self, dtype: torch.dtype | None = None) -> Tensor:
        """See :meth:`AdapterLayer.delta_weight`: what PEFT's own merging changes, on a copy."""
        dtype = dtype or (torch.float32 if self.base_layer.weight.device.type == "mps" else torch.float64)
        merged: Any = copy.deepcopy(self.peft_layer).to(dtype)
        merged.merge()
        return merged.get_base_layer().weight.detach() - self.base_layer.weight.detach().to(dtype)  # type: ignore[no-any-return]

    def live_update(self) -> LowRankUpdate:
        """The change of the weight times the identity: exact, but of no low rank, since DoRA's is not."""
        delta = self.delta_weight().flatten(1).to(torch.promote_types(self.base_layer.weight.dtype, torch.float32))
        return LowRankUpdate(B=delta, A=torch.eye(delta.shape[1], dtype=delta.dtype, device=delta.device), scale=1.0)


@dataclass(frozen=True, kw_only=True)
class PEFT(LayerSpec):
    """Any layer-wise adapter of the ``peft`` package (extra ``peft``), and AdaLoRA.

    Attributes:
        config: PEFT's configuration, without ``target_modules``. ``{"peft_type": "LORA", "r": 16, "lora_alpha": 32,
            "use_dora": True}`` is DoRA (Liu et al. 2024, arXiv 2402.09353), ``{"peft_type": "OFT", "oft_block_size":
            32}`` is OFT (Qiu et al. 2023, arXiv 2306.07280). ``{"peft_type": "ADALORA", "init_r": 24, "target_r": 16,
            "lora_alpha": 32, "tinit": 20, "tfinal": 40}`` is AdaLoRA; the fit knows ``total_step``.
    """

    config: Mapping[str, Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = self.config.get("peft_type")
        if kind not in SUPPORTED:
            raise ConfigError(
                f"PEFT: peft_type={kind!r}; it can be {', '.join(SUPPORTED)}. Others share something between "
                "layers, or need the training loop, and would not be what their name says"
            )
        if "target_modules" in self.config:
            raise ConfigError("PEFT: name the layers in targets, not in config.target_modules")
        if kind == "ADALORA":
            self._check_ranks()
        start = self.config.get("init_lora_weights", True)
        if start is not True and start != "gaussian":
            raise ConfigError(
                f"PEFT: init_lora_weights={start!r} changes the model at the start, or its base weights; "
                "for PiSSA take LoRA(init='pissa')"
            )

    def _check_ranks(self) -> None:
        if unused := sorted({"r", "total_step"} & set(self.config)):
            raise ConfigError(
                f"PEFT: AdaLoRA takes no {' and no '.join(unused)}: ranks go from init_r to target_r, and how long the "
                "fit is, the trainer knows"
            )
        first, last = self.config.get("init_r", 12), self.config.get("target_r", 8)
        if not 1 <= last < first:
            raise ConfigError(
                f"PEFT: AdaLoRA lowers ranks from init_r to target_r, not from {first} to {last}; for a rank that "
                "stays take LoRA"
            )

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> PeftLayer:
        """See :meth:`LayerSpec.wrap`.

        Raises:
            ConfigError: PEFT is not installed, or refuses the configuration.
        """
        if self.config["peft_type"] == "OFT" and isinstance(base_layer, nn.Conv2d) and base_layer.kernel_size != (1, 1):
            raise ConfigError(
                "PEFT (0.21) sums overlapping patches in its OFT of convolutions, so that the model would change at "
                "once; exclude this layer"
            )
        try:
            from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, inject_adapter_in_model
        except ModuleNotFoundError as error:
            raise ConfigError("this adapter needs the package peft: pip install 'lorasub[peft]'") from error
        settings = {key: value for key, value in self.config.items() if key != "peft_type"}
        if self.config["peft_type"] == "ADALORA":
            settings["total_step"] = sys.maxsize  # PEFT wants one here already; RankBudget knows the true one
        host = nn.ModuleDict({"layer": base_layer})
        trained = [parameter.requires_grad for parameter in base_layer.parameters()]
        try:
            config_class: Any = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(self.config["peft_type"])]
            config = config_class(**settings, target_modules=["layer"])
            inject_adapter_in_model(config, host)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"PEFT refuses {dict(self.config)}: {error}") from error
        finally:
            # PEFT freezes the layer at once; whether it was trained is for the caller to remember
            for parameter, before in zip(base_layer.parameters(), trained, strict=True):
                parameter.requires_grad_(before)
        return PeftLayer(base_layer, host["layer"], config)
