"""Against outputs of the published implementation, and against the published checkpoint's list of tensors."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lorasub import VGGT, VGGTConfig
from lorasub.files import read_tensors

CONFIG = VGGTConfig(
    image_size=70,
    embed_dim=32,
    num_heads=2,
    encoder_depth=2,
    camera_heads=4,
    camera_depth=2,
    dense_features=16,
    dense_channels=(8, 16, 24, 24),
)
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def reference(golden: Path) -> dict[str, Tensor]:
    return read_tensors(golden / "vggt_small_landscape.safetensors")


@pytest.fixture(scope="module")
def vggt(reference: dict[str, Tensor]) -> VGGT:
    model = VGGT(CONFIG)
    weights = {name.removeprefix("weights/"): t for name, t in reference.items() if name.startswith("weights/")}
    model.load_state_dict(weights, strict=True)
    return model.requires_grad_(False)


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_output_equals_the_published_implementation(
    vggt: VGGT, reference: dict[str, Tensor], dtype: torch.dtype
) -> None:
    images = reference["input/images"].to(dtype)
    vggt.to(dtype)
    predictions = vggt(images)
    taps = vggt.aggregator(images)
    vggt.float()
    found = {f"tokens_{i}": tap for i, tap in enumerate(taps)}
    found |= {f"pose_enc_iter{i}": pose for i, pose in enumerate(predictions.pose_encodings)}
    found |= {
        "pose_enc": predictions.pose_encoding,
        "depth": predictions.depth[..., None],
        "depth_conf": predictions.depth_conf,
        "world_points": predictions.world_points,
        "world_points_conf": predictions.world_points_conf,
    }
    # extrinsics and intrinsics are decoded from pose_enc, which is not the backbone's work
    expected = {name.removeprefix("output/") for name in reference if name.startswith("output/")}
    assert set(found) == expected - {"extrinsics", "intrinsics"}
    for name, value in found.items():
        assert value.dtype == dtype
        assert_close(value, reference[f"output/{name}"])


def test_vggt_1b_on_meta_has_the_published_names_and_shapes(golden: Path) -> None:
    start = time.process_time()
    with torch.device("meta"):
        model = VGGT(VGGTConfig())
    assert time.process_time() - start < 30  # drawing 1.2 billion numbers would take longer than this
    published = json.loads((golden / "vggt_1b_state_dict.json").read_text())
    expected = {name: tuple(shape) for name, shape in published.items() if not name.startswith("track_head.")}
    tensors = model.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == expected
    assert all(tensor.is_meta for tensor in (*tensors.values(), *model.buffers()))


def test_counts_of_vggt_1b_outside_the_encoder() -> None:
    """The paper's full fine-tuning count: camera and depth head, everything but the encoder."""
    with torch.device("meta"):
        model = VGGT(VGGTConfig(heads=("camera", "depth")))
    outside = [p.numel() for name, p in model.named_parameters() if not name.startswith("aggregator.patch_embed.")]
    assert sum(outside) == 853_568_756
