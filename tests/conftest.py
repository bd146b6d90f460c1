"""Fixtures that every test may use, and hygiene that every test gets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lorasub.backbones import VGGT, VGGTConfig

os.environ.setdefault("MPLBACKEND", "Agg")

REPOSITORY = Path(__file__).resolve().parents[1]
#: Reference data beside the checkout; absent on most machines.
SHARED = Path(os.environ.get("LORASUB_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(autouse=True)
def _hygiene() -> Iterator[None]:
    """Every test starts from the same random state and leaves threads and dtype as it found them."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder with reference weights and outputs of VGGT."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip(f"no reference outputs at {folder} (set LORASUB_SHARED)")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with small real captures, one sub-folder a set."""
    folder = SHARED / "data" / "real"
    if not folder.is_dir():
        pytest.skip(f"no real captures at {folder} (set LORASUB_SHARED)")
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> VGGTConfig:
    """A VGGT so small that a training step takes milliseconds."""
    return VGGTConfig(
        image_size=28,
        embed_dim=16,
        num_heads=2,
        encoder_depth=1,
        num_pairs=4,
        taps=(0, 1, 2, 3),
        camera_heads=2,
        camera_depth=1,
        camera_iterations=2,
        dense_features=8,
        dense_channels=(8, 8, 8, 8),
    )


@pytest.fixture(scope="session")
def tiny_weights(tiny_config: VGGTConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny backbone with random weights."""
    generator_state = torch.get_rng_state()
    torch.manual_seed(3)
    path = VGGT(tiny_config).save_pretrained(tmp_path_factory.mktemp("tiny"))
    torch.set_rng_state(generator_state)
    return path
