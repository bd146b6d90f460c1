"""Operations, bytes and casts of a step of VGGT-1B or another backbone: COUNTED on tensors without storage.

    python -m benchmarks launches
    python -m benchmarks launches --model da3-large --size 504 --cases lora projected
    python -m benchmarks launches --released path/to/checkout --json launches.json

A small step on a GPU waits for its launches, a large one for its memory; both can be counted exactly where there is no
GPU. One scene goes through forward, or forward and backward, under bfloat16 autocast after CUDA's lists (LayerNorm in
float32, which the CPU's lists leave as it is). The cases: PEFT's LoRA and ours on our VGGT, our projected layers, both
with frozen weights kept in bfloat16, and PEFT's LoRA on the released VGGT. Counted are

- ``launches``: operations of torch that read or write values. Views, allocations and metadata are none;
- ``casts``: those of them that only change the dtype; ``copies``: those that only move values;
- ``bytes``: what they read and write, each tensor as large as its storage needs.

A library may need several kernels for one operation (a convolution's backward does), so the count is a floor. The
released code is read as the benchmark ``vggt`` reads it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.adapters import TARGETS, objective
from benchmarks.models import MODELS, on_meta
from benchmarks.report import write_report
from benchmarks.vggt import find_package, released_model
from lorasub import AdapterSpec, LoRA, Predictions, RandomBasis, cast_frozen_weights, inject_adapters
from lorasub.backbones.vggt.presets import PRESETS as VGGT_PRESETS
from lorasub.backbones.vggt.presets import find_preset

#: ``bf16`` behind a name: frozen weights are kept in bfloat16.
CASES = ("peft", "lora", "lora bf16", "projected", "projected bf16", "released")
#: Operations that make or describe tensors without touching a value.
_NO_LAUNCH = frozenset(
    ("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "detach", "_unsafe_view", "prim::device")
)
_CASTS = ("_to_copy",)
_COPIES = ("clone", "copy_", "contiguous")


@dataclass
class Count:
    """What was dispatched.

    Attributes:
        launches: name of an operation -> how often.
        bytes: read and written in all.
        casts: of the launches, those that change the dtype.
        copies: of the launches, those that only move values.
    """

    launches: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    casts: int = 0
    copies: int = 0

    @property
    def total(self) -> int:
        """All launches."""
        return self.launches.total()


class LaunchCounter(TorchDispatchMode):
    """Counts what is dispatched while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = Count()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if func.is_view or name in _NO_LAUNCH:
            return result
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if not tensors:
            return result
        self.count.launches[name] += 1
        self.count.bytes += sum(_touched(tensor) for tensor in tensors)
        if name in _CASTS and args[0].dtype != result.dtype:
            self.count.casts += 1
        elif name in _CASTS or name in _COPIES:
            self.count.copies += 1
        return result


def _touched(tensor: Tensor) -> int:
    """Bytes of a tensor's distinct elements: what is expanded is read once."""
    distinct = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        distinct *= size if stride else 1
    return distinct * tensor.element_size()


class CudaAutocast(TorchFunctionMode):
    """Attention as one operation, and LayerNorm in float32 under autocast: as CUDA does and the CPU does not."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        autocast = torch.is_autocast_enabled("cpu")
        if func is nn.functional.layer_norm and autocast:
            args = tuple(a.float() if isinstance(a, Tensor) else a for a in args)
            kwargs = {name: value.float() if isinstance(value, Tensor) else value for name, value in kwargs.items()}
            return func(*args, **kwargs)
        if func is nn.functional.scaled_dot_product_attention:
            if autocast:
                args = tuple(tensor.to(torch.get_autocast_dtype("cpu")) for tensor in args[:3])
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args[:3])[0]
        return func(*args, **kwargs)


class Step(nn.Module):
    """Forward of a model, and the loss that its backward begins with."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """A scalar."""
        with torch.autocast("cpu", torch.bfloat16):
            predictions = self.model(images)
        return objective(predictions)


def count_step(model: nn.Module, images: tuple[int, ...], *, backward: bool) -> Count:
    """Run a model without storage and count.

    Args:
        model: best on the meta device; it is not changed.
        images: shape ``[B, S, 3, H, W]``.
        backward: with the backward pass, else without gradients.
    """
    step, counter = Step(model), LaunchCounter()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cpu"):
        weights = {
            name: torch.empty_like(p, device="cpu").detach().requires_grad_(p.requires_grad)
            for name, p in step.named_parameters()
        }
        weights |= {name: torch.empty_like(buffer, device="cpu") for name, buffer in step.named_buffers()}
        views = torch.empty(images)
        known = _KnownNumbers(images[-1] // 14)
        with torch.set_grad_enabled(backward), counter, CudaAutocast(), known:
            loss = torch.func.functional_call(step, weights, (views,))
            if backward:
                loss.backward()
    return counter.count


def build(case: str, model: str, package: Path | None) -> nn.Module:
    """The model of a case, on the meta device, with camera and depth head.

    Args:
        case: one of :data:`CASES`.
        model: preset.
        package: the released code, for the case that needs it.
    """
    with torch.device("meta"):
        if case == "released":
            assert package is not None
            with _KnownNumbers(0):
                return adapted_by_peft(Released(released_model(package, find_preset(model).config)))
        backbone = on_meta(model)
        if case == "peft":
            return adapted_by_peft(backbone)
        spec: AdapterSpec = RandomBasis(dim=64) if "projected" in case else LoRA(r=16)
        inject_adapters(backbone, spec)
    if case.endswith("bf16"):
        cast_frozen_weights(backbone.repeated_blocks())
    return backbone


def adapted_by_peft(backbone: nn.Module) -> nn.Module:
    """The same layers with PEFT's LoRA of rank 16."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=16, lora_alpha=32, target_modules=rf"(model\.)?{TARGETS}", init_lora_weights=True)
    backbone.requires_grad_(False)
    return inject_adapter_in_model(config, backbone)


class _KnownNumbers(TorchFunctionMode):
    """Gives the released code the values that it reads from tensors, which have none without storage.

    They are a linspace of its constructor, and the largest position on the grid of patches. (On a GPU such a reading
    waits for everything that was launched before.)
    """

    def __init__(self, largest_position: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest_position = largest_position

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__int__:
            return self.largest_position
        return func(*args, **{**(kwargs or {}), **({"device": "cpu"} if func is torch.linspace else {})})


class Released(nn.Module):
    """The released model with its camera and depth head; in training mode it would checkpoint every block."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()
        model.point_head = None  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Predictions:
        """As ours."""
        found = self.model(images)
        return Predictions(
            pose_encodings=tuple(found.get("pose_enc_list", [found["pose_enc"]])),
            depth=found["depth"].squeeze(-1),
            depth_conf=found["depth_conf"],
        )


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="vggt-1b")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--size", type=int, default=518)
    parser.add_argument("--cases", nargs="+", choices=CASES, help="all but released by default; peft for VGGT only")
    parser.add_argument("--released", type=Path, metavar="PATH", help="adds the released code, with PEFT's LoRA")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    usual = [case for case in CASES if case != "released" and (case != "peft" or options.model in VGGT_PRESETS)]
    options.cases = options.cases or usual
    if "peft" in options.cases and options.model not in VGGT_PRESETS:
        parser.error("the case peft is for VGGT's sizes")
    cases = [*options.cases, *(["released"] if options.released and "released" not in options.cases else [])]
    print(f"{options.model}, one scene of {options.views} views of {options.size} pixels squared, bfloat16 autocast")
    print(f"{'':<16}{'':<9}{'launches':>10}{'casts':>8}{'copies':>8}{'GiB':>8}")
    rows = []
    with tempfile.TemporaryDirectory() as extracted:
        package = find_package(options.released, Path(extracted)) if options.released else None
        for case in cases:
            model = build(case, options.model, package)
            for mode in ("forward", "step"):
                shape = (1, options.views, 3, options.size, options.size)
                found = count_step(model, shape, backward=mode == "step")
                rows.append({"case": case, "mode": mode, **asdict(found), "total": found.total})
                numbers = f"{found.total:>10}{found.casts:>8}{found.copies:>8}{found.bytes / 2**30:>8.1f}"
                print(f"{case:<16}{mode:<9}{numbers}", flush=True)
    settings = {"model": options.model, "views": options.views, "size": options.size}
    write_report(options.json, "launches", {"counted": True, "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
