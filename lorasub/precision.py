"""Autocast: the precision that matrix products have under it, and code that is safe from it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_HALF = (torch.float16, torch.bfloat16)


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` without autocast and TensorFloat-32, its half-precision tensor arguments lifted to float32.

    A pose multiplied in bfloat16 is wrong in its third digit. Lightning runs training steps under autocast, which turns
    every matrix product into bfloat16 whatever its inputs were; a decorated function is safe from that. So it is, in
    the forward pass, from ``torch.set_float32_matmul_precision``. Tensors inside lists and tuples are lifted too;
    float32 and float64 stay as they are, gradients flow as usual.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        device = _device_type((*args, *kwargs.values()))
        with without_autocast(device), _exact_products():
            return function(*map(_lift, args), **{name: _lift(value) for name, value in kwargs.items()})

    return wrapper


@contextlib.contextmanager
def _exact_products() -> Iterator[None]:
    """Products of float32 matrices in float32."""
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _device_type(arguments: tuple[Any, ...]) -> str:
    for argument in arguments:
        if isinstance(argument, Tensor):
            return argument.device.type
        if isinstance(argument, list | tuple) and argument and isinstance(argument[0], Tensor):
            return argument[0].device.type
    return "cpu"


def _lift(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument.float() if argument.dtype in _HALF else argument
    if isinstance(argument, list | tuple) and any(isinstance(item, Tensor) for item in argument):
        return type(argument)(map(_lift, argument))
    return argument


def compute_dtype(x: Tensor) -> torch.dtype:
    """Returns the dtype in which matrix products of ``x`` are taken: autocast's where it is on, else its own."""
    if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[object]:
    """Turns autocast off within the block, on devices that have it."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
