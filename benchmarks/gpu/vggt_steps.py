"""Training steps of VGGT-1B with random weights: seconds, memory, and the share of the card's own matrix rate."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.adapters import objective
from benchmarks.launches import adapted_by_peft
from lorasub import (
    VGGT,
    FullFineTuning,
    GeometryTask,
    LoRA,
    RandomBasis,
    VGGTConfig,
    cast_frozen_weights,
    estimate_memory,
    inject_adapters,
)
from lorasub.backbones.vggt.presets import find_preset

#: What is trained; ``forward`` trains nothing.
CASES = ("lora", "lora compiled", "peft", "projected", "full", "forward")


def product_rate(device: torch.device, size: int, rounds: int = 10) -> float:
    """Operations a second of a square bfloat16 matrix product."""
    left = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    right = torch.randn_like(left)
    seconds = best(lambda: left @ right, rounds)
    return 2 * size**3 / seconds


def copy_rate(device: torch.device, size: int, rounds: int = 10) -> float:
    """Bytes a second, read and written, of a large copy."""
    source = torch.empty(size, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / best(lambda: target.copy_(source), rounds)


def best(call: Callable[[], object], rounds: int) -> float:
    """The least seconds of a call, after two that do not count."""
    found = []
    for index in range(rounds + 2):
        wait()
        started = time.perf_counter()
        call()
        wait()
        if index >= 2:
            found.append(time.perf_counter() - started)
    return min(found)


def wait() -> None:
    """Until the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def random_model(config: VGGTConfig, device: torch.device) -> VGGT:
    """A VGGT whose weights are drawn where it runs."""
    with torch.device("meta"):
        model = VGGT(config)
    model = model.to_empty(device=device)
    generator = torch.Generator(device=device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.02, generator=generator)
            else:
                parameter.fill_(0.01 if "gamma" in name else float(name.endswith("weight")))
        for buffer in model.buffers():
            buffer.zero_()
    model.aggregator.reset_buffers()
    return model.to(device)


def trained(case: str, model: VGGT) -> nn.Module:
    """The model with what a case trains."""
    if case == "peft":
        return adapted_by_peft(model)
    if case == "forward":
        return model.requires_grad_(False)
    specs = {"full": FullFineTuning(targets="blocks"), "projected": RandomBasis(dim=64)}
    inject_adapters(model, specs.get(case, LoRA(r=16)))
    cast_frozen_weights(model.repeated_blocks())
    if case.endswith("compiled"):
        for block in model.repeated_blocks():
            block.compile()
    return model


def counted_flops(case: str, config: VGGTConfig, views: int, size: int) -> float:
    """Operations of a step, from the same count as ``lorasub fit --estimate``."""
    with torch.device("meta"):
        specs = {"full": FullFineTuning(targets="blocks"), "projected": RandomBasis(dim=64)}
        task = GeometryTask(VGGT(config), None if case == "forward" else specs.get(case, LoRA(r=16)))
    found = estimate_memory(task, scenes=1, views=views, image_size=(size, size), autocast=torch.bfloat16)
    return float(found.activations.flops)


def measure(case: str, *, preset: str, views: list[int], size: int, rounds: int, device: torch.device) -> Iterator[Any]:
    """One row for each number of views: one scene, camera and depth head, AdamW, bfloat16 autocast.

    What does not fit the memory ends the case with a row that says so.
    """
    config = find_preset(preset).config.replace(heads=("camera", "depth"))
    torch.manual_seed(0)
    model = trained(case, random_model(config, device))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=device.type == "cuda") if parameters else None
    for count in views:
        images = torch.rand(1, count, 3, size, size, device=device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            seconds = best(partial(one_step, model, images, optimizer), rounds)
        except torch.OutOfMemoryError:
            yield {"case": case, "views": count, "out_of_memory": True}
            break
        peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
        flops = counted_flops(case, config, count, size)
        yield {"case": case, "views": count, "seconds": seconds, "peak_bytes": peak, "flops": flops}
    del model, optimizer, parameters
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def one_step(model: nn.Module, images: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    """Forward, and with an optimiser backward and update."""
    with torch.set_grad_enabled(optimizer is not None), torch.autocast(images.device.type, torch.bfloat16):
        predictions = model(images)
    if optimizer is not None:
        optimizer.zero_grad()
        objective(predictions).backward()
        optimizer.step()
