"""Counts of launches are exact, so they can be held: fewer than PEFT's, and what was reached once stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.launches import LaunchCounter, build, count_step
from lorasub.files import read_json

SHAPE = (1, 2, 3, 518, 518)
#: Of a step of VGGT-1B with LoRA in the blocks, before its operations were fused (2026-11-28).
BEFORE = 7384


def test_views_and_allocations_are_no_launches() -> None:
    with LaunchCounter() as counter:
        x = torch.empty(4, 6)
        x.view(2, 12).transpose(0, 1).unbind(0)
        y = x + 1
        y.to(torch.float64)
        y.t().contiguous()
    assert counter.count.launches == {"add": 1, "_to_copy": 1, "clone": 1}
    assert (counter.count.casts, counter.count.copies) == (1, 1)
    assert counter.count.bytes == 4 * 24 * 2 + 24 * (4 + 8) + 4 * 24 * 2


def test_an_expanded_tensor_is_read_once() -> None:
    with LaunchCounter() as counter:
        torch.ones(1, 5).expand(1000, 5).sum()
    assert counter.count.bytes == 2 * 4 * 5 + 4  # written by ones, read by sum, the sum itself


def test_a_step_of_vggt_1b_takes_at_most_six_tenths_of_the_launches_it_took() -> None:
    ours = count_step(build("lora bf16", "vggt-1b", None), SHAPE, backward=True)
    assert ours.total <= 0.6 * BEFORE
    peft = count_step(build("peft", "vggt-1b", None), SHAPE, backward=True)
    assert ours.total < peft.total
    assert ours.bytes < peft.bytes
    assert ours.casts < peft.casts


def test_counting_leaves_the_model_alone() -> None:
    model = build("lora", "nano", None)
    before = {name: (p.shape, p.requires_grad) for name, p in model.named_parameters()}
    count_step(model, (1, 1, 3, 112, 112), backward=True)
    assert {name: (p.shape, p.requires_grad) for name, p in model.named_parameters()} == before
    assert all(p.grad is None for p in model.parameters() if isinstance(p, nn.Parameter))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_gpu_benchmark_is_rehearsed(repository: Path, tmp_path: Path) -> None:
    """Everything but compiled blocks and other benchmarks, in tiny sizes on a CPU; the file has every row."""
    words = ["--rehearse", "--parts", "rates", "vggt", "--cases", "lora", "peft", "projected", "full", "forward"]
    command = [sys.executable, "-m", "benchmarks.gpu", *words, "--json", str(tmp_path / "gpu.json")]
    assert subprocess.run(command, cwd=repository, check=False).returncode == 0
    results = read_json(tmp_path / "gpu.json")["results"]
    assert results["rates"]["product_flops"] > 0
    assert len(results["vggt"]) == 10
    assert all(row["seconds"] > 0 and row["flops"] > 0 for row in results["vggt"])
