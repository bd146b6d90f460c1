"""Interchange with the real ``peft`` package, both ways."""

from __future__ import annotations

import json

import pytest
import torch
from adapter_toys import TOYS
from safetensors.torch import load_file, save_file
from torch import nn

import lorasub as ls
from lorasub.errors import ArtefactError, ConfigError

peft = pytest.importorskip("peft")


def peft_model(toy, folder):
    return peft.PeftModel.from_pretrained(toy.model(), str(folder)).eval()


def save_with_peft(toy, folder, **config):
    """A PEFT adapter with values that training could have given it; returns its model."""
    config.setdefault("target_modules", [path for path in toy.layers if path != "again"])
    model = peft.get_peft_model(toy.model(), peft.LoraConfig(**config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(str(folder))
    return model


@pytest.fixture(params=["mlp", "conv", "transformer"])
def toy(request):
    """PEFT wraps a shared module at its first place only, so the toy "shared" means something else there."""
    return TOYS[request.param]


def test_ours_loads_in_peft(toy, spec, perturb, tmp_path):
    model, x = toy.model(), toy.input()
    adapters = ls.inject_adapters(model, spec)
    perturb(adapters)
    adapters.save(tmp_path)
    theirs = peft_model(toy, tmp_path)
    torch.testing.assert_close(theirs(x), model(x), rtol=1e-5, atol=1e-5)
    assert (theirs(x) - toy.model()(x)).abs().max() > 1e-3
    merged = theirs.merge_and_unload()
    adapters.merge()
    torch.testing.assert_close(merged(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {"r": 3, "lora_alpha": 5},
        {"r": 2, "use_rslora": True, "lora_alpha": 3},
        {"r": 2, "rank_pattern": {"qkv|fc1|0": 4}, "alpha_pattern": {"fc1|0": 7}},
        {"r": 2, "init_lora_weights": "gaussian", "lora_dropout": 0.3},
    ],
)
def test_theirs_loads_here(toy, config, tmp_path):
    x = toy.input()
    theirs = save_with_peft(toy, tmp_path, **config)
    model = toy.model()
    adapters = ls.load_adapters(model, tmp_path)
    torch.testing.assert_close(model(x), theirs(x), rtol=1e-5, atol=1e-5)
    # and once more around
    adapters.save(tmp_path / "again")
    torch.testing.assert_close(peft_model(toy, tmp_path / "again")(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_theirs_loads_into_adapters_of_the_same_shape(transformer, tmp_path):
    x = transformer.input()
    theirs = save_with_peft(transformer, tmp_path, r=2, lora_alpha=4)
    adapters = ls.inject_adapters(transformer.model(), ls.LoRA(r=2, targets="all"))
    adapters.load(tmp_path)
    torch.testing.assert_close(adapters.model(x), theirs(x), rtol=1e-5, atol=1e-5)
    for spec, word in (
        (ls.LoRA(r=2, lora_alpha=3, targets="all"), "scale"),
        (ls.LoRA(r=3, targets="all"), "of another shape"),
        (ls.LoRA(r=2, targets="blocks"), "unexpected layers head"),
        (ls.PSV(dim=2, targets="all"), "is lora there and projected here"),
    ):
        with pytest.raises(ArtefactError, match=word):
            ls.inject_adapters(transformer.model(), spec).load(tmp_path)


def test_updates_are_their_delta_weights(toy, tmp_path):
    theirs = save_with_peft(toy, tmp_path, r=2, lora_alpha=3, rank_pattern={toy.layers[0]: 4}, use_rslora=False)
    updates, info = ls.load_adapter_updates(tmp_path)
    assert set(updates) == set(toy.layers)
    assert info.base_model_hash is None
    for path, update in updates.items():
        delta = theirs.base_model.model.get_submodule(path).get_delta_weight("default").flatten(1)
        torch.testing.assert_close(update.scale * update.B @ update.A, delta)


def test_a_suffix_does_not_hit_other_layers_in_peft(tmp_path, perturb):
    """In PEFT's config a name stands for every path that ends with it."""

    def build():
        torch.manual_seed(2)
        inner = nn.Sequential()
        inner.add_module("proj", nn.Linear(4, 4))
        model = nn.Sequential()
        model.add_module("proj", nn.Linear(4, 4))
        model.add_module("inner", inner)
        return model

    model, x = build(), torch.randn(3, 4)
    adapters = ls.inject_adapters(
        model, [ls.LoRA(r=2, targets="proj"), ls.LoRA(r=3, targets="inner.proj", lora_alpha=1)][:1]
    )
    perturb(adapters)
    adapters.save(tmp_path / "one")
    theirs = peft.PeftModel.from_pretrained(build(), str(tmp_path / "one"))
    torch.testing.assert_close(theirs(x), model(x), rtol=1e-5, atol=1e-5)
    adapters.unload()
    adapters = ls.inject_adapters(model, [ls.LoRA(r=2, targets="proj"), ls.LoRA(r=3, targets="inner", lora_alpha=1)])
    perturb(adapters)
    adapters.save(tmp_path / "both")
    theirs = peft.PeftModel.from_pretrained(build(), str(tmp_path / "both"))
    torch.testing.assert_close(theirs(x), model(x), rtol=1e-5, atol=1e-5)


def test_initial_values_are_those_of_peft(transformer):
    """Same distribution: uniform in +- 1 / sqrt(in), B zero."""
    adapters = ls.inject_adapters(transformer.model(), ls.LoRA(r=512, targets="head"))
    theirs = peft.get_peft_model(transformer.model(), peft.LoraConfig(r=512, target_modules=["head"]))
    A, B = (adapters.trainable_parameters()[f"head.lora_{side}.weight"] for side in "AB")
    their_A = theirs.base_model.model.head.lora_A["default"].weight
    assert A.abs().max().item() == pytest.approx(8**-0.5, rel=0.01)
    assert their_A.abs().max().item() == pytest.approx(8**-0.5, rel=0.01)
    assert A.std().item() == pytest.approx(their_A.std().item(), rel=0.05)
    assert not B.any()


def test_pissa_starts_where_that_of_peft_starts(transformer):
    adapters = ls.inject_adapters(transformer.model(), ls.LoRA(r=3, lora_alpha=6, targets="*.qkv", init="pissa"))
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=["qkv"], init_lora_weights="pissa")
    theirs = peft.get_peft_model(transformer.model(), config).base_model.model
    for path, layer in adapters.layers.items():
        their_layer = theirs.get_submodule(path)
        product = layer.lora_B.weight @ layer.lora_A.weight
        torch.testing.assert_close(product, their_layer.lora_B["default"].weight @ their_layer.lora_A["default"].weight)
        torch.testing.assert_close(
            layer.base_layer.weight - layer.scale * product, their_layer.base_layer.weight, rtol=1e-4, atol=1e-6
        )


def test_pissa_trains_like_that_of_peft(transformer, train):
    x = transformer.input()
    model = transformer.model()
    ls.inject_adapters(model, ls.LoRA(r=3, lora_alpha=6, targets="*.qkv", init="pissa"))
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=["qkv"], init_lora_weights="pissa")
    theirs = peft.get_peft_model(transformer.model(), config)
    for trained in (model, theirs):
        trained.train()
        train(trained, x, steps=4)
    torch.testing.assert_close(model(x), theirs(x), rtol=1e-3, atol=1e-4)
    assert (model(x) - transformer.model()(x)).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["head"], "target_modules": ["qkv"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"bias": "all"}, "bias"),
    ],
)
def test_more_than_plain_lora_is_refused(transformer, config, word, tmp_path):
    save_with_peft(transformer, tmp_path, **config)
    with pytest.raises(ArtefactError, match=word):
        ls.load_adapters(transformer.model(), tmp_path)
    with pytest.raises(ArtefactError, match=word):
        ls.load_adapter_updates(tmp_path)


def test_other_peft_methods_are_refused(transformer, tmp_path):
    model = peft.get_peft_model(transformer.model(), peft.IA3Config(target_modules=["qkv"], feedforward_modules=[]))
    model.save_pretrained(str(tmp_path))
    with pytest.raises(ArtefactError, match="IA3"):
        ls.load_adapters(transformer.model(), tmp_path)


def test_pickles_are_not_opened(transformer, tmp_path):
    save_with_peft(transformer, tmp_path)
    torch.save(load_file(tmp_path / "adapter_model.safetensors"), tmp_path / "adapter_model.bin")
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(ArtefactError, match="pickle"):
        ls.load_adapters(transformer.model(), tmp_path)


def test_damage_is_named(transformer, tmp_path):
    save_with_peft(transformer, tmp_path, r=2)
    weights, config = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    tensors, settings = load_file(weights), json.loads(config.read_text())
    key = "base_model.model.blocks.0.attn.qkv.lora_B.weight"
    for broken, word in (
        ({k: v for k, v in tensors.items() if k != key}, r"lacks lora_B of layer 'blocks\.0\.attn\.qkv'"),
        (tensors | {"base_model.model.head.bias": torch.zeros(3)}, r"'base_model\.model\.head\.bias' is not"),
        (tensors | {key: torch.zeros(24, 5)}, "its rank"),
        (tensors | {key: tensors[key] * float("nan")}, "NaN"),
        ({k.replace("qkv", "kqv"): v for k, v in tensors.items()}, "does not have: blocks.0.attn.kqv"),
        ({k: v[:-1] if k == key else v for k, v in tensors.items()}, r"of another shape: 'blocks\.0\.attn\.qkv"),
    ):
        save_file(broken, weights)
        model = transformer.model()
        with pytest.raises(ArtefactError, match=word):
            ls.load_adapters(model, tmp_path)
        assert ls.attached_adapters(model) is None
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(ArtefactError, match="safetensors"):
        ls.load_adapters(transformer.model(), tmp_path)
    save_file(tensors, weights)
    config.write_text(json.dumps({k: v for k, v in settings.items() if k != "r"}))
    with pytest.raises(ArtefactError, match="no usable r"):
        ls.load_adapters(transformer.model(), tmp_path)
    config.write_text("{")
    with pytest.raises(ArtefactError, match="JSON"):
        ls.load_adapters(transformer.model(), tmp_path)


@pytest.mark.parametrize("factor", ["flat", "3d", torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_tensors_that_are_no_factors_are_refused(transformer, tmp_path, factor):
    save_with_peft(transformer, tmp_path, r=2)
    weights = tmp_path / "adapter_model.safetensors"
    tensors = load_file(weights)
    key = "base_model.model.blocks.0.attn.qkv.lora_B.weight"
    changed = {"flat": tensors[key].flatten(), "3d": tensors[key][..., None]}
    save_file(tensors | {key: changed[factor] if isinstance(factor, str) else tensors[key].to(factor)}, weights)
    with pytest.raises(ArtefactError, match=r"blocks\.0\.attn\.qkv\.lora_B\.weight' is torch"):
        ls.load_adapter_updates(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("lora_alpha", float("nan"), "lora_alpha of layer"),
        ("lora_alpha", float("inf"), "lora_alpha of layer"),
        ("r", float("inf"), "no usable r"),
        ("rank_pattern", "abc", "rank_pattern and alpha_pattern are objects"),
        ("alpha_pattern", 3, "rank_pattern and alpha_pattern are objects"),
    ],
)
def test_settings_that_are_none_are_refused(transformer, tmp_path, name, value, word):
    save_with_peft(transformer, tmp_path, r=2)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {name: value}))
    with pytest.raises(ArtefactError, match=word):
        ls.load_adapter_updates(tmp_path)


def test_what_peft_cannot_express_is_said(tmp_path, perturb):
    def build():
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(2, 4, 3, padding=2, dilation=2, padding_mode="reflect"))

    model, x = build(), torch.randn(1, 2, 7, 7)
    adapters = ls.inject_adapters(model, ls.LoRA(r=2, targets="0"))
    perturb(adapters)
    output = model(x)
    with pytest.warns(UserWarning, match="dilation and padding mode"):
        adapters.save(tmp_path)
    adapters.merge()
    torch.testing.assert_close(model(x), output, rtol=1e-4, atol=1e-5)
    other = build()
    ls.load_adapters(other, tmp_path)
    assert torch.equal(other(x), output)


def test_full_parameters_leave_nothing_for_peft(transformer, tmp_path):
    adapters = ls.inject_adapters(transformer.model(), [ls.LoRA(r=2), ls.FullFineTuning(targets="head")])
    adapters.save(tmp_path)
    assert not list(tmp_path.glob("adapter_*"))
    with pytest.raises(ArtefactError, match="2 fully fine-tuned"):
        ls.load_adapter_updates(tmp_path)
    with pytest.raises(ConfigError, match="FullFineTuning"):
        ls.load_adapters(transformer.model(), tmp_path)
