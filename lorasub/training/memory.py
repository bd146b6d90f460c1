"""Estimates the memory of a fit before anything large is allocated.

With a task on the meta device (``with torch.device("meta"): task = ...``; no weights are read) all of this is exact
arithmetic on shapes::

    weights     = sum over parameters and buffers of numel x bytes of their dtype
    gradients   = the same sum over trainable parameters
    optimizer   = what the optimiser itself holds after one step on parameters of these shapes
    activations = the most that forward and backward hold at once, from a run of both on tensors without storage
    total       = weights + gradients + optimizer + activations

Attention is counted as the fused kernels keep it: queries, keys, values, the output, and one float32 number for each
row and head. Not counted: the loss's own maps (a few of the size of a depth map), metrics, callbacks (averaged weights
are one more copy), libraries' workspaces, the allocator's fragmentation, and what Python and torch take by themselves.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from lorasub.adapters import ParameterTable, count_parameters
from lorasub.console import text_table
from lorasub.contracts import BatchShape, described
from lorasub.errors import ConfigError
from lorasub.tasks.base import SceneTask


def _attention_flops(query: Any, key: Any, value: Any, *more: Any, **options: Any) -> int:
    """From the shapes of what goes in; every query meets every key, and every weight every value."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward_flops(gradient: Any, query: Any, key: Any, value: Any, *more: Any, **options: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))  # type: ignore[no-untyped-call]


#: torch itself counts the fused attention of GPUs only.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


@dataclass(frozen=True, slots=True)
class Activations:
    """Memory of a step beside weights and gradients, in bytes.

    Attributes:
        saved: kept from the forward for the backward pass.
        peak: the most that is held at once in forward and backward: what is saved, temporaries, and what gradient
            checkpointing computes again.
        flops: floating point operations of its matrix products, convolutions and attention; a product and its sum are
            two.
    """

    saved: int
    peak: int
    flops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """The memory of a fit, in bytes. ``str()`` of it is a table for people.

    Attributes:
        parameters: trainable and frozen parameters of each group of the backbone.
        weights: dtype -> bytes of parameters and buffers.
        gradients: of all trainable parameters.
        optimizer: state after the first step; None if it cannot be told without values.
        activations: of one step.
        batch: scenes, views, height and width that they are for.
    """

    parameters: ParameterTable
    weights: Mapping[str, int]
    gradients: int
    optimizer: int | None
    activations: Activations
    batch: tuple[int, int, int, int]

    @property
    def total(self) -> int:
        """Weights, gradients, optimiser state (as far as it is known) and the peak of the activations."""
        return sum(self.weights.values()) + self.gradients + (self.optimizer or 0) + self.activations.peak

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "parameters": self.parameters.to_dict(),
            "weights": dict(self.weights),
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations": {"saved": self.activations.saved, "peak": self.activations.peak},
            "flops": self.activations.flops,
            "total": self.total,
            "batch": dict(zip(("scenes", "views", "height", "width"), self.batch, strict=True)),
        }

    def __str__(self) -> str:
        scenes, views, height, width = self.batch
        rows = [(f"weights, {dtype}", size) for dtype, size in self.weights.items()]
        rows.append(("gradients", self.gradients))
        if self.optimizer is not None:
            rows.append(("optimizer", self.optimizer))
        rows.append(("activations", self.activations.peak))
        lines = [
            str(self.parameters),
            "",
            f"memory of a step with {scenes} x {views} views of {height} x {width} (scenes x views, height x width)",
            text_table([{"of": name, "memory": _readable(size)} for name, size in (*rows, ("total", self.total))]),
            f"of the activations, {_readable(self.activations.saved)} are kept for the backward pass",
            f"forward and backward take {self.activations.flops / 1e12:.3g} TFLOP",
        ]
        if self.optimizer is None:
            lines.append("the optimizer's state is not in it: it cannot be told without values")
        return "\n".join(lines)


def estimate_memory(
    task: SceneTask, *, scenes: int, views: int, image_size: tuple[int, int], autocast: torch.dtype | None = None
) -> MemoryEstimate:
    """Count what a fit will take, without allocating it.

    Args:
        task: best made on the meta device, where it takes no memory itself; it is not changed.
        scenes: of a batch, on each process.
        views: of a scene.
        image_size: (H, W), multiples of the backbone's patch size.
        autocast: the lower precision of mixed-precision training; None for none.

    Raises:
        ConfigError: a number below one, or an image size that the backbone does not take.

    Example:
        >>> with torch.device("meta"):  # nothing is allocated
        ...     task = ls.GeometryTask(backbone=ls.VGGT(tiny), adapter=ls.LoRA(r=16))
        >>> found = estimate_memory(task, scenes=1, views=1, image_size=(28, 28))
        >>> numbers = len(task.adapters.trainable_parameters())
        >>> found.optimizer == 2 * found.gradients + 4 * numbers  # AdamW: two moments, and a count of steps
        True
    """
    if min(scenes, views, *image_size) < 1:
        raise ConfigError(f"a batch of {scenes} scenes, {views} views, {image_size} pixels holds nothing")
    trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
    return MemoryEstimate(
        parameters=count_parameters(task.backbone),
        weights=weight_bytes(task),
        gradients=sum(parameter.nbytes for parameter in trained),
        optimizer=optimizer_bytes(task.make_optimizer()) if trained else 0,
        activations=activation_bytes(task, (scenes, views, 3, *image_size), autocast=autocast),
        batch=(scenes, views, *image_size),
    )


def batch_of(data: object) -> BatchShape:
    """Returns the size of a data module's training batch.

    Raises:
        ConfigError: it does not say.
    """
    shape = described(data).batch_shape
    if shape is None:
        raise ConfigError(
            f"the memory of a step needs the size of a batch, and {type(data).__name__} does not tell it: override "
            "SceneDataModule.batch_shape, or call lorasub.estimate_memory with the numbers"
        )
    return shape


def weight_bytes(module: nn.Module) -> dict[str, int]:
    """Bytes of a module's parameters and buffers by dtype; a storage that several share counts once."""
    seen: set[int] = set()
    found: Counter[str] = Counter()
    for tensor in (*module.parameters(), *module.buffers()):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[str(tensor.dtype).removeprefix("torch.")] += tensor.nbytes
    return dict(found)


def optimizer_bytes(optimizer: Optimizer) -> int | None:
    """Bytes of the state that an optimiser makes in its first step, which is taken on parameters without storage.

    None if it cannot be: an optimiser that looks at values, as Adafactor does, has none to look at.

    Args:
        optimizer: just made, and of no use afterwards: its parameters are exchanged. Those of the model stay as they
            are. Step counts, which are kept on the CPU, are counted as well.
    """
    with torch.device("cpu"):  # under a default device of meta, step counts could not be read
        for group in optimizer.param_groups:
            group["params"] = [nn.Parameter(torch.empty_like(p, device="meta")) for p in group["params"]]
            for parameter in group["params"]:
                parameter.grad = torch.empty_like(parameter)
        try:
            optimizer.step()
        except (RuntimeError, NotImplementedError):  # Tensor.item() of a meta tensor, an operation without shapes
            return None
    state = [value for values in optimizer.state.values() for value in values.values()]
    return sum(value.nbytes for value in tree_leaves(state) if isinstance(value, Tensor))


def activation_bytes(module: nn.Module, *shapes: tuple[int, ...], autocast: torch.dtype | None = None) -> Activations:
    """Run a module forward and backward on tensors without storage, and count what is held.

    Args:
        module: real or on the meta device; it is not changed. Its outputs may be nested in tuples and dataclasses.
        shapes: of its float32 arguments.
        autocast: lower precision for the operations that autocast runs in it, after the CPU's list of them.
    """
    held = _Held()
    step = _Step(module, held, autocast)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cpu"):
        weights = {name: _fake(p).requires_grad_(p.requires_grad) for name, p in step.named_parameters()}
        for parameter in weights.values():
            if parameter.requires_grad:  # gradients are counted apart, so they go as soon as they are whole
                parameter.register_post_accumulate_grad_hook(_drop_gradient)  # type: ignore[no-untyped-call]
        weights |= {name: _fake(buffer) for name, buffer in step.named_buffers()}
        inputs = tuple(torch.empty(shape) for shape in shapes)
        held.ignore(weights.values())
        counter = FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION)
        with counter, held, _FusedAttention():
            for tensor in inputs:
                held.add(tensor)
            saved = torch.func.functional_call(step, weights, inputs)
    return Activations(saved=saved, peak=held.peak, flops=counter.get_total_flops())


class _Step(nn.Module):
    """Forward and backward in one call: what checkpointing computes again must see the exchanged weights, too."""

    def __init__(self, module: nn.Module, held: _Held, autocast: torch.dtype | None) -> None:
        super().__init__()
        self.module = module
        self.held = held
        self.autocast = torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None)

    def forward(self, *inputs: Tensor) -> int:
        """Bytes that the forward pass keeps for the backward pass; the rest is told by ``held``."""
        with torch.autograd.graph.saved_tensors_hooks(self.held.save, lambda tensor: tensor), self.autocast:
            outputs = self.module(*inputs)
        saved = self.held.saved_bytes
        differentiable = [tensor for tensor in _tensors_in(outputs) if tensor.requires_grad]
        if differentiable:
            torch.autograd.backward(differentiable, [torch.ones_like(tensor) for tensor in differentiable])
        return saved


class _Held(TorchDispatchMode):
    """Follows every storage from the operation that makes it to its end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = self.saved_bytes = 0
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._saved: set[int] = set()
        self._ignored: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        return result

    def ignore(self, tensors: Any) -> None:
        self._ignored |= {tensor.untyped_storage()._cdata for tensor in tensors}

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive or key in self._ignored:
            return
        self._alive[key] = weakref.ref(storage, lambda _: self._remove(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _remove(self, key: int, size: int) -> None:
        del self._alive[key]
        self._saved.discard(key)  # another storage may come to lie at the same place
        self.now -= size

    def save(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._ignored and key not in self._saved:
            self._saved.add(key)
            self.saved_bytes += storage.nbytes()
        return tensor


class _FusedAttention(TorchFunctionMode):
    """Takes the fused attention of the CPU, which keeps what those of GPUs keep, whatever torch would choose here."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        if torch.is_autocast_enabled("cpu"):
            args = tuple(tensor.to(torch.get_autocast_dtype("cpu")) for tensor in args[:3])
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args[:3])[0]


def _fake(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="cpu").detach()


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def _tensors_in(outputs: Any) -> list[Tensor]:
    """Tensors in nested tuples, lists, dicts and dataclasses."""
    if hasattr(outputs, "__dataclass_fields__"):
        outputs = [getattr(outputs, name) for name in outputs.__dataclass_fields__]
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _readable(size: int) -> str:
    """Bytes in the unit that suits them; units are powers of 1024."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1024
    raise AssertionError
