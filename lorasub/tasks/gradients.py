"""Losses of a task on scenes, and the gradients of layers that they have at the base model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from lorasub.adapters.layer_pass import LayerVisitor, left_as_it_was, target_layers, visit_layers
from lorasub.structures import SceneBatch
from lorasub.tasks.base import SceneTask

#: Called with a layer's path and the gradient of its weight, for every layer and batch.
GradientVisitor = LayerVisitor


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientPass:
    """Losses and scenes of a pass over some batches.

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


def scene_losses(task: SceneTask, batches: Iterable[SceneBatch]) -> Iterator[Tensor]:
    """Yields the mean loss of each batch, computed as it is asked for, in evaluation mode.

    They are what :func:`lorasub.gradient_basis` takes: ``gradient_basis(task.backbone, scene_losses(task, scenes))``.

    Args:
        task: its ``compute_loss`` is used; adapters in it count as they are.
        batches: scenes as a data module gives them, on the task's device.

    Example:
        >>> task = ls.GeometryTask(backbone=ls.ConstantGeometry())
        >>> batch = SceneBatch.from_views(torch.rand(2, 3, 28, 28), depth=1 + torch.rand(2, 28, 28))
        >>> [loss.shape for loss in scene_losses(task, [batch])]
        [torch.Size([])]
    """
    for loss, _ in _losses(task, batches):
        yield loss.mean()


def visit_gradients(
    task: SceneTask,
    batches: Iterable[SceneBatch],
    visit: GradientVisitor | Sequence[GradientVisitor],
    *,
    targets: str | Iterable[str] = "blocks",
) -> GradientPass:
    """Hand the gradient of every layer on every batch to ``visit``, and keep none.

    Each gradient is visited as soon as the backward pass has it, and freed: the whole model's gradient is never in
    memory at once. The task is left as it was.

    Args:
        task: its ``compute_loss`` is differentiated; adapters in it count as they are.
        batches: scenes as a data module gives them, on the task's device. One visit of a layer is the gradient of the
            mean loss of one batch.
        visit: called with a layer's path and its gradient, shaped as its weight; for instance
            :meth:`lorasub.subspaces.LayerGradients.add`. Several visitors take the batches in turn.
        targets: which layers: groups of the backbone or patterns over module paths, as adapters' targets. Of what they
            name, linear layers and convolutions are visited.

    Raises:
        ConfigError: a target matches nothing, or no layer in what it names; or there is no batch.
        NumericalError: the visitor refuses a gradient.

    Example:
        >>> task = ls.GeometryTask(backbone=ls.VGGT(tiny))
        >>> batch = SceneBatch.from_views(torch.rand(1, 3, 28, 28), depth=1 + torch.rand(1, 28, 28))
        >>> norms = {}
        >>> _ = visit_gradients(task, [batch], lambda layer, gradient: norms.update({layer: gradient.norm()}))
        >>> len(norms), min(norms.values()) > 0
        (32, tensor(True))
    """
    scenes, total, turn = 0, 0.0, -1
    visitors = [visit] if callable(visit) else list(visit)

    def losses() -> Iterator[Tensor]:
        nonlocal scenes, total, turn
        for loss, batch in _losses(task, batches):
            turn = (turn + 1) % len(visitors)
            scenes += len(batch)
            total += 0.0 if loss.is_meta else float(loss.detach().sum())
            yield loss.mean()

    def in_turn(layer: str, gradient: Tensor) -> None:
        visitors[turn](layer, gradient)

    layers = tuple(target_layers(task.backbone, targets))
    seen = visit_layers(task.backbone, losses(), targets=targets, gradient=in_turn)
    return GradientPass(batches=seen, scenes=scenes, loss=total / scenes, layers=layers)


def _losses(task: SceneTask, batches: Iterable[SceneBatch]) -> Iterator[tuple[Tensor, SceneBatch]]:
    """The losses of each batch's scenes, and the batch."""
    with _still(task):
        for batch in batches:
            batch = task.prepare_batch(batch)
            yield task.compute_loss(task(batch.images), batch).total, batch


@contextmanager
def _still(task: SceneTask) -> Iterator[None]:
    """Evaluation mode, and no gradients outside the backbone; both as before afterwards."""
    inside = set(task.backbone.parameters())
    with left_as_it_was(task):
        task.eval()
        for parameter in task.parameters():
            if parameter not in inside:
                parameter.requires_grad_(False)
        yield
