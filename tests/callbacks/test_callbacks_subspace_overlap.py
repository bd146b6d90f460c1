"""The overlap of a fitted adapter with reference bases: which ones, when, and what is left behind."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader

from lorasub.adapters import LoRA, attached_adapters, inject_adapters
from lorasub.callbacks import SubspaceOverlap
from lorasub.errors import ArtefactError
from lorasub.files import read_json
from lorasub.subspaces import LayerSubspace, SubspaceBasis, baseline_bases, shipped_bases

WIDTH, RANK = 24, 4


class Regression(LightningModule):
    """Any module that holds adapters will do: here one layer, whose update is pulled toward a planted subspace."""

    def __init__(self, planted: torch.Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False))
        self.target = self.net[0].weight.detach().clone() + planted
        inject_adapters(self.net, LoRA(r=RANK, targets=["0"]))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.net(batch) - batch @ self.target.T).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=0.02)


def planted_basis(seed: int, base: str | None = None) -> tuple[torch.Tensor, SubspaceBasis]:
    """An update of rank 4 and the basis that it spans."""
    generator = torch.Generator().manual_seed(seed)
    U, V = (torch.linalg.qr(torch.randn(WIDTH, RANK, generator=generator))[0] for _ in range(2))
    return U @ V.T, SubspaceBasis(layers={"0": LayerSubspace(U=U, V=V)}, base_model_hash=base)


def fit(module: Regression, callback: SubspaceOverlap, folder: Path, **changes: Any) -> None:
    torch.manual_seed(1)
    settings: dict[str, Any] = {
        "max_steps": 200,
        "logger": CSVLogger(folder, name=None, version="run"),
        "log_every_n_steps": 50,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "accelerator": "cpu",
        **changes,
    }
    Trainer(callbacks=[callback], **settings).fit(module, DataLoader(torch.randn(6400, WIDTH), batch_size=32))


def base_hash(module: Regression) -> str:
    adapters = attached_adapters(module)
    assert adapters is not None
    assert adapters.base_model_hash
    return adapters.base_model_hash


def test_a_planted_subspace_is_told_from_a_stranger(tmp_path: Path) -> None:
    update, own = planted_basis(0)
    _, stranger = planted_basis(1)
    own.save(tmp_path / "own")
    stranger.save(tmp_path / "stranger")
    references = {"own": str(tmp_path / "own"), "stranger": str(tmp_path / "stranger")}
    fit(Regression(update), SubspaceOverlap(references, dim=RANK, every_n_steps=50), tmp_path)

    assert [r["second"] for r in read_json(tmp_path / "run" / "overlap.json")["reports"]] == ["own", "stranger"]
    assert (tmp_path / "run" / "figures" / "overlap.png").is_file()
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    heads = lines[0].split(",")
    found = {
        name: [float(v) for line in lines[1:] if (v := line.split(",")[heads.index(f"overlap/{name}_output")])]
        for name in references
    }
    assert len(found["own"]) >= 4  # it can be watched forming
    assert found["own"][-1] > 0.95 > 0.5 > found["stranger"][-1]


def test_shipped_bases_are_taken_for_their_own_model_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline_bases, "SHIPPED_BASES", tmp_path / "shipped")
    update, _ = planted_basis(0)
    module = Regression(update)
    assert shipped_bases(base_hash(module)) == {}
    planted_basis(0, base_hash(module))[1].save(tmp_path / "shipped" / "geometry")
    planted_basis(0, "0" * 64)[1].save(tmp_path / "shipped" / "texture")
    assert shipped_bases(base_hash(module)).keys() == {"geometry"}
    assert shipped_bases(None) == {}

    fit(module, SubspaceOverlap(dim=RANK), tmp_path, max_steps=2)
    assert [r["second"] for r in read_json(tmp_path / "run" / "overlap.json")["reports"]] == ["geometry"]
    fit(Regression(update), SubspaceOverlap({}, dim=RANK), tmp_path / "none", max_steps=2)
    assert not (tmp_path / "none" / "run" / "overlap.json").exists()


def test_an_overlap_stands_beside_those_of_placebos(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    update, own = planted_basis(0)
    own.save(tmp_path / "own")
    placebos = {str(seed): str(planted_basis(seed)[1].save(tmp_path / str(seed))) for seed in (1, 2, 3)}
    callback = SubspaceOverlap({"own": str(tmp_path / "own")}, dim=RANK, placebos=placebos)
    with caplog.at_level(logging.INFO, logger="lorasub"):
        fit(Regression(update), callback, tmp_path)
    content = read_json(tmp_path / "run" / "overlap.json")
    (found,) = (report for report in content["reports"] if report["second"] == "own")
    assert found is not None
    alone = content["seed_alone"]["this fit"]["output"]
    assert len(alone) == 3
    assert max(alone) < 0.5
    assert f"{min(alone):.3f} to {max(alone):.3f}" in caplog.text
    assert "above 'seed alone'" in caplog.text


def test_a_wrong_reference_is_told_before_the_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    update, _ = planted_basis(0)
    with pytest.raises(ArtefactError, match="no such folder"):
        fit(Regression(update), SubspaceOverlap({"x": str(tmp_path / "x")}), tmp_path, max_steps=1)
    planted_basis(0, "f" * 64)[1].save(tmp_path / "x")
    with caplog.at_level(logging.WARNING, logger="lorasub"):
        fit(Regression(update), SubspaceOverlap({"x": str(tmp_path / "x")}, dim=2), tmp_path, max_steps=1)
    assert "mined on other weights (ffffffffffff)" in caplog.text


def _on_two_processes(rank: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29517", RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0")
    update, _ = planted_basis(0)
    callback = SubspaceOverlap({"own": str(Path(folder) / "own")}, dim=RANK, every_n_steps=5)
    fit(Regression(update), callback, Path(folder), max_steps=10, devices=2, strategy="ddp", log_every_n_steps=1)


@pytest.mark.ddp
def test_two_processes_leave_one_report(tmp_path: Path) -> None:
    planted_basis(0)[1].save(tmp_path / "own")
    torch.multiprocessing.spawn(_on_two_processes, args=(str(tmp_path),), nprocs=2)
    report = read_json(tmp_path / "run" / "overlap.json")
    assert [r["second"] for r in report["reports"]] == ["own"]
    assert "overlap/own_output" in (tmp_path / "run" / "metrics.csv").read_text()
