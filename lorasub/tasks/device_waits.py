"""Steps that do not make the CPU wait for a GPU: non-finite losses are seen one step later, optimisers are fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from lorasub.errors import NumericalError


@dataclass(frozen=True)
class _Seen:
    """Losses of a step on their way from the device."""

    losses: Tensor
    arrived: torch.cuda.Event | None
    scene_ids: tuple[str, ...]
    step: int


class FiniteLosses:
    """Stops a fit whose loss is no longer finite, and names the scenes.

    Reading a loss from a GPU waits for everything that was launched before, in every step. There the losses are copied
    in the background and looked at when the next step begins, or when :meth:`settle` is called, which has to be done
    before anything of the step is kept. On a CPU they are looked at at once.
    """

    def __init__(self) -> None:
        self._waiting: _Seen | None = None

    def watch(self, losses: Tensor, scene_ids: Sequence[str], step: int) -> None:
        """Look at the losses of a step.

        Args:
            losses: one for each scene.
            scene_ids: the scenes' names.
            step: for the message.

        Raises:
            NumericalError: losses of this step (CPU) or of the one before (GPU) are not finite.
        """
        self.settle()
        losses = losses.detach()
        if losses.device.type != "cuda":
            _refuse(_Seen(losses, None, tuple(scene_ids), step))
            return
        copy = torch.empty_like(losses, device="cpu", pin_memory=True)
        copy.copy_(losses, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        self._waiting = _Seen(copy, arrived, tuple(scene_ids), step)

    def settle(self) -> None:
        """Look at what is still on its way.

        Raises:
            NumericalError: see :meth:`watch`.
        """
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            _refuse(waiting)


def _refuse(seen: _Seen) -> None:
    if seen.arrived is not None:
        seen.arrived.synchronize()
    finite = torch.isfinite(seen.losses)
    if not finite.all():
        scenes = [name for name, good in zip(seen.scene_ids, finite.tolist(), strict=True) if not good]
        raise NumericalError(
            f"the loss became {seen.losses[~finite].tolist()} at step {seen.step} on scene(s) {', '.join(scenes)}; "
            "try a smaller learning rate, and look at these scenes"
        )


def fuse_on_gpu(optimizer: Optimizer) -> None:
    """Let an optimiser that was just made update all parameters in few launches, where it can and nothing was asked.

    torch's AdamW, Adam and SGD have a fused form; it is left off where the user chose ``fused``, ``foreach`` or
    ``capturable``, where parameters are not all on a GPU, or where they are sharded.

    Args:
        optimizer: changed in place, before its first step.
    """
    if type(optimizer) not in (AdamW, Adam, SGD):
        return
    for group in optimizer.param_groups:
        chosen = group.get("fused") is not None or group.get("foreach") is not None or group.get("capturable")
        plain = all(type(p) is torch.nn.Parameter and p.is_cuda and p.is_floating_point() for p in group["params"])
        if not chosen and plain and not group.get("differentiable"):
            group["fused"], group["foreach"] = True, False
