"""Losses that are not finite stop a fit in time, and optimisers are fused only where nothing speaks against it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lorasub.errors import NumericalError
from lorasub.tasks.device_waits import FiniteLosses, fuse_on_gpu


def test_scenes_are_named_at_once_on_a_cpu() -> None:
    losses = FiniteLosses()
    losses.watch(torch.tensor([1.0, 2.0]), ["a", "b"], 0)
    with pytest.raises(NumericalError, match=r"nan.* at step 7 on scene\(s\) b;"):
        losses.watch(torch.tensor([1.0, torch.nan]), ["a", "b"], 7)
    losses.settle()


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_optimisers_on_a_cpu_stay_as_they_were_made(kind: type[torch.optim.Optimizer]) -> None:
    optimizer = kind([nn.Parameter(torch.ones(2))], lr=0.1)
    before = dict(optimizer.param_groups[0])
    fuse_on_gpu(optimizer)
    assert {k: v for k, v in optimizer.param_groups[0].items() if k != "params"} == {
        k: v for k, v in before.items() if k != "params"
    }
