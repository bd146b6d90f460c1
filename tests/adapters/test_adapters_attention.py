"""Adapters in torch's own attention and transformer layers, which read weights and take a fast path in evaluation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lorasub.adapters import LoRA, LoRABank, RandomBasis, attached_adapters, inject_adapters, load_adapters
from lorasub.errors import ConfigError

WIDTH, HEADS = 16, 4


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x, x, x, need_weights=False)[0]  # type: ignore[no-any-return]


def encoder(**options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0.0, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


MODELS = {
    "attention": Attention,
    "encoder": encoder,
    "norm_first": lambda: encoder(norm_first=True),
    "gelu": lambda: encoder(activation="gelu"),
    "decoder": lambda: nn.TransformerDecoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0.0, batch_first=True),
}
X = torch.linspace(-1, 1, 2 * 5 * WIDTH).reshape(2, 5, WIDTH).sin()


def make(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[kind]()


def output(model: nn.Module) -> Tensor:
    return model(X, X) if isinstance(model, nn.TransformerDecoderLayer) else model(X)  # type: ignore[no-any-return]


def adapt(model: nn.Module, spec: Any) -> Any:
    """Inject and give every adapter a value."""
    adapters = inject_adapters(model, spec)
    for number, parameter in enumerate(adapters.trainable_parameters().values()):
        generator = torch.Generator().manual_seed(number)
        parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return adapters


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("spec", [LoRA(r=2, targets="all"), RandomBasis(dim=3, targets="all")], ids=["lora", "basis"])
def test_the_output_is_that_of_the_summed_weights(kind: str, spec: Any) -> None:
    model, expected = make(kind), make(kind)
    base = output(expected).detach()
    adapters = adapt(model, spec)
    # the sum by hand, in a copy that knows nothing of adapters
    for path, update in adapters.updates().items():
        module = expected.get_submodule(path)
        weight = module.in_proj_weight if isinstance(module, nn.MultiheadAttention) else module.weight
        weight.data += update.scale * (update.B @ update.A)  # type: ignore[operator]
    assert any(isinstance(expected.get_submodule(path), nn.MultiheadAttention) for path in adapters.layers)
    assert (output(expected) - base).abs().max() > 0.05
    for training in (True, False):
        model.train(training)
        expected.train(training)
        torch.testing.assert_close(output(model), output(expected), atol=1e-5, rtol=1e-5)
        with torch.no_grad():  # in evaluation torch's fast path
            torch.testing.assert_close(output(model), output(expected), atol=1e-5, rtol=1e-5)
    with adapters.disabled():
        torch.testing.assert_close(output(model), base)
    adapters.merge()
    torch.testing.assert_close(output(model), output(expected), atol=1e-5, rtol=1e-5)
    adapters.unload()
    torch.testing.assert_close(output(model), base)
    assert [type(module) for module in model.modules()] == [type(module) for module in make(kind).modules()]


@pytest.mark.parametrize("kind", MODELS)
def test_every_adapter_learns(kind: str) -> None:
    model = make(kind)
    adapters = adapt(model, LoRA(r=2, targets="all"))
    output(model).square().sum().backward()
    for name, parameter in adapters.trainable_parameters().items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("kind", ["attention", "encoder"])
def test_files_go_to_peft_and_back(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peft = pytest.importorskip("peft")
    model = make(kind)
    adapt(model, LoRA(r=2, targets="all")).save(tmp_path / "ours")
    expected = output(model).detach()
    theirs = peft.PeftModel.from_pretrained(make(kind), tmp_path / "ours")
    # PEFT's layers give torch's fast path their base weights only
    monkeypatch.setattr(torch.backends.mha, "get_fastpath_enabled", lambda: False)
    torch.testing.assert_close(output(theirs).detach(), expected, atol=1e-5, rtol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    again = make(kind)
    load_adapters(again, tmp_path / "theirs")
    torch.testing.assert_close(output(again).detach(), expected, atol=1e-5, rtol=1e-5)


def test_what_an_attention_cannot_have_is_refused() -> None:
    for spec in (LoRA(r=2, targets="all", dropout=0.1), LoRABank(r=2, targets="all", count=2)):
        with pytest.raises(ConfigError, match="MultiheadAttention"):
            inject_adapters(make("attention"), spec)
    # with keys of another width there is no common parameter; the output projection can be adapted
    odd = nn.ModuleDict({"attn": nn.MultiheadAttention(WIDTH, HEADS, kdim=8)})
    assert set(inject_adapters(odd, LoRA(r=2, targets="all")).layers) == {"attn.out_proj"}


def test_an_adapted_attention_can_be_copied() -> None:
    model = make("attention")
    adapt(model, LoRA(r=2, targets="all"))
    other = copy.deepcopy(model)
    torch.testing.assert_close(output(other), output(model))
    found = attached_adapters(other)
    assert found is not None
    assert set(found.layers) == {"attn", "attn.out_proj"}
