"""The memory estimate against real models, real optimisers and real graphs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adafactor, AdamW

from lorasub.adapters import (
    EVA,
    AdapterSpec,
    FullFineTuning,
    LoRA,
    MeanAdapter,
    ProjectedLoRA,
    RandomBasis,
    inject_adapters,
)
from lorasub.adapters.mining import mine_subspace
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.errors import ConfigError
from lorasub.subspaces import LowRankUpdate
from lorasub.tasks import GeometryTask, PretrainingTask
from lorasub.training.memory import activation_bytes, estimate_memory, optimizer_bytes, weight_bytes

ADAPTERS: dict[str, AdapterSpec] = {
    "lora": LoRA(r=2, targets=["blocks", "heads"]),
    "projected": RandomBasis(dim=3),
    "full": FullFineTuning(),
}


def estimate(task: GeometryTask, views: int = 2, **options: Any) -> Any:
    return estimate_memory(task, scenes=2, views=views, image_size=(28, 42), **options)


def without_weights(config: VGGTConfig, adapter: AdapterSpec, **options: Any) -> GeometryTask:
    with torch.device("meta"):
        return GeometryTask(VGGT(config), adapter, **options)


def saved_bytes(task: GeometryTask, images: Tensor) -> int:
    """What autograd really keeps for the backward pass, beside the weights."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*task.parameters(), *task.buffers())}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        predictions = task(images)
    assert predictions.depth.requires_grad
    return sum(t.untyped_storage().nbytes() for pointer, t in kept.items() if pointer not in weights)


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("optimizer", [AdamW, partial(SGD, lr=0.1, momentum=0.9), partial(SGD, lr=0.1)], ids=str)
def test_weights_and_optimizer_state_are_those_of_the_real_fit(
    tiny_config: VGGTConfig, kind: str, optimizer: Any
) -> None:
    task = GeometryTask(VGGT(tiny_config), ADAPTERS[kind], optimizer=optimizer)
    counted = without_weights(tiny_config, ADAPTERS[kind], optimizer=optimizer)

    real = task.make_optimizer()
    for group in real.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    real.step()
    state = [value for values in real.state.values() for value in values.values()]
    expected = sum(value.nbytes for value in state if isinstance(value, Tensor))
    assert optimizer_bytes(counted.make_optimizer()) == expected
    tensors = (*task.parameters(), *task.buffers())
    assert weight_bytes(counted) == {"float32": sum(4 * tensor.numel() for tensor in tensors)}


def test_an_optimizer_that_looks_at_values_is_said_to_be_unknown(tiny_config: VGGTConfig) -> None:
    task = without_weights(tiny_config, ADAPTERS["lora"], optimizer=Adafactor)
    assert optimizer_bytes(task.make_optimizer()) is None


@pytest.mark.parametrize(
    ("kind", "checkpointing"), [("lora", False), ("lora", True), ("projected", False), ("full", False)]
)
def test_what_is_kept_for_the_backward_pass_is_what_autograd_keeps(
    tiny_config: VGGTConfig, kind: str, checkpointing: bool
) -> None:
    task = GeometryTask(VGGT(tiny_config, gradient_checkpointing=checkpointing), ADAPTERS[kind])
    real = saved_bytes(task, torch.rand(2, 2, 3, 28, 42))
    found = estimate(task)
    assert found.activations.saved == pytest.approx(real, rel=0.03)
    assert found.gradients == sum(4 * p.numel() for p in task.parameters() if p.requires_grad)
    assert found.parameters.to_dict() == task.adapters.table().to_dict()
    parts = [*found.weights.values(), found.gradients, found.optimizer, found.activations.peak]
    assert found.total == sum(parts)


def test_the_peak_of_a_chain_that_can_be_counted_by_hand() -> None:
    class Chain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * self.scale).exp().exp()

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    size = 4 * 1000
    found = activation_bytes(Chain(), (1000,))
    assert found.saved == 3 * size  # the input, and each exponential's own result
    # and the product until it goes; in the backward pass the gradients that come and go
    assert 4 * size <= found.peak <= 6 * size + 8


def test_checkpointing_lowers_the_peak_which_holds_what_is_computed_again(tiny_config: VGGTConfig) -> None:
    task = without_weights(tiny_config, ADAPTERS["lora"])
    plain = estimate(task, views=6).activations
    task.backbone.gradient_checkpointing, task.backbone.frames_per_chunk = True, 1
    saving = estimate(task, views=6).activations
    assert saving.saved < plain.saved / 3
    assert saving.saved < saving.peak < plain.peak


def test_autocast_halves_what_the_blocks_keep(tiny_config: VGGTConfig) -> None:
    task = without_weights(tiny_config.replace(heads=("camera",)), LoRA(r=2))
    half, whole = (estimate(task, autocast=dtype).activations.saved for dtype in (torch.bfloat16, None))
    assert 0.4 * whole < half < 0.9 * whole


def test_the_task_is_left_as_it_was(tiny_config: VGGTConfig) -> None:
    task = PretrainingTask(VGGT(tiny_config))
    before = {name: tensor.clone() for name, tensor in task.state_dict().items()}
    assert str(estimate(task)).count("activations") == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.state_dict().items())
    assert all(parameter.grad is None for parameter in task.parameters())


def test_a_batch_of_nothing_is_refused(tiny_config: VGGTConfig) -> None:
    with pytest.raises(ConfigError, match="0 views"):
        estimate(without_weights(tiny_config, ADAPTERS["lora"]), views=0)


def test_models_without_weights_read_and_download_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorasub.backbones.vggt.model.find_weights", lambda source: pytest.fail(f"{source} is read"))
    with torch.device("meta"):
        named = VGGT.from_preset("nano", heads=("depth",))
        hub = VGGT.from_pretrained("someone/some-model")
    assert all(parameter.is_meta for parameter in (*named.parameters(), *hub.parameters()))
    assert (named.model_id, named.point_head, hub.config) == ("nano", None, VGGTConfig())


def test_operations_of_layers_and_attention_are_those_of_the_formula() -> None:
    """2 m n k for a product; backward the same again for the weights, and for the input where that is needed."""
    layers = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 8))
    forward = 2 * 5 * (16 * 32 + 32 * 8)
    assert activation_bytes(layers, (5, 16)).flops == 2 * forward + 2 * 5 * 32 * 8

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(16))

        def forward(self, x: Tensor) -> Tensor:
            x = x * self.scale
            return nn.functional.scaled_dot_product_attention(x, x, x)

    once = 2 * (2 * 3) * 10 * 10 * 16  # batch and heads, queries, keys, channels
    # two products forward; backward those of values, weights, queries and keys, and the scores once more
    assert activation_bytes(Attention(), (2, 3, 10, 16)).flops == (2 + 5) * once


@pytest.mark.parametrize("kind", [ProjectedLoRA, EVA, MeanAdapter])
def test_adapters_on_a_basis_in_a_folder_are_made_without_weights(kind: Any, tmp_path: Path) -> None:
    """As `--estimate` makes them; the basis itself has its numbers all the same."""
    updates = [{"0": LowRankUpdate(B=torch.randn(24, 2), A=torch.randn(2, 16))} for _ in range(2)]
    folder = str(mine_subspace(updates, dim=3).save(tmp_path / "basis"))
    more = {"init_from": folder} if kind is ProjectedLoRA else {"r": 2} if kind is EVA else {}
    with torch.device("meta"):
        adapters = inject_adapters(nn.Sequential(nn.Linear(16, 24)), kind(basis=folder, targets="all", **more))
    counts = {ProjectedLoRA: 3 * 3, EVA: 2 * (16 + 24), MeanAdapter: 1}
    assert adapters.table().trainable == counts[kind]
