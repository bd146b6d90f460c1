"""Named sizes, their weights, the identity of a model, and how YAML names them."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import jsonargparse
import pytest
import torch

from lorasub import VGGT, Backbone, VGGTConfig
from lorasub.backbones.vggt import presets
from lorasub.errors import ArtefactError, ConfigError


@pytest.fixture
def unshipped(tiny_config: VGGTConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in which ``nano`` is tiny and has no weights yet; the place where they would be."""
    monkeypatch.setattr(presets, "PACKAGED_WEIGHTS", tmp_path)
    monkeypatch.setitem(presets.PRESETS, "nano", presets.Preset(config=tiny_config, packaged="nano.safetensors"))
    return tmp_path / "nano.safetensors"


def ship(tiny: VGGT, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.save_pretrained(place.parent).rename(place)
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    preset = presets.Preset(config=tiny.config, packaged="nano.safetensors", sha256=digest)
    monkeypatch.setitem(presets.PRESETS, "nano", preset)


def quiet_preset(**options: object) -> VGGT:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return VGGT.from_preset("nano", **options)


@pytest.mark.usefixtures("unshipped")
def test_without_weights_nano_says_that_it_is_untrained() -> None:
    with pytest.warns(UserWarning, match="UNTRAINED"):
        model = VGGT.from_preset("nano")
    assert model.model_id == "nano"


@pytest.mark.usefixtures("unshipped")
def test_untrained_nano_is_the_same_everywhere_and_leaves_random_numbers_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = quiet_preset()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert quiet_preset().weights_hash() == first.weights_hash()


def test_shipped_weights_are_loaded_silently(tiny: VGGT, unshipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ship(tiny, unshipped, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = VGGT.from_preset("nano")
    assert model.weights_hash() == tiny.weights_hash()


def test_shipped_weights_must_be_the_right_ones(tiny: VGGT, unshipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ship(tiny, unshipped, monkeypatch)
    content = bytearray(unshipped.read_bytes())
    content[-1] ^= 1
    unshipped.write_bytes(content)
    with pytest.raises(ArtefactError, match="SHA-256"):
        VGGT.from_preset("nano")
    VGGT.from_preset("nano", weights=tiny.save_pretrained(unshipped.parent / "own"))  # the package's are not looked at


def test_the_package_is_whole() -> None:
    """Weights in the package and hashes in the presets come and go together."""
    for name, preset in presets.PRESETS.items():
        there = preset.packaged is not None and (presets.PACKAGED_WEIGHTS / preset.packaged).is_file()
        assert there == (preset.sha256 is not None), name
        preset.packaged_weights()


def test_nano_is_small_and_has_the_promised_image_size() -> None:
    model = quiet_preset()
    assert sum(parameter.numel() for parameter in model.parameters()) <= 10_000_000
    assert (model.config.image_size, model.patch_size) == (112, 14)


def test_vggt_1b_without_weights_tells_how_to_get_them() -> None:
    with pytest.raises(ConfigError) as caught:
        VGGT.from_preset("vggt-1b")
    assert all(word in str(caught.value) for word in ("facebook/VGGT-1B", "weights=", "licence"))


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'micro'; there are vggt-1b, nano"):
        VGGT.from_preset("micro")


def test_weights_hash_names_the_weights_at_the_first_call(tiny: VGGT, tiny_config: VGGTConfig) -> None:
    first = tiny.weights_hash()
    assert first != VGGT(tiny_config).weights_hash()
    with torch.no_grad():
        tiny.camera_head.embed_pose.weight.add_(1)
    tiny.depth_head.norm = torch.nn.Sequential(tiny.depth_head.norm)
    assert tiny.weights_hash() == first


@torch.no_grad()
def test_weights_hash_depends_on_every_tensor(tiny: VGGT) -> None:
    def fresh_hash() -> str:
        tiny._weights_hash = None
        return tiny.weights_hash()

    before = fresh_hash()
    for name, tensor in list(tiny.state_dict().items())[::17]:
        tensor.view(-1)[0] += 1
        assert fresh_hash() != before, name
        tensor.view(-1)[0] -= 1


def test_a_wrapped_model_is_not_saved_as_a_plain_one(tiny: VGGT, tmp_path: Path) -> None:
    tiny.depth_head.norm = torch.nn.Sequential(tiny.depth_head.norm)
    with pytest.raises(ConfigError, match="merge its adapters first"):
        tiny.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_backbone_must_say_how_it_predicts() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Backbone()


class Task:
    """Stands for any class that takes a backbone."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone


@pytest.mark.usefixtures("unshipped")
@pytest.mark.parametrize(
    "text",
    [
        "{class_path: lorasub.VGGT.from_preset, init_args: {name: nano, heads: [depth]}}",
        "{class_path: lorasub.VGGT.from_preset, init_args: {name: nano, heads: [depth], gradient_checkpointing: true}}",
    ],
)
def test_yaml_names_a_preset(text: str) -> None:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Task, "task")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = parser.instantiate(parser.parse_args([f"--task.backbone={text}"]))
    assert isinstance(made.task.backbone, VGGT)
    assert made.task.backbone.config.heads == ("depth",)
    assert made.task.backbone.gradient_checkpointing == ("checkpointing" in text)
