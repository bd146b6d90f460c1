"""Translates the backbone's blocks with torch.compile, in place."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from lorasub.contracts import BlockModel, backbone_of
from lorasub.errors import ConfigError


class CompileBlocks(Callback):
    """Compiles each of the backbone's repeated blocks while a fit, validation, test or prediction runs.

    Blocks of one kind share a translation, so that this takes a fraction of the time that the whole model would take,
    and everything between them (caches, checkpointing, the heads' own precision) stays as it is. Modules are compiled
    in place: the names of parameters, checkpoints and adapters do not change. It needs a C++ compiler on CPUs, Triton
    on GPUs.

    Args:
        dynamic: as for ``torch.compile``. None compiles for the first shapes, and once more, for all shapes, when
            others come; True begins with that.
    """

    def __init__(self, dynamic: bool | None = None) -> None:
        self.dynamic = dynamic
        self._compiled: list[nn.Module] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Mark the blocks; they are translated when they are first called.

        Raises:
            ConfigError: the task's backbone does not say which its blocks are.
        """
        backbone = backbone_of(pl_module)
        if not isinstance(backbone, BlockModel):
            raise ConfigError(
                f"CompileBlocks needs a backbone with repeated_blocks, such as VGGT; {type(backbone).__name__} has none"
            )
        self._compiled = list(backbone.repeated_blocks())
        for block in self._compiled:
            block.compile(dynamic=self.dynamic)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Run as written again."""
        for block in self._compiled:
            block._compiled_call_impl = None
        self._compiled = []
