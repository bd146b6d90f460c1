"""Spreads a fit over processes: Lightning's short names of strategies, and FSDP2 for weights that do not fit on one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from lorasub.contracts import BlockModel, backbone_of
from lorasub.errors import ConfigError


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


class FullyShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, which shards a task's backbone by itself; all processes are data-parallel.

    Each of the backbone's ``repeated_blocks`` is gathered when it computes and let go afterwards. It pays where weights
    or optimiser state do not fit on one device: full fine-tuning of large models. Adapters alone are small, and
    plain DDP is faster for them.

    Checkpoints are one file of the usual form. When training ends the weights are gathered on every process, so that
    callbacks find whole tensors at the end of the fit; while it runs, only collective code may read them.

    Args:
        process_group_backend: as for Lightning's own strategies; None for the device's usual one.
    """

    def __init__(self, process_group_backend: str | None = None) -> None:
        super().__init__(save_distributed_checkpoint=False, process_group_backend=process_group_backend)

    def setup_environment(self) -> None:
        """Join the other processes; all are data-parallel."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    def setup(self, trainer: pl.Trainer) -> None:
        """Shard the backbone, then go on as Lightning.

        Raises:
            ConfigError: not a fit, no backbone, or something outside the backbone trains.
        """
        task: Any = self.lightning_module
        if trainer.state.fn != "fit":
            raise ConfigError("the strategy fsdp2 is for fits; validate, test and predict with ddp, or on one process")
        shard_backbone(task, self.device_mesh["data_parallel"])
        # heads return views; nothing changes them in place
        warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module .* returned a view tensor")
        # Lightning insists that this hook has done the sharding. It is no hook of the task's own: other strategies and
        # weight averaging would take that for a sharded model
        task.configure_model = lambda: None
        try:
            super().setup(trainer)
        finally:
            del task.configure_model

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole tensors on the first process, nothing on the others; frozen parameters are in no checkpoint of ours."""
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        return get_model_state_dict(self.model, options=options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Loads as Lightning does, and puts the tensors back that it takes out: the task checks that all are there."""
        checkpoint = super().load_checkpoint(checkpoint_path, weights_only)
        stored = torch.load(self.broadcast(checkpoint_path), map_location="cpu", mmap=True, weights_only=True)
        return checkpoint | {"state_dict": stored["state_dict"]}

    def on_train_end(self) -> None:
        """Gather the weights on every process."""
        assert self.model is not None
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.unshard()


def shard_backbone(task: nn.Module, mesh: DeviceMesh) -> None:
    """Spread a task's backbone over a mesh, block by block.

    Args:
        task: has a ``backbone`` with ``repeated_blocks``.
        mesh: one-dimensional.

    Raises:
        ConfigError: the task has no such backbone, or trains parameters outside of it, which nothing would average.
    """
    backbone = backbone_of(task)
    if not isinstance(backbone, BlockModel) or not isinstance(backbone, nn.Module):
        raise ConfigError(f"fsdp2 needs a task with a backbone such as VGGT; {type(task).__name__} has none")
    outside = [n for n, p in task.named_parameters() if p.requires_grad and not n.startswith("backbone.")]
    if outside:
        raise ConfigError(f"fsdp2 shards the backbone only, but '{outside[0]}' is trained, too; use the strategy ddp")
    # Gathering before the backward pass hangs on a module's outputs. Blocks and heads return tensors and tuples of
    # them; the dataclass that the backbone itself returns hides its tensors from older versions of torch
    inner = (*backbone.repeated_blocks(), *backbone.children())
    for module in inner:
        if module is not backbone and not isinstance(module, FSDPModule | nn.ModuleList | nn.ModuleDict):
            fully_shard(module, mesh=mesh)
    fully_shard(backbone, mesh=mesh)
