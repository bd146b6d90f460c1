"""The fused Linear with a low-rank update against the formula, and frozen weights in bfloat16."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lorasub import AdapterSpec, LoRA, RandomBasis, activation_moments, cast_frozen_weights, inject_adapters
from lorasub.adapters.fused import can_fuse, linear_with_update


def toy() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12, bias=False))


SPECS: dict[str, Callable[[], AdapterSpec]] = {
    "lora": lambda: LoRA(r=4, targets="*"),
    "projected": lambda: RandomBasis(dim=4, targets="*"),
}


def adapted(spec: str) -> nn.Module:
    """A model whose adapters no longer add zero."""
    model = toy()
    adapters = inject_adapters(model, SPECS[spec]())
    with torch.no_grad():
        for parameter in adapters.trainable_parameters().values():
            parameter.normal_()
    return model


@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 12), (12,)])
def test_output_and_gradients_are_those_of_the_formula(shape: tuple[int, ...]) -> None:
    base = nn.Linear(12, 20).double().requires_grad_(False)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    A = torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    B = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    assert can_fuse(base, x)
    found = linear_with_update(x, base, A, B, 0.5)
    expected = x @ base.weight.T + base.bias + 0.5 * (x @ A.T) @ B.T
    assert torch.allclose(found, expected)
    upstream = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, [x, A, B], upstream), torch.autograd.grad(expected, [x, A, B], upstream), strict=True
    ):
        assert torch.allclose(one, other)
    assert torch.autograd.gradcheck(lambda x, A, B: linear_with_update(x, base, A, B, 0.5), (x, A, B))


def test_only_plain_frozen_layers_are_fused() -> None:
    class Quantised(nn.Linear):
        pass

    frozen, x = nn.Linear(3, 3).requires_grad_(False), torch.ones(2, 3)
    assert can_fuse(frozen, x)
    assert not can_fuse(nn.Linear(3, 3), x)
    assert not can_fuse(Quantised(3, 3).requires_grad_(False), x)
    assert not can_fuse(nn.Conv2d(3, 3, 1).requires_grad_(False), x)
    with torch.no_grad():
        assert not can_fuse(frozen, x)
        with torch.autocast("cpu", torch.bfloat16):
            assert can_fuse(frozen, x)


@pytest.mark.parametrize("spec", SPECS)
def test_models_under_autocast_agree_with_the_sum_of_base_and_update(spec: str) -> None:
    """Dropout of nothing takes the usual way: base layer, then update."""
    model, x = adapted(spec), torch.randn(6, 12)

    def run() -> tuple[Tensor, dict[str, Tensor]]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            result = model(x)
        result.float().square().sum().backward()
        return result.float(), {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}

    fused, fused_gradients = run()
    for module in model.modules():
        if hasattr(module, "lora_dropout"):
            module.lora_dropout = nn.Dropout(0.0)
    usual, usual_gradients = run()
    assert torch.allclose(fused, usual, rtol=0.03, atol=0.03 * float(usual.detach().abs().max()))
    assert fused_gradients.keys() == usual_gradients.keys()
    for name, gradient in usual_gradients.items():
        assert fused_gradients[name].dtype == torch.float32
        assert (fused_gradients[name] - gradient).norm() <= 0.03 * gradient.norm(), name


def test_factors_are_cast_with_the_call_and_forgotten_after_it() -> None:
    """Also after an error; what was cast never outlives a change of the parameters, even one behind autograd's back."""
    model, x = adapted("lora"), torch.randn(6, 12)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = model(x)
        assert all(layer.cast_factors is None for layer in (model[0], model[2]))
        model[0].lora_A.weight.data.mul_(3)
        assert not torch.equal(model(x), before)
        with pytest.raises(RuntimeError):
            model(torch.randn(6, 5))
        assert model[0].cast_factors is None
        alone = copy.deepcopy(model)
        alone._forward_pre_hooks.clear()  # each layer casts its own: the same numbers
        assert torch.equal(alone(x), model(x))


def test_unloading_leaves_no_hook() -> None:
    model = toy()
    inject_adapters(model, LoRA(r=2, targets="*")).unload()
    assert not model._forward_pre_hooks
    assert not model._forward_hooks


@pytest.mark.parametrize("spec", SPECS)
def test_frozen_weights_in_bfloat16_change_nothing_under_autocast(spec: str) -> None:
    """Autocast would round the same weights in every step; sums in another order are all that may differ."""
    model, x = adapted(spec), torch.randn(6, 12)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = model(x)
        count = cast_frozen_weights([model])
        assert torch.equal(model(x), before)
    assert count == 12 * 20 + 20 + 20 * 12
    assert all(buffer.dtype == torch.float32 for buffer in model.buffers())  # bases are exported as they are
    assert {n for n, p in model.named_parameters() if p.requires_grad} == trained
    assert all(p.dtype == (torch.float32 if n in trained else torch.bfloat16) for n, p in model.named_parameters())
    assert cast_frozen_weights([model]) == 0


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"])
def test_hooks_of_an_adapted_layer_run(kind: str) -> None:
    """As they do without adapters, and in evaluation on a CPU: they belong to whoever looks at the model."""
    model = adapted("lora")
    calls: list[str] = []
    getattr(model[0].base_layer, kind)(lambda *arguments: calls.append(kind))
    model(torch.randn(3, 12, requires_grad=True)).sum().backward()
    assert calls == [kind]


def test_activations_of_an_adapted_model_are_those_that_its_layers_take() -> None:
    model, x = adapted("lora"), torch.randn(5, 12)
    with torch.autocast("cpu", torch.bfloat16):
        found = activation_moments(model, (model(row[None]) for row in x), targets="0", centered=False)
    torch.testing.assert_close(found.input["0"], x.T @ x / 5, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("frozen", ["lora_A", "lora_B"])
def test_either_factor_may_be_frozen(frozen: str) -> None:
    layer = adapted("lora")[0]
    x = torch.randn(5, 12)
    factors = {name: getattr(layer, name).weight for name in ("lora_A", "lora_B")}
    factors[frozen].requires_grad_(False)
    (trained,) = (factor for name, factor in factors.items() if name != frozen)
    formula = layer.base_layer(x) + layer.scale * x @ factors["lora_A"].T @ factors["lora_B"].T
    (expected,) = torch.autograd.grad(formula.square().sum(), trained)
    layer(x).square().sum().backward()
    torch.testing.assert_close(trained.grad, expected)


@pytest.mark.parametrize("spec", SPECS)
def test_frozen_weights_in_bfloat16_take_float32_inputs(spec: str) -> None:
    """As `compute.frozen: bfloat16` asks for with products in float32; validation came to an end with a torch error."""
    model, x = adapted(spec), torch.randn(6, 12)
    rounded = copy.deepcopy(model)
    for layer in (rounded[0].base_layer, rounded[2].base_layer):
        for parameter in layer.parameters():
            parameter.data = parameter.data.bfloat16().float()
    cast_frozen_weights([model])
    with torch.no_grad():
        torch.testing.assert_close(model(x), rounded(x))
    torch.testing.assert_close(model(x), rounded(x))
