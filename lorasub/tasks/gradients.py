"""Gathers the gradients of layers at the base model, one layer at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lorasub.adapters.targets import base_modules, resolve
from lorasub.errors import ConfigError
from lorasub.structures import SceneBatch
from lorasub.tasks.base import SceneTask

#: Called with a layer's path and the gradient of its weight, for every layer and batch.
GradientVisitor = Callable[[str, Tensor], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientPass:
    """What a pass over some batches has seen.

    Attributes:
        batches: how many there were.
        scenes: how many scenes they held.
        loss: mean loss over the scenes.
        layers: the layers that were visited, in the order of the model.
    """

    batches: int
    scenes: int
    loss: float
    layers: tuple[str, ...]


def visit_gradients(
    task: SceneTask, batches: Iterable[SceneBatch], visit: GradientVisitor, *, targets: str | Iterable[str] = "blocks"
) -> GradientPass:
    """Hand the gradient of every layer on every batch to ``visit``, and keep none.

    Each gradient is visited as soon as the backward pass has it, and freed: the whole model's gradient is never in
    memory at once. The task is left as it was.

    Args:
        task: its ``compute_loss`` is differentiated; adapters in it count as they are.
        batches: scenes as a data module gives them, on the task's device. One visit of a layer is the gradient of the
            mean loss of one batch.
        visit: called with a layer's path and its gradient, shaped as its weight; for instance
            :meth:`lorasub.subspaces.LayerGradients.add`.
        targets: which layers: groups of the backbone or patterns over module paths, as adapters' targets. Of what they
            name, linear layers and convolutions are visited.

    Raises:
        ConfigError: a target matches nothing, or no layer in what it names; or there is no batch.
        NumericalError: the visitor refuses a gradient.
    """
    weights = target_weights(task.backbone, (targets,) if isinstance(targets, str) else tuple(targets))
    before = {parameter: parameter.requires_grad for parameter in task.parameters()}
    training, kept = task.training, {parameter: parameter.grad for parameter in weights.values()}
    handles = []
    seen, scenes, loss = 0, 0, 0.0
    try:
        task.eval()
        task.requires_grad_(False)
        for layer, parameter in weights.items():
            parameter.requires_grad_(True)
            parameter.grad = None
            hook = _handed_on(layer, visit)
            handles.append(parameter.register_post_accumulate_grad_hook(hook))  # type: ignore[no-untyped-call]
        for batch in batches:
            batch = task.prepare_batch(batch)
            with torch.enable_grad():
                total = task.compute_loss(task(batch.images), batch).total
                total.mean().backward()  # type: ignore[no-untyped-call]
            seen, scenes, loss = seen + 1, scenes + len(batch), loss + float(total.detach().sum())
    finally:
        for handle in handles:
            handle.remove()
        for parameter, required in before.items():
            parameter.requires_grad_(required)
        for parameter, gradient in kept.items():
            parameter.grad = gradient
        task.train(training)
    if not seen:
        raise ConfigError("there is no batch to take gradients of")
    return GradientPass(batches=seen, scenes=scenes, loss=loss / scenes, layers=tuple(weights))


def target_weights(model: nn.Module, targets: tuple[str, ...]) -> dict[str, Tensor]:
    """The weights of the linear layers and convolutions that targets name, by the layers' paths.

    Raises:
        ConfigError: a target matches nothing, or there is no such layer in what it names.
    """
    modules = base_modules(model)
    chosen = resolve(model, modules, targets, what="gradient target")
    found = {
        path: module.weight
        for path, module in modules.items()
        if path in chosen and isinstance(module, nn.Linear | nn.Conv2d)
    }
    if not found:
        raise ConfigError(f"there is no linear layer and no convolution in {', '.join(targets)}")
    return found


def _handed_on(layer: str, visit: GradientVisitor) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        if parameter.grad is not None:
            visit(layer, parameter.grad)
            parameter.grad = None

    return hook
