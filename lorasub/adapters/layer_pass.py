"""One pass over losses in which visitors see what passes each layer: gradients, activations, errors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lorasub.adapters.targets import base_modules, resolve
from lorasub.errors import ConfigError

#: Called with a layer's path and a tensor, for every layer and batch.
LayerVisitor = Callable[[str, Tensor], None]
#: Layers that have gradients and activations of their own.
AdaptableLayer = nn.Linear | nn.Conv2d


def target_layers(model: nn.Module, targets: str | Iterable[str]) -> dict[str, AdaptableLayer]:
    """The linear layers and convolutions that targets name, by their paths.

    Args:
        model: adapted or not.
        targets: groups of the model or patterns over module paths, as adapters' targets.

    Raises:
        ConfigError: a target matches nothing, or there is no such layer in what it names.
    """
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    modules = base_modules(model)
    chosen = resolve(model, modules, names, what="gradient target")
    found = {
        path: module for path, module in modules.items() if path in chosen and isinstance(module, nn.Linear | nn.Conv2d)
    }
    if not found:
        raise ConfigError(f"there is no linear layer and no convolution in {', '.join(names)}")
    return found


def visit_layers(
    model: nn.Module,
    losses: Iterable[Tensor],
    *,
    targets: str | Iterable[str] = "blocks",
    gradient: LayerVisitor | None = None,
    activation: LayerVisitor | None = None,
    error: LayerVisitor | None = None,
) -> int:
    """Show visitors what passes the layers of a model, and keep none of it.

    Each gradient is visited as soon as the backward pass has it, and freed: the whole model's gradient is never in
    memory at once. The model is left as it was.

    Args:
        model: any module. In the pass it is in evaluation mode, and only the weights of the layers get gradients.
        losses: scalars, each computed as it is asked for, such as ``(loss(model(x)) for x in batches)``.
        targets: which layers: groups of the model or patterns over module paths, as adapters' targets.
        gradient: sees the gradient of a layer's weight on a loss, shaped as the weight.
        activation: sees a layer's inputs as rows ``[m, in]``; those of a convolution are its patches.
        error: sees the gradients at a layer's outputs as rows ``[m, out]``.

    Returns:
        how many losses there were.

    Raises:
        ConfigError: a target matches nothing, there is no loss, or a layer was never called.
    """
    layers = target_layers(model, targets)
    backward = gradient is not None or error is not None
    called: set[str] = set()
    seen = 0
    with ExitStack() as stack:
        stack.enter_context(_only_trained(model, [layer.weight for layer in layers.values()] if backward else []))
        if isinstance(losses, Generator):
            stack.callback(losses.close)
        for path, layer in layers.items():
            if gradient is not None:
                hook = layer.weight.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    _handed_on(path, gradient)
                )
                stack.callback(hook.remove)
            if activation is not None or error is not None:
                stack.callback(layer.register_forward_hook(_watch(path, called, activation, error)).remove)
        stack.enter_context(torch.enable_grad() if backward else torch.no_grad())
        for loss in losses:
            if backward:
                loss.backward()  # type: ignore[no-untyped-call]
                for layer in layers.values():
                    layer.weight.grad = None
            seen += 1
    if not seen:
        raise ConfigError("there is no batch to take gradients of")
    watched = activation is not None or error is not None
    if watched and (silent := [path for path in layers if path not in called]):
        raise ConfigError(f"{len(silent)} layers were never called, such as '{silent[0]}'; leave them out of targets")
    return seen


@contextmanager
def left_as_it_was(module: nn.Module) -> Iterator[None]:
    """Restores, when the block ends, which parameters need gradients and which modules are in training mode."""
    required = {parameter: parameter.requires_grad for parameter in module.parameters()}
    modes = {each: each.training for each in module.modules()}
    try:
        yield
    finally:
        for parameter, before in required.items():
            parameter.requires_grad_(before)
        for each, training in modes.items():
            each.training = training


@contextmanager
def _only_trained(model: nn.Module, weights: list[Tensor]) -> Iterator[None]:
    """Evaluation mode, and gradients for these weights alone; both as before afterwards."""
    gradients = {weight: weight.grad for weight in weights}
    with left_as_it_was(model):
        try:
            model.eval()
            model.requires_grad_(False)
            for weight in weights:
                weight.requires_grad_(True)
                weight.grad = None
            yield
        finally:
            for weight, kept in gradients.items():
                weight.grad = kept


def _handed_on(path: str, visit: LayerVisitor) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        if parameter.grad is not None:
            visit(path, parameter.grad)
            parameter.grad = None

    return hook


def _watch(
    path: str, called: set[str], activation: LayerVisitor | None, error: LayerVisitor | None
) -> Callable[[Any, Any, Any], None]:
    def hook(layer: AdaptableLayer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        called.add(path)
        if activation is not None:
            activation(path, _rows(layer, inputs[0].detach()))
        if error is not None and output.requires_grad:
            axis = 1 if isinstance(layer, nn.Conv2d) else -1
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: error(path, gradient.movedim(axis, -1).flatten(0, -2))
            )

    return hook


def _rows(layer: AdaptableLayer, x: Tensor) -> Tensor:
    """``[m, in]``: what the rows of the flattened weight are multiplied with."""
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2)
    x = x if x.ndim == 4 else x[None]
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        x = F.pad(x, layer._reversed_padding_repeated_twice, _PAD_MODES.get(layer.padding_mode, layer.padding_mode))
        padding: Any = 0
    else:
        padding = layer.padding
    size: Any = layer.kernel_size
    stride: Any = layer.stride
    dilation: Any = layer.dilation
    return F.unfold(x, size, dilation=dilation, padding=padding, stride=stride).mT.flatten(0, -2)


#: torch's names of paddings in convolutions -> in ``F.pad``.
_PAD_MODES = {"zeros": "constant"}
