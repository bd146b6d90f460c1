"""Weights files: every way in gives the same model, and every damage is named."""

from __future__ import annotations

import json
import logging
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorasub import VGGT, LoRA, VGGTConfig, inject_adapters, load_adapters
from lorasub.backbones.loading import read_weights
from lorasub.backbones.vggt import presets
from lorasub.errors import ArtefactError, ConfigError


@pytest.fixture
def folder(tiny: VGGT, tmp_path: Path) -> Path:
    """The model as it saves itself."""
    tiny.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def preset(tiny_config: VGGTConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the tiny size a preset without weights of its own, as VGGT-1B is."""
    monkeypatch.setitem(presets.PRESETS, "vggt-1b", presets.Preset(config=tiny_config))


def assert_equal(model: VGGT, expected: VGGT) -> None:
    found, wanted = model.state_dict(), expected.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert all(tensor.dtype == torch.float32 for tensor in found.values())
    assert all(parameter.requires_grad for parameter in model.parameters())


def write_pt(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("kind", ["folder", "safetensors", "pt", "nested pt", "pt of parameters"])
@pytest.mark.usefixtures("preset")
def test_every_kind_of_source_gives_the_same_model(
    tiny: VGGT, folder: Path, images: Tensor, tmp_path: Path, kind: str
) -> None:
    source = {
        "folder": lambda: folder,
        "safetensors": lambda: folder / "model.safetensors",
        "pt": lambda: write_pt(tmp_path / "weights.pt", tiny.state_dict()),
        "nested pt": lambda: write_pt(tmp_path / "weights.pt", {"model": tiny.state_dict(), "epoch": 3}),
        "pt of parameters": lambda: write_pt(
            tmp_path / "weights.pt", dict(tiny.named_parameters()) | dict(tiny.named_buffers())
        ),
    }[kind]()
    if kind == "pt of parameters":
        content = torch.load(source, weights_only=True)
        write_pt(source, {name: content[name] for name in tiny.state_dict()})
    model = VGGT.from_preset("vggt-1b", weights=source)
    assert_equal(model, tiny)
    assert model.weights_hash() == tiny.weights_hash()
    assert model.model_id == "vggt-1b"
    with torch.no_grad():
        assert torch.equal(model(images).depth, tiny(images).depth)


def test_a_saved_model_comes_back_with_its_size_and_name(tiny: VGGT, folder: Path) -> None:
    for source in (folder, str(folder), folder / "model.safetensors"):
        model = VGGT.from_pretrained(source)
        assert_equal(model, tiny)
        assert model.config == tiny.config
        assert model.model_id == Path(source).name
    (folder / "config.json").unlink()
    assert VGGT.from_pretrained(folder).config == tiny.config


def test_config_json_beside_a_pt_file_gives_the_size(tiny: VGGT, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    write_pt(folder / "model.pt", tiny.state_dict())
    assert_equal(VGGT.from_pretrained(folder), tiny)


def test_the_published_config_json_means_vggt_1b() -> None:
    published = {"embed_dim": 1024, "img_size": 518, "patch_size": 14}
    assert VGGTConfig.from_dict(published) == VGGTConfig()
    with pytest.raises(ConfigError, match="embed_dims"):
        VGGTConfig.from_dict({"embed_dims": 1024})


def test_half_precision_on_disk_becomes_float32_and_keeps_its_hash(tiny: VGGT, tmp_path: Path) -> None:
    tiny.half().save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors")["camera_head.embed_pose.weight"].dtype == torch.float16
    model = VGGT.from_pretrained(tmp_path)
    assert model.camera_head.embed_pose.weight.dtype == torch.float32
    assert model.weights_hash() == tiny.weights_hash()


def test_training_a_loaded_model_leaves_its_file_alone(folder: Path, images: Tensor) -> None:
    """The tensors are memory-mapped; a write must go to a private copy."""
    before = (folder / "model.safetensors").read_bytes()
    model = VGGT.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == before
    model.save_pretrained(folder)
    assert_equal(VGGT.from_pretrained(folder), model)


def test_loading_uses_no_random_numbers(folder: Path) -> None:
    state = torch.get_rng_state()
    VGGT.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), state)


def test_track_head_and_absent_heads_are_ignored_and_told(
    tiny: VGGT, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path) | {"track_head.tracker.weight": torch.ones(3)}
    save_file(tensors, path)
    with caplog.at_level(logging.DEBUG, logger="lorasub"):
        assert_equal(VGGT.from_pretrained(folder), tiny)
    assert "1 tensors of parts that this model does not have are ignored" in caplog.text
    assert "has a track head (1 tensors), which is not built; it stays in the file" in caplog.text
    part = VGGT.from_pretrained(folder, heads=("depth",))
    assert part.camera_head is None
    assert torch.equal(part.depth_head.norm.weight, tiny.depth_head.norm.weight)


def test_an_adapter_on_the_track_head_is_refused_by_name_and_skipped_only_when_asked(
    tiny: VGGT, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny.track_head = torch.nn.ModuleDict({"tracker": torch.nn.Linear(4, 4)})  # as the published code has one
    adapters = inject_adapters(tiny, LoRA(r=2, targets=("frame_blocks", "track_head")))
    with torch.no_grad():
        for parameter in adapters.trainable_parameters().values():
            parameter.normal_()
    info = adapters.save(tmp_path / "adapter") / "lorasub.json"
    info.write_text(info.read_text().replace(adapters.base_model_hash, VGGT.from_pretrained(folder).weights_hash()))
    with pytest.raises(ArtefactError, match=r"does not have: track_head.tracker.*skip=\('track_head.\*',\)"):
        load_adapters(VGGT.from_pretrained(folder), tmp_path / "adapter")
    with caplog.at_level(logging.INFO, logger="lorasub"):
        loaded = load_adapters(VGGT.from_pretrained(folder), tmp_path / "adapter", skip=("track_head.*",))
    assert "1 layers are left away, as asked: track_head.tracker" in caplog.text
    assert set(loaded.layers) == set(adapters.layers) - {"track_head.tracker"}
    path = "aggregator.frame_blocks.0.attn.qkv"
    assert torch.equal(loaded.layers[path].update().B, adapters.layers[path].update().B)
    with pytest.raises(ConfigError, match="matches nothing"):
        load_adapters(VGGT.from_pretrained(folder), tmp_path / "adapter", skip=("tracking.*",))


def test_a_head_that_was_not_saved_cannot_be_asked_for(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    VGGT(tiny_config.replace(heads=("depth",))).save_pretrained(tmp_path)
    assert VGGT.from_pretrained(tmp_path).config.heads == ("depth",)
    with pytest.raises(ConfigError, match=r"saved without the head\(s\) \['camera'\]"):
        VGGT.from_pretrained(tmp_path, heads=("camera", "depth"))


def spoil(path: Path, how: str) -> None:
    tensors = load_file(path)
    if how == "missing":
        del tensors["depth_head.norm.weight"]
    elif how == "left over":
        tensors["depth_head.extra"] = torch.ones(1)
    elif how == "shape":
        tensors["camera_head.embed_pose.bias"] = torch.ones(65)
    elif how == "nan":
        tensors["aggregator.camera_token"].view(-1)[3] = float("nan")
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", "1 missing: depth_head.norm.weight"),
        ("left over", "1 left over: depth_head.extra"),
        ("shape", "1 of the wrong shape: camera_head.embed_pose.bias (65,) instead of (64,)"),
        ("nan", "tensor 'aggregator.camera_token' holds NaN"),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder: Path, how: str, words: str) -> None:
    spoil(folder / "model.safetensors", how)
    with pytest.raises(ArtefactError) as caught:
        VGGT.from_pretrained(folder)
    assert words in str(caught.value)
    assert str(folder) in str(caught.value)


def test_many_missing_tensors_are_counted_and_the_first_named(tiny: VGGT, folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({"aggregator.camera_token": load_file(path)["aggregator.camera_token"]}, path)
    with pytest.raises(ArtefactError) as caught:
        VGGT.from_pretrained(folder)
    assert f"{len(tiny.state_dict()) - 1} missing: aggregator.register_token" in str(caught.value)
    assert f"and {len(tiny.state_dict()) - 6} more" in str(caught.value)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
@pytest.mark.usefixtures("preset")
def test_damaged_files_are_told_in_words(tiny: VGGT, tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"model.{suffix}"
    if suffix == "pt":
        write_pt(path, tiny.state_dict())
    else:
        save_file(tiny.state_dict(), path)
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"no tensors here"}[damage])
    with pytest.raises(ArtefactError) as caught:
        VGGT.from_preset("vggt-1b", weights=path)
    assert str(path) in str(caught.value)


class Unwanted:
    """Something that only real unpickling could bring back."""


@pytest.mark.parametrize("content", [Unwanted(), {"model": Unwanted()}, [1, 2], {"weight": 3}])
@pytest.mark.usefixtures("preset")
def test_pt_files_with_anything_but_tensors_are_refused(tmp_path: Path, content: object) -> None:
    path = write_pt(tmp_path / "weights.pt", content)
    with pytest.raises(ArtefactError, match=r"weights\.pt"):
        VGGT.from_preset("vggt-1b", weights=path)


@pytest.mark.usefixtures("preset")
def test_weights_of_another_size_are_named_as_such(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    VGGT(tiny_config.replace(embed_dim=64, camera_depth=2)).save_pretrained(tmp_path)
    with pytest.raises(ArtefactError, match="another size: embed_dim 64 instead of 32, camera_depth 2 instead of 1"):
        VGGT.from_preset("vggt-1b", weights=tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tensors, tmp_path / "nameless.safetensors")
    with pytest.raises(ArtefactError, match="of the wrong shape"):
        VGGT.from_preset("vggt-1b", weights=tmp_path / "nameless.safetensors")


def test_a_damaged_description_is_told_in_words(tiny: VGGT, folder: Path) -> None:
    description = json.loads((folder / "config.json").read_text()) | {"depth": 24}
    (folder / "config.json").write_text(json.dumps(description))
    write_pt(folder / "model.pt", tiny.state_dict())
    with pytest.raises(ArtefactError, match=r"model\.pt does not make a model: unknown VGGT setting\(s\) \['depth'\]"):
        VGGT.from_pretrained(folder / "model.pt")
    save_file(tiny.state_dict(), folder / "model.safetensors", metadata={"lorasub_vggt_config": "{"})
    with pytest.raises(ArtefactError, match=r"model\.safetensors does not make a model"):
        VGGT.from_pretrained(folder)


@pytest.mark.parametrize(
    ("source", "words"),
    [("missing.safetensors", "no such file or folder"), ("a/b/c", "no such file or folder"), ("", "holds no weights")],
)
def test_sources_that_do_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words):
        VGGT.from_pretrained(source)


def test_a_hub_id_without_the_hub_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'lorasub\[hub\]'"):
        VGGT.from_pretrained("someone/vggt")


def test_a_hub_id_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="not in the hub's cache, and the hub cannot be reached"):
        VGGT.from_pretrained("someone/vggt")


def test_a_hub_id_is_loaded_from_what_the_repository_has(
    tiny: VGGT, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub.errors import EntryNotFoundError

    (folder / "model.safetensors").unlink()
    write_pt(folder / "model.pt", tiny.state_dict())

    def download(repository: str, name: str) -> str:
        assert repository == "someone/vggt"
        if not (folder / name).exists():
            raise EntryNotFoundError(name)
        return str(folder / name)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    model = VGGT.from_pretrained("someone/vggt")
    assert_equal(model, tiny)
    assert model.model_id == "someone/vggt"


def test_files_of_old_torch_are_read(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3.0)}
    torch.save({"state_dict": tensors}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "old.pt")["a"].tolist() == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_whole_files_that_are_not_supported_say_why_and_how_to_go_on(tmp_path: Path) -> None:
    for name, old in (("new.pt", True), ("old.pt", False)):
        content = {"model": {"a": torch.ones(2)}, "best": np.float64(0.5)}
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=old)
        with pytest.raises(ArtefactError, match=rf"{name} holds more than tensors.*\(numpy\..*scalar\).*safetensors"):
            read_weights(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/code/__torch__.py", "")
        archive.writestr("script/data.pkl", b"")
    with pytest.raises(ArtefactError, match="is a TorchScript program"):
        read_weights(tmp_path / "script.pt")
