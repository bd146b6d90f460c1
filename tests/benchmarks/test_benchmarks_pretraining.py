"""What the benchmarks around pre-training compute: phases that add up, wins that are wins, planted subspaces found."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks.backbone import beaten
from benchmarks.pretraining import PHASES, measure
from benchmarks.reference_bases import basis_of
from lorasub.backbones import VGGT
from lorasub.subspaces import LayerGradients


def test_the_phases_of_a_fit_add_up_to_its_steps(repository: Path, tiny_weights: Path) -> None:
    stage = {"from_step": 0, "image_size": 28, "batch_size": 2, "views": [2, 2], "scenes": [{"preset": "indoor"}]}
    words = ["--model.backbone=lorasub.VGGT.from_pretrained", f"--model.backbone.source={tiny_weights}"]
    words += ["--trainer.accelerator=cpu", f"--data.stages={json.dumps([stage])}", "--data.pool=2", "--data.renewed=1"]
    words += ["--data.num_workers=1"]
    found = measure(repository / "configs" / "pretrain_nano_gpu.yaml", steps=4, skipped=1, words=words)
    assert found["scenes_per_step"] == 2
    assert found["scenes_per_second"] == pytest.approx(2e3 / found["step_ms"])
    assert found["views_per_second"] == pytest.approx(2 * found["scenes_per_second"])
    assert sum(found["phases_ms"].values()) == pytest.approx(found["step_ms"])
    assert all(found["phases_ms"][phase] > 0 for phase in PHASES)


def test_a_win_is_better_than_all_that_do_not_look() -> None:
    rows = {"model": {"e": 0.2}, "constant": {"e": 0.3}, "mean": {"e": 0.25}}
    assert beaten(rows, "e", 1) is True
    assert beaten(rows, "e", -1) is False
    assert beaten(rows | {"mean indoor": {"e": 0.2}}, "e", 1) is False
    assert beaten(rows | {"model": {"e": math.nan}}, "e", 1) is None


def test_a_basis_from_gradients_spans_what_was_planted(tiny_weights: Path) -> None:
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(size, 2)).Q for size in (12, 9))
    parts = [LayerGradients(moments=True), LayerGradients(moments=True)]
    for index in range(20):
        planted = left @ torch.randn(2, 2) @ right.T
        parts[index % 2].add("layer", 10.0 ** (index % 7) * (planted + 1e-4 * torch.randn(12, 9)))
    basis = basis_of(parts, "texture", VGGT.from_pretrained(tiny_weights), dim=2, scenes=10)
    for found, truth in ((basis.layers["layer"].U, left), (basis.layers["layer"].V, right)):
        torch.testing.assert_close(found.T @ found, torch.eye(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(found @ found.T, truth @ truth.T, atol=1e-3, rtol=0)
