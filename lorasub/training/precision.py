"""In which arithmetic a fit computes: chosen after the device unless the user says, with one line in the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

MatmulPrecision = Literal["highest", "high", "medium"]


@dataclass
class ComputeSettings:
    """What is set beside ``trainer.precision``, which is chosen after the device while it is null.

    Args:
        matmul: precision of float32 matrix products, see ``torch.set_float32_matmul_precision``; ``auto`` takes
            ``high`` on GPUs that have TensorFloat-32, ``highest`` elsewhere. Poses, losses and metrics are not
            concerned: they are always computed in full float32.
        compile: translate the backbone's transformer blocks with ``torch.compile``.
        frozen: dtype in which the adapted blocks' frozen weights are kept. ``auto`` takes bfloat16 where autocast
            would cast them to it in every step anyway: half the memory, the same results. See
            :func:`lorasub.cast_frozen_weights`.
    """

    matmul: Literal["auto", "highest", "high", "medium"] = "auto"
    compile: bool = False
    frozen: Literal["auto", "float32", "bfloat16"] = "auto"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How a run computes, and why.

    Attributes:
        precision: one of Lightning's names, such as ``bf16-mixed``.
        matmul: precision of float32 matrix products.
        compile: whether the backbone's blocks are compiled.
        reason: why this precision.
        frozen: dtype of the adapted blocks' frozen weights; None leaves them as they are loaded.
    """

    precision: Any
    matmul: MatmulPrecision
    compile: bool
    reason: str
    frozen: torch.dtype | None = None

    def __str__(self) -> str:
        compiled = "compiled" if self.compile else "not compiled"
        frozen = "as loaded" if self.frozen is None else str(self.frozen).removeprefix("torch.")
        return (
            f"precision: {self.precision} ({self.reason}); float32 products: {self.matmul}; blocks: {compiled}; "
            f"frozen weights: {frozen}"
        )


def choose_arithmetic(accelerator: Any, precision: Any = None, settings: ComputeSettings | None = None) -> Arithmetic:
    """Fill in what was left open.

    Args:
        accelerator: as given to Lightning's Trainer.
        precision: likewise; None to choose: bfloat16 autocast where the device has instructions for it, else float32.
        settings: what else was set.
    """
    settings = settings or ComputeSettings()
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if precision is not None:
        chosen, reason = precision, "as set"
    elif on_gpu:
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        chosen = "bf16-mixed" if bf16 else "32-true"
        reason = f"{torch.cuda.get_device_name()} {'has' if bf16 else 'has no'} bfloat16"
    elif accelerator in ("auto", "cpu") and (instructions := bf16_instructions()):
        chosen, reason = "bf16-mixed", f"this CPU has {instructions}"
    else:
        chosen, reason = "32-true", "no bfloat16 instructions were found"
    matmul = settings.matmul
    if matmul == "auto":
        matmul = "high" if on_gpu and torch.cuda.get_device_capability() >= (8, 0) else "highest"
    halved = settings.frozen == "bfloat16" or (settings.frozen == "auto" and str(chosen) in ("bf16", "bf16-mixed"))
    return Arithmetic(chosen, matmul, settings.compile, reason, torch.bfloat16 if halved else None)


def bf16_instructions() -> str | None:
    """The name of this CPU's instructions for bfloat16 products; None without: then they are emulated, and slower."""
    for name, has in (("AMX", torch.cpu._is_amx_tile_supported), ("AVX-512 bf16", torch.cpu._is_avx512_bf16_supported)):
        if has():
            return name
    return None
