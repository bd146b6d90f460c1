"""The device of these tests: a GPU. ``LORASUB_GPU_TESTS_ON=cpu`` rehearses them where there is none."""

from __future__ import annotations

import os

import pytest
import torch

#: Where the tests run.
DEVICE = os.environ.get("LORASUB_GPU_TESTS_ON", "cuda")


@pytest.fixture(autouse=True)
def _needs_a_device() -> None:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device (LORASUB_GPU_TESTS_ON=cpu rehearses these tests on a CPU)")


@pytest.fixture
def device() -> torch.device:
    return torch.device(DEVICE)


@pytest.fixture
def trainer_words() -> list[str]:
    """What a command line needs to run here."""
    return [f"--trainer.accelerator={'gpu' if DEVICE == 'cuda' else 'cpu'}", "--trainer.devices=1"]
