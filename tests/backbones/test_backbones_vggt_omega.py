"""VGGT-Omega by its package where it is installed, else by a stand-in with its interface."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from omega_stand_in import PACKAGE_IS_THERE, install_stand_in, omega, plain_omega

import lorasub as ls
from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import write_tensors


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    install_stand_in(monkeypatch)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(1, 3, 3, 32, 48)


@torch.no_grad()
def test_outputs_are_the_packages_in_our_structure(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = plain_omega()
    found, expected = ls.VGGTOmega(model)(images), model(images)
    assert torch.equal(found.pose_encoding, expected["pose_enc"])
    assert torch.equal(found.depth, expected["depth"][..., 0])
    assert torch.equal(found.depth_conf, expected["depth_conf"])
    assert found.world_points is None
    assert found.depth.min() > 0
    assert found.depth_conf.min() >= 1


@torch.no_grad()
def test_on_a_cpu_it_runs_in_float32_whatever_the_autocast_and_warns_of_nothing(images: torch.Tensor) -> None:
    model = omega()
    plain = model(images)
    with torch.autocast("cpu", torch.bfloat16), warnings.catch_warnings():
        warnings.simplefilter("error")
        mixed = model(images)
    assert torch.equal(mixed.depth, plain.depth)


def test_lora_on_the_masked_linear_keeps_its_mask_and_merges(images: torch.Tensor) -> None:
    """The key's bias is masked out, so that changing it changes nothing, with LoRA around the layer as without."""
    model = omega()
    with torch.no_grad():
        before = model(images).depth
    adapters = ls.inject_adapters(model, ls.LoRA(r=2, targets="blocks"))
    layer = adapters.layers["model.aggregator.frame_blocks.0.attn.qkv"]
    assert type(layer.base_layer) is not torch.nn.Linear
    with torch.no_grad():
        assert torch.allclose(model(images).depth, before, rtol=1e-5)
        layer.base_layer.bias.view(3, -1)[1] += 5.0
        assert torch.allclose(model(images).depth, before, rtol=1e-5)
    model(images).depth.log().mean().backward()
    assert layer.lora_B.weight.grad.abs().max() > 0
    with torch.no_grad():
        for parameter in adapters.trainable_parameters().values():
            parameter.copy_(0.1 * torch.randn_like(parameter))
        adapted = model(images).depth
        assert not torch.allclose(adapted, before, rtol=1e-3)
        adapters.merge()
        assert torch.allclose(model(images).depth, adapted, rtol=1e-3)


def test_groups_name_the_parts() -> None:
    model = omega()
    registers = 5 if PACKAGE_IS_THERE else 1
    assert len(model.groups["register_blocks"]) == registers
    for group in model.groups:
        assert ls.inject_adapters(omega(), ls.LoRA(r=1, targets=group)).layers, group
    assert len(list(model.repeated_blocks())) == len(model.model.aggregator.patch_embed.blocks) + 2 * len(
        model.model.aggregator.frame_blocks
    )


@torch.no_grad()
def test_a_checkpoint_loads_strictly_and_its_text_head_is_left(images: torch.Tensor, tmp_path: Path) -> None:
    model = plain_omega()
    weights = model.state_dict()
    torch.save(weights | {"text_alignment_head.proj.weight": torch.zeros(2)}, tmp_path / "vggt_omega_1b_256_text.pt")
    loaded = ls.VGGTOmega.from_preset("vggt-omega-1b-256", tmp_path)
    assert loaded.model_id == "vggt-omega-1b-256"
    assert torch.equal(loaded.eval()(images).depth, model(images)["depth"][..., 0])
    saved = ls.VGGTOmega.from_pretrained(loaded.save_pretrained(tmp_path / "saved"))
    assert saved.weights_hash() == loaded.weights_hash()
    name = "camera_head." + next(n for n in weights if n.startswith("camera_head.")).removeprefix("camera_head.")
    write_tensors(tmp_path / "short.safetensors", {n: t for n, t in weights.items() if n != name})
    with pytest.raises(ArtefactError, match=f"1 missing: {name}"):
        ls.VGGTOmega.from_pretrained(tmp_path / "short.safetensors")


def test_messages(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FAIR Noncommercial Research License"):
        ls.VGGTOmega.from_preset("vggt-omega-1b-512")
    write_tensors(tmp_path / "w.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(ArtefactError, match="holds no VGGT-Omega"):
        ls.VGGTOmega.from_pretrained(tmp_path / "w.safetensors")
    from vggt_omega.models import VGGTOmega as Model

    with pytest.raises(ConfigError, match="has no weights"):
        ls.VGGTOmega(Model(embed_dim=64))
    with torch.device("meta"):
        assert next(ls.VGGTOmega.from_preset("vggt-omega-1b-512").parameters()).is_meta


@pytest.mark.skipif(PACKAGE_IS_THERE, reason="the package vggt_omega is installed")
def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"git clone https://github.com/facebookresearch/vggt-omega.*einops"):
        ls.VGGTOmega.from_pretrained(tmp_path)


def test_the_adapters_card_names_the_licence(tmp_path: Path) -> None:
    ls.inject_adapters(omega(), ls.LoRA(r=1, targets="blocks")).save(tmp_path / "adapter")
    card = (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "licence of the base model's weights: FAIR Noncommercial Research License" in card
