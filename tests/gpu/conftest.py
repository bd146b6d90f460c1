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


@pytest.fixture(autouse=True)
def _float32_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's convolutions are TensorFloat-32 by default; a test that wants that says so."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def device() -> torch.device:
    return torch.device(DEVICE)


@pytest.fixture
def trainer_words() -> list[str]:
    """What a command line needs to run here."""
    return [f"--trainer.accelerator={'gpu' if DEVICE == 'cuda' else 'cpu'}", "--trainer.devices=1"]
