"""Adapter folders: what is in them, what comes back, and what happens when something does not fit."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import lorasub as ls
from lorasub.errors import ArtefactError, ConfigError


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_round_trip(toy, spec, perturb, tmp_path):
    model, x = toy.model(), toy.input()
    adapters = ls.inject_adapters(model, spec)
    perturb(adapters)
    assert adapters.save(tmp_path) == tmp_path
    same = ls.inject_adapters(toy.model(), spec)
    same.load(tmp_path)
    assert torch.equal(same.model(x), model(x))
    # as plain LoRA, without knowing what it was
    plain = ls.load_adapters(toy.model(), tmp_path)
    torch.testing.assert_close(plain.model(x), model(x), rtol=1e-4, atol=1e-5)
    assert {layer.kind for layer in plain.layers.values()} == {"lora"}


def test_a_projected_adapter_goes_on_with_its_basis(transformer, perturb, tmp_path):
    x, basis = transformer.input(), transformer.basis()
    model = transformer.model()
    spec = [ls.ProjectedLoRA(basis=basis), ls.LoRA(r=2, targets="head", init="pissa")]
    adapters = ls.inject_adapters(model, spec)
    perturb(adapters)
    adapters.save(tmp_path / "adapter")
    basis.save(tmp_path / "basis")
    for same in (basis, tmp_path / "basis"):
        loaded = ls.load_adapters(transformer.model(), tmp_path / "adapter", basis=same)
        assert set(loaded.state_dict()) == {f"{p}.M" for p in transformer.layers[:-1]} | {
            f"head.lora_{side}.weight" for side in "AB"
        }
        torch.testing.assert_close(loaded.model(x), model(x), rtol=1e-5, atol=1e-6)
    other = ls.SubspaceBasis(layers={p: ls.LayerSubspace(U=-s.U, V=s.V) for p, s in basis.layers.items()})
    for attempt in (
        lambda: ls.load_adapters(transformer.model(), tmp_path / "adapter", basis=other),
        lambda: ls.inject_adapters(transformer.model(), [ls.ProjectedLoRA(basis=other), spec[1]]).load(
            tmp_path / "adapter"
        ),
    ):
        with pytest.raises(ArtefactError, match="belongs to the basis with hash") as caught:
            attempt()
        assert basis.hash()[:12] in str(caught.value)
        assert other.hash()[:12] in str(caught.value)
    plain = ls.inject_adapters(transformer.model(), ls.LoRA(r=2)).save(tmp_path / "plain")
    with pytest.raises(ConfigError, match="of kind lora; leave basis away"):
        ls.load_adapters(transformer.model(), plain, basis=basis)


def test_full_parameters_round_trip(transformer, perturb, tmp_path):
    spec = [ls.LoRA(r=2), ls.FullFineTuning(targets=["head", "token"])]
    adapters = ls.inject_adapters(transformer.model(), spec)
    perturb(adapters)
    adapters.save(tmp_path)
    same = ls.inject_adapters(transformer.model(), spec)
    same.load(tmp_path)
    x = transformer.input()
    assert torch.equal(same.model(x), adapters.model(x))
    with pytest.raises(ArtefactError, match=r"unexpected head\.bias"):
        ls.inject_adapters(transformer.model(), [ls.LoRA(r=2), ls.FullFineTuning(targets="token")]).load(tmp_path)


def test_the_folder_says_what_it_belongs_to(transformer, tmp_path):
    basis = transformer.basis()
    adapters = ls.inject_adapters(transformer.model(), [ls.ProjectedLoRA(basis=basis), ls.LoRA(targets="head", r=1)])
    adapters.save(tmp_path)
    assert set(contents(tmp_path)) == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "lorasub.json",
        "lorasub.safetensors",
        "README.md",
    }
    description = json.loads((tmp_path / "lorasub.json").read_text())
    assert description["base_model_id"] == "toy-transformer"
    assert description["base_model_hash"] == adapters.base_model_hash
    assert description["layers"]["blocks.0.attn.qkv"]["basis_hash"] == basis.hash()
    assert set(load_file(tmp_path / "lorasub.safetensors")) == {f"{path}.M" for path in transformer.layers[:-1]}
    card = (tmp_path / "README.md").read_text()
    for word in ('base_model: "toy-transformer"', adapters.base_model_hash, basis.hash(), "library_name: peft"):
        assert word in card
    _, info = ls.load_adapter_updates(tmp_path)
    assert info.base_model_hash == adapters.base_model_hash
    assert info.basis_hashes == {basis.hash()}


def test_an_edited_config_is_refused_and_older_folders_without_its_hash_are_read(transformer, tmp_path):
    ls.inject_adapters(transformer.model(), ls.LoRA(r=2, targets="all")).save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 64}))
    with pytest.raises(ArtefactError, match=r"adapter_config\.json is not the file that lorasub\.json describes"):
        ls.load_adapter_updates(tmp_path)
    description = json.loads((tmp_path / "lorasub.json").read_text())
    del description["files"]["adapter_config.json"]
    (tmp_path / "lorasub.json").write_text(json.dumps(description))
    updates, _ = ls.load_adapter_updates(tmp_path)
    assert {update.scale for update in updates.values()} == {32.0}


def test_another_base_model_is_refused(transformer, tmp_path):
    adapters = ls.inject_adapters(transformer.model(), ls.LoRA(targets="all"))
    adapters.save(tmp_path)
    model = transformer.model()
    nn.init.zeros_(model.head.bias)
    other = ls.inject_adapters(model, ls.LoRA(targets="all"))
    for attempt in (lambda: other.load(tmp_path), lambda: ls.load_adapters(other.unload(), tmp_path)):
        with pytest.raises(ArtefactError, match="belongs to the base model with hash") as caught:
            attempt()
        assert adapters.base_model_hash[:12] in str(caught.value)
        assert other.base_model_hash[:12] in str(caught.value)
    assert ls.attached_adapters(model) is None


def test_an_adapter_of_another_kind_replaces_all_files(transformer, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for spec, files in (
        (ls.PSV(dim=2), {"adapter_model.safetensors", "adapter_config.json", "lorasub.safetensors"}),
        (ls.LoRA(r=2), {"adapter_model.safetensors", "adapter_config.json"}),
        (ls.FullFineTuning(targets="head"), {"lorasub.safetensors"}),
        (ls.LoRA(r=3), {"adapter_model.safetensors", "adapter_config.json"}),
    ):
        ls.inject_adapters(transformer.model(), spec).save(tmp_path)
        assert set(contents(tmp_path)) == files | {"lorasub.json", "README.md", "notes.txt"}
        ls.inject_adapters(transformer.model(), spec).load(tmp_path)


def test_a_failed_save_leaves_the_old_adapter(transformer, perturb, tmp_path, monkeypatch):
    adapters = ls.inject_adapters(transformer.model(), ls.PSV(dim=2))
    adapters.save(tmp_path)
    before = contents(tmp_path)
    perturb(adapters)

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    for function in ("lorasub.artefacts.write_tensors", "lorasub.artefacts.write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(function, full_disk)
            with pytest.raises(OSError, match="No space"):
                adapters.save(tmp_path)
        assert contents(tmp_path) == before


def test_damage_is_named(transformer, tmp_path):
    spec = [ls.PSV(dim=2), ls.LoRA(targets="head", r=2)]
    adapters = ls.inject_adapters(transformer.model(), spec)
    adapters.save(tmp_path)
    whole = contents(tmp_path)

    def assert_refused(word):
        for attempt in (lambda: adapters.load(tmp_path), lambda: ls.load_adapter_updates(tmp_path)):
            with pytest.raises(ArtefactError, match=word):
                attempt()
        for name, content in whole.items():
            (tmp_path / name).write_bytes(content)

    for name in ("adapter_model.safetensors", "lorasub.safetensors"):
        os.truncate(tmp_path / name, len(whole[name]) - 9)
        assert_refused(f"{name} is not the file that lorasub.json describes")
        (tmp_path / name).unlink()
        assert_refused(f"lacks {name}")
        changed = {key: tensor + 1 for key, tensor in load_file(tmp_path / name).items()}
        save_file(changed, tmp_path / name)
        assert_refused("was edited")
    (tmp_path / "lorasub.json").write_text("{}")
    assert_refused("does not describe an adapter")
    description = json.loads(whole["lorasub.json"])
    (tmp_path / "lorasub.json").write_text(json.dumps(description | {"format_version": 99}))
    assert_refused("format version 99")
    del description["layers"]
    (tmp_path / "lorasub.json").write_text(json.dumps(description))
    assert_refused("lacks or garbles")


def test_no_adapter_there(transformer, tmp_path):
    for folder, word in ((tmp_path / "nowhere", "no such folder"), (tmp_path, "holds no adapter")):
        with pytest.raises(ArtefactError, match=word):
            ls.load_adapter_updates(folder)
        with pytest.raises(ArtefactError, match=word):
            ls.load_adapters(transformer.model(), folder)


def test_a_layer_too_many_or_few_is_named(transformer, tmp_path):
    ls.inject_adapters(transformer.model(), ls.LoRA(r=2, targets="blocks")).save(tmp_path)
    for targets, word in (("all", "missing layers head"), ("qkv", "unexpected layers blocks.0.attn.proj")):
        with pytest.raises(ArtefactError, match=word):
            ls.inject_adapters(transformer.model(), ls.LoRA(r=2, targets=targets)).load(tmp_path)


def test_saved_while_merged_is_the_adapter(transformer, perturb, tmp_path):
    adapters = ls.inject_adapters(transformer.model(), ls.LoRA(r=2))
    perturb(adapters)
    x = transformer.input()
    output = adapters.model(x)
    adapters.merge()
    adapters.save(tmp_path)
    loaded = ls.load_adapters(transformer.model(), tmp_path)
    assert torch.equal(loaded.model(x), output)
