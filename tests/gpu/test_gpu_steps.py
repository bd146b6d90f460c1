"""What only a GPU shows: losses that arrive a step later, and fused optimisers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lorasub.errors import NumericalError
from lorasub.tasks.device_waits import FiniteLosses, fuse_on_gpu

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _not_rehearsed(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("there is nothing of this on a CPU")


def test_on_a_gpu_they_are_seen_before_anything_is_kept() -> None:
    losses = FiniteLosses()
    losses.watch(torch.tensor([torch.inf], device="cuda"), ["a"], 3)  # no waiting, no error yet
    with pytest.raises(NumericalError, match=r"at step 3 on scene\(s\) a"):
        losses.watch(torch.tensor([1.0], device="cuda"), ["b"], 4)
    losses.watch(torch.tensor([torch.nan], device="cuda"), ["c"], 5)
    with pytest.raises(NumericalError, match="at step 5"):
        losses.settle()


def test_fused_steps_are_the_usual_steps() -> None:
    """And what the user chose stays."""
    torch.manual_seed(0)
    found = []
    for fuse in (False, True):
        parameter = nn.Parameter(torch.linspace(-1, 1, 9, device="cuda"))
        optimizer = torch.optim.AdamW([parameter], lr=0.1)
        if fuse:
            fuse_on_gpu(optimizer)
            assert optimizer.param_groups[0]["fused"]
        for _ in range(5):
            optimizer.zero_grad()
            parameter.pow(4).sum().backward()
            optimizer.step()
        found.append(parameter.detach())
    assert torch.allclose(found[0], found[1], atol=1e-6)
    chosen = torch.optim.AdamW([parameter], lr=0.1, foreach=True)
    fuse_on_gpu(chosen)
    assert not chosen.param_groups[0]["fused"]
