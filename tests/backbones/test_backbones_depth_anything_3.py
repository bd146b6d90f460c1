"""Depth Anything 3 against outputs of the published package, and against its names; loading; cameras' convention."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lorasub import DepthAnything3, DepthAnything3Config, decode_pose
from lorasub.backbones.depth_anything3.config import PRESETS
from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import read_tensors, write_tensors

HERE = Path(__file__).parent / "depth_anything_3"
SIZES: dict[str, Any] = {
    "image_size": 70,
    "embed_dim": 16,
    "num_heads": 2,
    "dense_features": 16,
    "dense_channels": (8, 8, 12, 12),
}
CONFIGS = {
    "base": DepthAnything3Config(depth=6, alternate_from=2, taps=(2, 3, 4, 5), **SIZES),
    "giant": DepthAnything3Config(depth=7, alternate_from=3, taps=(3, 4, 5, 6), gated=True, **SIZES),
}


def reference(case: str) -> dict[str, Tensor]:
    tensors = read_tensors(HERE / "golden.safetensors")
    return {name.removeprefix(f"{case}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{case}/")}


def weights_of(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("weights/"): t.float() for name, t in golden.items() if name.startswith("weights/")}


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CONFIGS)
@torch.no_grad()
def test_every_output_equals_the_published_package(case: str, dtype: torch.dtype) -> None:
    golden = reference(case)
    model = DepthAnything3(CONFIGS[case]).eval()
    model.load_state_dict(weights_of(golden), strict=True)
    model.to(dtype)
    images = golden["images"].to(dtype)
    taps, camera = model.backbone.pretrained(images)
    for index, tap in enumerate(taps):
        assert_close(tap, golden[f"tap{index}"])
    assert_close(camera, golden["camera"])
    predictions = model(images)
    assert_close(predictions.depth, golden["depth"])
    assert_close(predictions.depth_conf, golden["depth_conf"])
    cam_from_world, intrinsics = decode_pose(predictions.pose_encoding, (42, 70))
    assert_close(cam_from_world, golden["extrinsics"])
    assert_close(intrinsics, golden["intrinsics"])


@pytest.mark.parametrize("preset", PRESETS)
def test_published_sizes_have_the_published_names_and_shapes(preset: str) -> None:
    with torch.device("meta"):
        model = DepthAnything3.from_preset(preset)  # type: ignore[arg-type]
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in model.state_dict().items())
    expected = json.loads((HERE / "names.json").read_text())[preset]
    assert len(lines) == expected["tensors"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == expected["sha256"]
    assert model.weights_license == PRESETS[preset].license


@pytest.mark.parametrize("prefix", ["", "model.", "model.da3."])
def test_published_files_load_and_what_is_not_built_stays_in_them(prefix: str, tmp_path: Path) -> None:
    golden = reference("base")
    tensors = {f"{prefix}{name}": tensor for name, tensor in weights_of(golden).items()}
    left = ("head.scratch.refinenet1_aux.out_conv.weight", "cam_enc.token_norm.weight", "gs_head.norm.weight")
    tensors |= {f"{prefix}{name}": torch.zeros(2) for name in left}
    write_tensors(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["base"].to_dict()))
    model = DepthAnything3.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert_close(model(golden["images"]).depth, golden["depth"])
    camera_only = DepthAnything3.from_pretrained(tmp_path, heads=("camera",))
    assert camera_only(golden["images"]).depth is None
    saved = DepthAnything3.from_pretrained(model.save_pretrained(tmp_path / "again"))
    assert saved.weights_hash() == model.weights_hash()
    tensors.pop(f"{prefix}cam_dec.fc_t.bias")
    write_tensors(tmp_path / "model.safetensors", tensors | {f"{prefix}head.strange": torch.zeros(1)})
    with pytest.raises(ArtefactError, match=r"1 missing: cam_dec.fc_t.bias; 1 left over: head.strange"):
        DepthAnything3.from_pretrained(tmp_path)


def test_the_name_in_a_published_config_gives_the_size() -> None:
    assert DepthAnything3Config.from_dict({"model_name": "da3-giant", "config": {}}) == PRESETS["da3-giant"].config
    with pytest.raises(ConfigError, match="da3metric-large is no any-view"):
        DepthAnything3Config.from_dict({"model_name": "da3metric-large"})


def test_messages(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"under CC-BY-NC-4.0.*depth-anything/DA3-GIANT-1.1"):
        DepthAnything3.from_preset("da3-giant")
    write_tensors(tmp_path / "w.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(ConfigError, match="does not say of which size"):
        DepthAnything3.from_pretrained(tmp_path / "w.safetensors")
    with pytest.raises(ArtefactError, match="holds no Depth Anything 3"):
        DepthAnything3.from_preset("da3-small", tmp_path / "w.safetensors")
    for wrong in ({"taps": (1, 2, 3, 5)}, {"taps": (2, 3, 4, 4)}, {"heads": ("rays",)}, {"image_size": 71}):
        with pytest.raises(ConfigError):
            CONFIGS["base"].replace(**wrong)


def test_the_encoders_tokens_are_cached_and_checkpointing_changes_nothing() -> None:
    golden = reference("base")
    model = DepthAnything3(CONFIGS["base"]).eval().requires_grad_(False)
    model.load_state_dict(weights_of(golden))
    plain = model(golden["images"])
    with model.cached_encoder() as cache:
        first, second = model(golden["images"]), model(golden["images"])
    assert (cache.hits, cache.misses) == (3, 3)
    assert torch.equal(first.depth, second.depth)
    assert torch.allclose(first.depth, plain.depth, rtol=2e-2)
    assert not model.encoder_trains
    gradients = []
    for checkpointing in (False, True):
        model.gradient_checkpointing = checkpointing
        images = golden["images"].clone().requires_grad_()
        model(images).depth.sum().backward()
        gradients.append(images.grad)
    assert torch.equal(*gradients)
