"""Fixtures over the toy models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from adapter_toys import KINDS, TOYS, Specs, Toy
from torch import Tensor, nn

import lorasub as ls


@pytest.fixture(params=TOYS)
def toy(request: pytest.FixtureRequest) -> Toy:
    return TOYS[request.param]


@pytest.fixture
def transformer() -> Toy:
    return TOYS["transformer"]


@pytest.fixture
def conv() -> Toy:
    return TOYS["conv"]


@pytest.fixture(params=KINDS)
def spec(request: pytest.FixtureRequest, toy: Toy) -> Specs:
    return KINDS[request.param](toy)


@pytest.fixture
def perturb() -> Callable[[ls.AdapterSet], None]:
    """Gives every trained tensor a value that training could have given it."""

    def _perturb(adapters: ls.AdapterSet) -> None:
        generator = torch.Generator().manual_seed(8)
        with torch.no_grad():
            for parameter in adapters.trainable_parameters().values():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)

    return _perturb


@pytest.fixture
def train() -> Callable[[nn.Module, Tensor], None]:
    """A few steps of training of whatever requires a gradient."""

    def _train(model: nn.Module, x: Tensor, steps: int = 3) -> None:
        optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
        for _ in range(steps):
            optimiser.zero_grad()
            model(x).square().mean().backward()
            optimiser.step()

    return _train
