"""The fused Linear with a low-rank update against the formula, and frozen weights in bfloat16."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lorasub import AdapterSpec, LoRA, RandomBasis, cast_frozen_weights, inject_adapters
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
