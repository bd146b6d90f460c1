"""AdaLoRA's budget: which layers may keep which ranks, decided again and again during a fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import lightning.pytorch as pl
import torch

from lorasub.adapters import AdapterSet
from lorasub.adapters.peft_layer import PeftLayer
from lorasub.errors import ConfigError

#: The allocator's running averages, by PEFT's names for them.
_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def layers_with_shared_ranks(adapters: AdapterSet) -> list[PeftLayer]:
    """The layers of AdaLoRA among all adapters."""
    return [layer for layer in adapters.layers.values() if isinstance(layer, PeftLayer) and layer.shares_ranks]


class RankBudget(pl.Callback):
    """Lets PEFT's allocator lower the ranks of AdaLoRA's layers after every optimiser step.

    Tasks add it themselves to a fit that has such layers. Through ``tinit`` steps all ranks stay; then the budget falls
    until ``tfinal`` steps before the end, every ``deltaT`` steps, and the least important ranks of all layers together
    are set to zero. Which they are is part of the checkpoint.

    Source: Zhang et al. 2023, arXiv 2303.10512, section 3.2.
    """

    def __init__(self) -> None:
        self._allocator: Any = None
        self._pattern: dict[str, list[bool]] | None = None
        self._step = 0
        self._loaded: dict[str, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the allocator for the length of this fit.

        Raises:
            ConfigError: the fit is too short for the schedule, or layers share no single budget.
        """
        from peft.tuners.adalora import RankAllocator

        adapters: Any = pl_module.adapters
        config = _common_config(adapters)
        total = int(trainer.estimated_stepping_batches)
        try:
            config = dataclasses.replace(config, total_step=total)
        except ValueError as error:
            raise ConfigError(
                f"AdaLoRA: tinit={config.tinit} and tfinal={config.tfinal} leave none of {total} steps to lower "
                "ranks in"
            ) from error
        self._allocator = RankAllocator(pl_module.backbone, config, "default")  # type: ignore[no-untyped-call]
        for name in _AVERAGES:
            stored: dict[str, torch.Tensor] = self._loaded.get(name, {})
            setattr(self._allocator, name, {key: value.to(pl_module.device) for key, value in stored.items()})
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lower ranks, while the gradients of the step are still there."""
        if trainer.global_step == self._step:  # gradients are being accumulated
            return
        self._step = trainer.global_step
        backbone, allocator = pl_module.backbone, self._allocator
        settings = allocator.peft_config
        last = settings.total_step - settings.tfinal
        step = self._step
        if step > last and self._pattern:
            allocator.mask_using_rank_pattern(backbone, self._pattern)
            return
        for layer in layers_with_shared_ranks(pl_module.adapters):  # type: ignore[arg-type]
            for parameter in layer.adapter_parameters().values():
                if parameter.grad is None:  # a part of the model that no loss reaches is of no importance
                    parameter.grad = torch.zeros_like(parameter)
        _, pattern = allocator.update_and_allocate(backbone, step, force_mask=step == last)
        self._pattern = pattern or self._pattern
        if step == last:
            allocator.reset_ipt()

    def state_dict(self) -> dict[str, Any]:
        """The running averages of importance, and which ranks are left."""
        averages = {name: dict(getattr(self._allocator, name, {})) for name in _AVERAGES}
        return {"pattern": self._pattern, **averages}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them up again; the allocator itself is made when the fit starts."""
        self._pattern = state_dict["pattern"]
        self._loaded = state_dict


def _common_config(adapters: AdapterSet) -> Any:
    """The one configuration of all AdaLoRA layers."""
    configs = [layer.config for layer in adapters.layers.values() if isinstance(layer, PeftLayer)]
    if any(config != configs[0] for config in configs):
        raise ConfigError(
            "AdaLoRA spreads one budget over all of its layers: it cannot stand beside another PEFT adapter, or "
            "one with other settings"
        )
    return configs[0]
