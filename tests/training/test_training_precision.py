"""What is chosen to compute in, and that neither autocast nor compiled blocks change what comes out."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from lorasub.adapters import LoRA, inject_adapters
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.callbacks import CompileBlocks
from lorasub.cli.main import main
from lorasub.geometry import compose_poses, full_precision
from lorasub.training.precision import FORCED, ComputeSettings, bf16_instructions, choose_arithmetic


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with what a test says, and nothing that forces a choice."""
    monkeypatch.delenv(FORCED, raising=False)

    def have(*, amx: bool = False, avx512: bool = False, gpu: tuple[int, int] | None = None) -> None:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu >= (8, 0))

    return have


def test_precision_follows_the_device(machine: Any) -> None:
    machine()
    assert bf16_instructions() is None
    chosen = choose_arithmetic("auto")
    assert (chosen.precision, chosen.matmul, chosen.compile) == ("32-true", "highest", False)
    machine(avx512=True)
    chosen = choose_arithmetic("cpu")
    assert (chosen.precision, chosen.matmul) == ("bf16-mixed", "highest")
    assert "AVX-512" in str(chosen)
    machine(amx=True, avx512=True, gpu=(7, 5))
    assert choose_arithmetic("auto").precision == "32-true"
    assert choose_arithmetic("auto").matmul == "highest"
    assert "AMX" in str(choose_arithmetic("cpu"))
    machine(gpu=(9, 0))
    chosen = choose_arithmetic("gpu")
    assert (chosen.precision, chosen.matmul) == ("bf16-mixed", "high")
    assert choose_arithmetic("cpu").precision == "32-true"


def test_what_is_set_wins(machine: Any) -> None:
    machine(gpu=(9, 0))
    chosen = choose_arithmetic("gpu", "32-true", ComputeSettings(matmul="highest", compile=True))
    assert (chosen.precision, chosen.matmul, chosen.compile) == ("32-true", "highest", True)
    text = "precision: 32-true (as set); float32 products: highest; blocks: compiled; frozen weights: as loaded"
    assert str(chosen) == text


@pytest.mark.parametrize(
    ("precision", "frozen", "kept"),
    [
        ("bf16-mixed", "auto", torch.bfloat16),
        ("bf16", "auto", torch.bfloat16),
        ("bf16-mixed", "float32", None),
        ("32-true", "auto", None),
        ("32-true", "bfloat16", torch.bfloat16),
    ],
)
def test_frozen_weights_follow_autocast(precision: str, frozen: Any, kept: torch.dtype | None) -> None:
    assert choose_arithmetic("cpu", precision, ComputeSettings(frozen=frozen)).frozen == kept


def test_geometry_leaves_the_setting_of_products_as_it_was() -> None:
    @full_precision
    def inside(value: torch.Tensor) -> str:
        return torch.get_float32_matmul_precision()

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert inside(torch.ones(1)) == "highest"
        assert torch.get_float32_matmul_precision() == "high"
        with pytest.raises(RuntimeError):
            compose_poses(torch.ones(2, 3, 4), torch.ones(5, 3, 4))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(("matmul", "tensor_float"), [("highest", False), ("high", True)])
def test_convolutions_follow_products(matmul: Any, tensor_float: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch lets cuDNN convolve float32 in TensorFloat-32 by default: no float32 evaluation."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", not tensor_float)
    before = torch.get_float32_matmul_precision()
    try:
        choose_arithmetic("cpu", "32-true", ComputeSettings(matmul=matmul)).apply()
        assert torch.get_float32_matmul_precision() == matmul
        assert torch.backends.cudnn.allow_tf32 is tensor_float
    finally:
        torch.set_float32_matmul_precision(before)


def test_one_line_of_the_log_says_it(
    repository: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--config", str(repository / "configs" / "geometry.yaml"), "--data.image_size=28"]
    words += ["--model.backbone=lorasub.VGGT.from_pretrained", f"--model.backbone.source={tiny_weights}"]
    words += ["--trainer.fast_dev_run=1", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    with caplog.at_level(logging.INFO, logger="lorasub"):
        assert main([*words, "--trainer.precision=bf16-mixed"]) == 0
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("precision: ")]
    assert lines == [
        "precision: bf16-mixed (as set); float32 products: highest; blocks: not compiled; frozen weights: bfloat16"
    ]


def objective(predictions: Any) -> torch.Tensor:
    """Differentiable, of order one, and every output has a part in it."""
    parts = (predictions.pose_encoding, predictions.depth.log(), predictions.world_points.asinh())
    return sum(part.float().square().mean() for part in parts)


def outputs_and_gradients(model: VGGT, images: torch.Tensor, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        predictions = model(images)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(objective(predictions), parameters)
    outputs = (predictions.pose_encoding, predictions.depth, predictions.world_points)
    return torch.cat([part.detach().float().flatten() for part in outputs]), torch.cat([g.flatten() for g in gradients])


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_bfloat16_autocast_stays_near_float32() -> None:
    """The figures in the documentation (docs/precision.md), with room: nano, LoRA on blocks and heads."""
    model = VGGT.from_preset("nano")
    adapters = inject_adapters(model, LoRA(r=16, targets=["blocks", "heads"]))
    for name, parameter in adapters.trainable_parameters().items():
        if "lora_B" in name:  # the start, all zeros, would leave half of the gradients out
            torch.nn.init.normal_(parameter, std=1e-3)
    images = torch.rand(1, 2, 3, 112, 112)
    exact, exact_gradient = outputs_and_gradients(model, images, "32-true")
    found, gradient = outputs_and_gradients(model, images, "bf16-mixed")
    assert 1e-5 < relative(found, exact) < 5e-3
    assert relative(gradient, exact_gradient) < 2e-2
    assert torch.cosine_similarity(gradient, exact_gradient, dim=0) > 0.999


class Task(torch.nn.Module):
    """As much of a task as the callback looks at."""

    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


@pytest.fixture
def adapted(tiny_config: VGGTConfig) -> VGGT:
    model = VGGT(tiny_config)
    adapters = inject_adapters(model, LoRA(r=2, targets="blocks"))
    for name, parameter in adapters.trainable_parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_marking_blocks_for_the_compiler_changes_no_name_and_can_be_undone(adapted: VGGT) -> None:
    names = list(adapted.state_dict())
    callback, trainer = CompileBlocks(), Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    callback.setup(trainer, Task(adapted), "fit")
    marked = [module for module in adapted.modules() if module._compiled_call_impl is not None]
    assert len(marked) == len(list(adapted.repeated_blocks())) == 9
    assert list(adapted.state_dict()) == names
    assert copy.deepcopy(adapted).state_dict().keys() == adapted.state_dict().keys()
    callback.teardown(trainer, Task(adapted), "fit")
    assert all(module._compiled_call_impl is None for module in adapted.modules())


@pytest.mark.slow
def test_compiled_blocks_give_the_same_outputs_and_gradients(adapted: VGGT) -> None:
    """To 1e-4 of each norm, for the first number of views and for another."""
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    compiled = copy.deepcopy(adapted)
    torch._dynamo.reset()
    CompileBlocks().setup(trainer, Task(compiled), "fit")
    for views in (2, 3):
        images = torch.rand(1, views, 3, 28, 28)
        expected = outputs_and_gradients(adapted, images, "32-true")
        found = outputs_and_gradients(compiled, images, "32-true")
        assert relative(found[0], expected[0]) < 1e-4
        assert relative(found[1], expected[1]) < 1e-4
