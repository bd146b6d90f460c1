"""Gradients gathered through hooks, against plain autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scene_examples import random_scenes
from torch import Tensor

from lorasub.adapters import LoRA
from lorasub.adapters.layer_pass import target_layers
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.errors import ConfigError, NumericalError
from lorasub.structures import SceneBatch
from lorasub.subspaces import LayerGradients
from lorasub.tasks import GeometryTask, visit_gradients


def scenes(seed: int, count: int = 2) -> SceneBatch:
    return random_scenes(count, 2, (28, 28), seed=seed, dtype=torch.float32)


@pytest.fixture
def task(tiny_config: VGGTConfig) -> GeometryTask:
    torch.manual_seed(0)
    return GeometryTask(VGGT(tiny_config))


def by_autograd(task: GeometryTask, batch: SceneBatch, layers: list[str]) -> dict[str, Tensor]:
    weights = [task.backbone.get_submodule(layer).weight for layer in layers]
    for weight in weights:
        weight.requires_grad_(True)
    task.eval()
    batch = task.prepare_batch(batch)
    loss = task.compute_loss(task(batch.images), batch).total.mean()
    found = torch.autograd.grad(loss, weights)
    for weight in weights:
        weight.requires_grad_(False)
    return dict(zip(layers, found, strict=True))


@pytest.mark.parametrize("targets", ["blocks", "heads", "*.attn.qkv"])
def test_visits_are_the_gradients_of_autograd(task: GeometryTask, targets: str) -> None:
    batches = [scenes(1), scenes(2)]
    kept = LayerGradients()
    seen = visit_gradients(task, batches, kept.add, targets=targets)
    assert seen.batches == 2
    assert seen.scenes == 4
    assert len(seen.layers) > 3
    one, two = (by_autograd(task, batch, list(seen.layers)) for batch in batches)
    for layer in seen.layers:
        if kept.counts.get(layer):
            torch.testing.assert_close(kept.total[layer], (one[layer] + two[layer]).flatten(1), rtol=1e-4, atol=1e-6)
    assert max(kept.counts.values()) == 2


def test_several_visitors_take_the_batches_in_turn(task: GeometryTask) -> None:
    batches = [scenes(1), scenes(2), scenes(3)]
    halves = LayerGradients(), LayerGradients()
    seen = visit_gradients(task, batches, [half.add for half in halves], targets="*.attn.qkv")
    layers = list(seen.layers)
    one, two, three = (by_autograd(task, batch, layers) for batch in batches)
    for layer in layers:
        torch.testing.assert_close(halves[0].total[layer], one[layer] + three[layer], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(halves[1].total[layer], two[layer], rtol=1e-4, atol=1e-6)


def test_the_mean_loss_is_that_over_scenes(task: GeometryTask) -> None:
    batches = [scenes(1, 3), scenes(2, 1)]
    seen = visit_gradients(task, batches, lambda layer, gradient: None)
    with torch.no_grad():
        prepared = [task.prepare_batch(batch) for batch in batches]
        losses = torch.cat([task.compute_loss(task(batch.images), batch).total for batch in prepared])
    assert seen.loss == pytest.approx(float(losses.mean()), rel=1e-5)


def test_the_task_is_left_as_it_was_and_nothing_is_kept(tiny_config: VGGTConfig) -> None:
    task = GeometryTask(VGGT(tiny_config), LoRA(r=2, targets="blocks"))
    task.train()
    before = {name: parameter.requires_grad for name, parameter in task.named_parameters()}
    most = 0

    def visit(layer: str, gradient: Tensor) -> None:
        nonlocal most
        most = max(most, sum(parameter.grad is not None for parameter in task.parameters()))

    visit_gradients(task, [scenes(1)], visit)
    assert most == 1  # one layer's gradient at a time
    assert {name: parameter.requires_grad for name, parameter in task.named_parameters()} == before
    assert all(parameter.grad is None for parameter in task.parameters())
    assert task.training


def test_adapters_at_their_start_change_nothing(tiny_config: VGGTConfig) -> None:
    found = []
    for adapter in (None, LoRA(r=2, targets="blocks")):
        torch.manual_seed(0)
        task = GeometryTask(VGGT(tiny_config), adapter)
        kept = LayerGradients()
        visit_gradients(task, [scenes(1)], kept.add)
        found.append(kept.total)
    assert found[0].keys() == found[1].keys()
    for layer, gradient in found[0].items():
        torch.testing.assert_close(found[1][layer], gradient, rtol=1e-4, atol=1e-6)


def test_an_error_leaves_the_task_as_it_was(task: GeometryTask) -> None:
    def refuse(layer: str, gradient: Tensor) -> None:
        raise NumericalError(f"not {layer}")

    with pytest.raises(NumericalError, match="not aggregator"):
        visit_gradients(task, [scenes(1)], refuse)
    assert not any(parameter.requires_grad for parameter in task.parameters())
    assert all(not parameter._post_accumulate_grad_hooks for parameter in task.parameters())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda task: visit_gradients(task, [], print), "there is no batch"),
        (lambda task: visit_gradients(task, [scenes(1)], print, targets="bloks"), "gradient target 'bloks' matches"),
        (lambda task: target_layers(task.backbone, ("*.norm1",)), "no linear layer and no convolution"),
    ],
)
def test_mistakes_are_told_in_words(task: GeometryTask, call: Callable[[GeometryTask], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call(task)
