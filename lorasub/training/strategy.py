"""How a fit is spread over processes: what Lightning's short names of strategies mean here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy

from lorasub.training.sharding import FullyShardedStrategy


def choose_strategy(trainer: Mapping[str, Any]) -> Any:
    """The strategy that a trainer's settings mean; one that is given as an object, or by another name, stays.

    Args:
        trainer: settings of Lightning's Trainer.
    """
    strategy = trainer.get("strategy", "auto")
    if strategy == "fsdp2":
        return FullyShardedStrategy()
    if strategy == "ddp" or (strategy == "auto" and several_processes(trainer)):
        # Buffers are frozen bases and constants, the same everywhere: broadcasting them in every forward is pure cost.
        # Whatever trains gets a gradient in every step, so that no search for unused parameters is needed. A static
        # graph would only save that search, and cannot be had together with accumulated gradients.
        return DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    return strategy


def several_processes(trainer: Mapping[str, Any]) -> bool:
    """Whether these trainer settings mean more than one process."""
    devices = trainer.get("devices", "auto")
    if devices in ("auto", -1, "-1"):
        on_gpu = trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda")
        count = torch.cuda.device_count() if on_gpu else 1
    elif isinstance(devices, str):
        count = len(devices.split(",")) if "," in devices else int(devices)
    else:
        count = devices if isinstance(devices, int) else len(devices)
    return count * int(trainer.get("num_nodes", 1)) > 1
