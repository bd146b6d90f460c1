"""A checkpoint of projected adapters needs no other file, and loads without a word."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from toy_scenes import ToyScenes

from lorasub.adapters import ProjectedLoRA
from lorasub.adapters.folder import trained_parameters
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.cli.artefacts import describe
from lorasub.errors import ArtefactError
from lorasub.subspaces import random_basis
from lorasub.tasks import GeometryTask

DIM = 2


@pytest.fixture
def checkpoint(tiny_config: VGGTConfig, tiny_weights: Path, tmp_path: Path) -> Path:
    """Of a task that was made from a recipe, as the command line makes it; its basis has been deleted since."""
    backbone = VGGT(tiny_config)
    blocks = {
        path: tuple(module.weight.shape)
        for path, module in backbone.named_modules()
        if "global_blocks" in path and isinstance(module, torch.nn.Linear)
    }
    folder = random_basis(blocks, DIM, seed=3).save(tmp_path / "basis")
    adapter = {"basis": str(folder), "targets": "global_blocks"}
    task = GeometryTask(VGGT.from_pretrained(tiny_weights), ProjectedLoRA(**adapter))
    task.recipe = {
        "_class_path": "lorasub.GeometryTask",
        "backbone": {"class_path": "lorasub.VGGT.from_pretrained", "init_args": {"source": str(tiny_weights)}},
        "adapter": {"class_path": "lorasub.ProjectedLoRA", "init_args": adapter},
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, ToyScenes())
    trainer.save_checkpoint(tmp_path / "fit.ckpt")
    task.adapters.save(tmp_path / "adapter")
    torch.save(task.adapters.state_dict(), tmp_path / "expected.pt")
    shutil.rmtree(folder)
    return tmp_path / "fit.ckpt"


def test_it_loads_where_its_basis_is_gone_and_names_nothing_missing(checkpoint: Path) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        task = GeometryTask.load_from_checkpoint(checkpoint)
    assert not [str(warning.message) for warning in said if "keys" in str(warning.message)]
    expected = torch.load(checkpoint.with_name("expected.pt"), weights_only=True)
    found = task.adapters.state_dict()
    assert any(value.abs().max() > 0 for value in found.values())
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_damaged_basis_in_it_is_told(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    (carried,) = content["lorasub"]["bases"].values()
    next(iter(carried["tensors"].values())).mul_(2)
    torch.save(content, checkpoint)
    with pytest.raises(ArtefactError, match=r"fit\.ckpt.*not orthonormal"):
        GeometryTask.load_from_checkpoint(checkpoint)


def test_inspect_counts_what_is_trained(checkpoint: Path) -> None:
    folder = checkpoint.with_name("adapter")
    counts = trained_parameters(folder)
    assert set(counts.values()) == {DIM * DIM}
    assert describe(folder)["parameters"] == DIM * DIM * len(counts)
