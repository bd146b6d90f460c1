"""On the device the model says what it says on a CPU, and what the published code says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lorasub import (
    VGGT,
    AdapterSpec,
    FullFineTuning,
    LoRA,
    Predictions,
    RandomBasis,
    VGGTConfig,
    cast_frozen_weights,
    inject_adapters,
)
from lorasub.files import read_tensors

pytestmark = pytest.mark.gpu

#: Of the golden file, see tests/backbones/test_backbones_golden.py.
GOLDEN = VGGTConfig(
    image_size=70,
    embed_dim=32,
    num_heads=2,
    encoder_depth=2,
    camera_heads=4,
    camera_depth=2,
    dense_features=16,
    dense_channels=(8, 16, 24, 24),
)
OUTPUTS = ("pose_encoding", "depth", "depth_conf", "world_points", "world_points_conf")
ADAPTERS: dict[str, Callable[[], AdapterSpec]] = {
    "lora": lambda: LoRA(r=4, targets=["blocks", "heads"]),
    "pissa": lambda: LoRA(r=4, init="pissa"),
    "dropout": lambda: LoRA(r=4, dropout=0.1),
    "projected": lambda: RandomBasis(dim=2, targets=["blocks", "heads"]),
    "full": lambda: FullFineTuning(targets="blocks"),
}


def error(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over norm."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((found - expected).norm() / expected.norm())


def objective(predictions: Predictions) -> Tensor:
    assert predictions.pose_encoding is not None
    assert predictions.depth is not None
    return predictions.pose_encoding.square().mean() + predictions.depth.log().square().mean()


@pytest.mark.parametrize(
    ("matmul", "autocast", "tolerance"),
    [("highest", False, 1e-4), ("high", False, 5e-3), ("highest", True, 3e-2)],
    ids=["float32", "tf32", "bf16"],
)
@torch.no_grad()
def test_golden_outputs(golden: Path, device: torch.device, matmul: str, autocast: bool, tolerance: float) -> None:
    reference = read_tensors(golden / "vggt_small_landscape.safetensors")
    model = VGGT(GOLDEN)
    weights = {name.removeprefix("weights/"): t for name, t in reference.items() if name.startswith("weights/")}
    model.load_state_dict(weights, strict=True)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(matmul)
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            found = model.to(device)(reference["input/images"].to(device))
    finally:
        torch.set_float32_matmul_precision(before)
    names = dict(zip(("pose_enc", "depth", "depth_conf", "world_points", "world_points_conf"), OUTPUTS, strict=True))
    for name, attribute in names.items():
        expected = reference[f"output/{name}"]
        assert error(getattr(found, attribute).reshape(expected.shape), expected) <= tolerance, name


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_step_of_each_adapter_is_that_of_the_cpu(kind: str, device: torch.device, tiny_config: VGGTConfig) -> None:
    """Loss, gradients, and the parameters after one step of AdamW."""
    model = VGGT(tiny_config)
    adapters = inject_adapters(model, ADAPTERS[kind]())
    images = torch.rand(2, 3, 3, 28, 28)
    if kind == "dropout":  # each device draws its own
        model.eval()
    found = {}
    for where in (torch.device("cpu"), device):
        here = copy.deepcopy(model).to(where)
        trained = [p for p in here.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.1)
        loss = objective(here(images.to(where)))
        loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in trained if p.grad is not None])
        optimizer.step()
        found[str(where)] = loss, gradients, torch.cat([p.detach().flatten() for p in trained])
    assert len(adapters.trainable_parameters()) > 0
    cpu, there = found["cpu"], found[str(device)]
    assert all(error(one, other) <= 1e-3 for one, other in zip(there, cpu, strict=True))


@torch.no_grad()
def test_merged_is_unmerged(device: torch.device, tiny_config: VGGTConfig) -> None:
    model = VGGT(tiny_config).to(device)
    adapters = inject_adapters(model, LoRA(r=4, targets=["blocks", "heads"]))
    for parameter in adapters.trainable_parameters().values():
        parameter.normal_(std=0.1)
    images = torch.rand(1, 2, 3, 28, 28, device=device)
    apart = model(images)
    adapters.merge()
    together = model(images)
    assert all(error(getattr(together, name), getattr(apart, name)) <= 1e-4 for name in OUTPUTS)


@torch.no_grad()
def test_frozen_weights_in_bfloat16_change_nothing(device: torch.device, tiny_config: VGGTConfig) -> None:
    model = VGGT(tiny_config).to(device)
    inject_adapters(model, LoRA(r=4))
    images = torch.rand(1, 2, 3, 28, 28, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        before = model(images)
        assert cast_frozen_weights(model.repeated_blocks()) > 0
        after = model(images)
    assert all(error(getattr(after, name), getattr(before, name)) <= 1e-4 for name in OUTPUTS)


@pytest.mark.slow
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bf16"])
def test_compiled_blocks_are_eager_blocks(device: torch.device, tiny_config: VGGTConfig, autocast: bool) -> None:
    model = VGGT(tiny_config).to(device)
    inject_adapters(model, LoRA(r=4))
    images = torch.rand(1, 2, 3, 28, 28, device=device)

    def run() -> tuple[Tensor, Tensor]:
        model.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            loss = objective(model(images))
        loss.backward()
        return loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    eager = run()
    for block in model.repeated_blocks():
        block.compile()
    compiled = run()
    tolerance = 3e-2 if autocast else 1e-3
    assert all(error(one, other) <= tolerance for one, other in zip(compiled, eager, strict=True))


@torch.no_grad()
def test_cached_encoder_tokens_change_outputs_by_rounding_only(device: torch.device, tiny_config: VGGTConfig) -> None:
    model = VGGT(tiny_config).to(device).requires_grad_(False)
    images = torch.rand(2, 2, 3, 28, 28, device=device)
    plain = model(images)
    with model.cached_encoder() as cache:
        model(images)
        found = model(images)
        assert cache.hits > 0
    assert all(error(getattr(found, name), getattr(plain, name)) <= 1e-2 for name in OUTPUTS)
