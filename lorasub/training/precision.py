"""The arithmetic of a run: chosen after the device unless the user says, with one line in the log."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import torch

from lorasub.errors import ConfigError

MatmulPrecision = Literal["highest", "high", "medium"]

#: Environment variable that stands in for what a fit would choose: ``bf16-mixed`` or ``32-true``.
FORCED = "LORASUB_AUTO_PRECISION"
#: Lightning's names of precisions -> dtype of autocast (None: no autocast), dtype of the weights.
PRECISIONS: dict[str, tuple[torch.dtype | None, torch.dtype]] = {
    "16-mixed": (torch.float16, torch.float32),
    "bf16-mixed": (torch.bfloat16, torch.float32),
    "16-true": (None, torch.float16),
    "bf16-true": (None, torch.bfloat16),
    "32-true": (None, torch.float32),
    "64-true": (None, torch.float64),
}
#: Lightning's short forms of these.
SHORT = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}


@dataclass
class ComputeSettings:
    """Settings of arithmetic beside ``trainer.precision``, which is chosen after the device while it is null.

    Args:
        matmul: precision of float32 products, see ``torch.set_float32_matmul_precision``; convolutions use
            TensorFloat-32 but with ``highest``. ``auto`` takes ``high`` on GPUs that have TensorFloat-32, ``highest``
            elsewhere. Poses, losses and metrics are not concerned: they are always computed in full float32.
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
    """Precision of a run, and the reason for it.

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

    def apply(self) -> None:
        """Sets the precision of float32 products in this process.

        Convolutions follow: cuDNN takes TensorFloat-32 for them unless told not to, whatever products do.
        """
        torch.set_float32_matmul_precision(self.matmul)
        torch.backends.cudnn.allow_tf32 = self.matmul != "highest"

    def __str__(self) -> str:
        compiled = "compiled" if self.compile else "not compiled"
        frozen = "as loaded" if self.frozen is None else str(self.frozen).removeprefix("torch.")
        return (
            f"precision: {self.precision} ({self.reason}); float32 products: {self.matmul}; blocks: {compiled}; "
            f"frozen weights: {frozen}"
        )


def choose_arithmetic(
    accelerator: Any, precision: Any = None, settings: ComputeSettings | None = None, *, evaluation: bool = False
) -> Arithmetic:
    """Fill in what was left open.

    Args:
        accelerator: as given to Lightning's Trainer.
        precision: likewise; None to choose: for evaluation float32; for a fit bfloat16 autocast where the device has
            instructions for it, else float32. :data:`FORCED` in the environment decides for fits instead.
        settings: what else was set.
        evaluation: whether nothing is trained.

    Raises:
        ConfigError: the environment asks for another precision than these two.
    """
    settings = settings or ComputeSettings()
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    chosen, reason = (precision, "as set") if precision is not None else _fastest(accelerator, on_gpu=on_gpu)
    if precision is None and evaluation:
        chosen, reason = "32-true", "evaluation"
    matmul = settings.matmul
    if matmul == "auto":
        tensor_float = on_gpu and not evaluation and torch.cuda.get_device_capability() >= (8, 0)
        matmul = "high" if tensor_float else "highest"
    halved = settings.frozen == "bfloat16" or (settings.frozen == "auto" and str(chosen) in ("bf16", "bf16-mixed"))
    return Arithmetic(chosen, matmul, settings.compile, reason, torch.bfloat16 if halved else None)


def _fastest(accelerator: Any, *, on_gpu: bool) -> tuple[str, str]:
    """The precision in which a device trains fastest, and why."""
    forced = os.environ.get(FORCED)
    if forced is not None:
        if forced not in ("bf16-mixed", "32-true"):
            raise ConfigError(f"{FORCED} is '{forced}'; it must be bf16-mixed or 32-true")
        return forced, f"{FORCED} is set"
    if on_gpu:
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        reason = f"{torch.cuda.get_device_name()} {'has' if bf16 else 'has no'} bfloat16"
        return "bf16-mixed" if bf16 else "32-true", reason
    if accelerator in ("auto", "cpu") and (instructions := bf16_instructions()):
        return "bf16-mixed", f"this CPU has {instructions}"
    return "32-true", "no bfloat16 instructions were found"


def bf16_instructions() -> str | None:
    """The name of this CPU's instructions for bfloat16 products; None without: then they are emulated, and slower."""
    for name, has in (("AMX", torch.cpu._is_amx_tile_supported), ("AVX-512 bf16", torch.cpu._is_avx512_bf16_supported)):
        if has():
            return name
    return None


def precision_dtypes(precision: str | int) -> tuple[torch.dtype | None, torch.dtype]:
    """The dtype of autocast, None without it, and that of the weights.

    Args:
        precision: as given to Lightning's Trainer.

    Raises:
        ConfigError: one whose memory is not counted here.
    """
    name = SHORT.get(str(precision), str(precision))
    if name not in PRECISIONS:
        raise ConfigError(f"--estimate knows the precisions {', '.join(PRECISIONS)}, not '{precision}'")
    return PRECISIONS[name]
