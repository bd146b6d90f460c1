"""``audit``: what it tells about sets of scenes, which it refuses, and the table of gradients."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lorasub.backbones import VGGT
from lorasub.cli.gradient_table import GradientTable, gradient_table
from lorasub.cli.main import main
from lorasub.data import SceneBank, SyntheticScenes
from lorasub.errors import ConfigError
from lorasub.rng import seed_of
from lorasub.subspaces import GradientSet, LayerGradients, compare_gradients
from lorasub.tasks import GeometryTask, visit_gradients
from lorasub.training.evidence import no_look_scores, rendered_scenes, warn_of_solved_sets

QUICK = ["--image_size=28", "--num_scenes=3", "--num_views=2", "--device=cpu"]


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["audit", *words, *QUICK, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_it_measures_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "geometry", "--backbone=none", "--design=shift", "--dose=1", f"--out={tmp_path}")
    (row,) = found["evidence"]
    assert row["set"] == "geometry shift 1"
    assert row["from pre-training"] > 1.5 > row["others from it"]
    assert row["others between"] < 0.3
    assert row["zero-shot"] is None
    assert 0 < row["mean map"] < row["plane"] + 1
    assert found["presets"][0]["preset"] == "geometry shift"
    with Image.open(tmp_path / "scenes_geometry_shift.png") as sheet:
        assert sheet.size == (4 * 96, 4 * 96)
    assert json.loads((tmp_path / "audit.json").read_text())["evidence"][0]["set"] == "geometry shift 1"


def test_a_set_that_is_solved_without_looking_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", "texture", "--design=narrow", "--backbone=none", *QUICK]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert "texture narrow" in captured.out  # the numbers are told all the same
    assert "texture: the mean pose of each view scores AUC@30 1.00" in captured.out
    assert "solved without looking" in captured.err
    assert "texture (AbsRel 0.0" in captured.err
    assert "--force" in captured.err
    assert main([*words, "--force"]) == 0


def test_the_backbone_is_told_to_be_too_weak(tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A backbone with random weights is worse than not looking, on its own scenes too."""
    found = told(capsys, "geometry", f"--backbone={tiny_weights}")
    (row,) = found["evidence"]
    assert row["times"] < 1
    assert row["times"] == pytest.approx(min(row["mean map"], row["plane"]) / row["zero-shot"])
    (verdict,) = found["verdicts"]
    assert verdict.startswith("geometry: not looking has AbsRel")
    assert "too weak" in verdict


def test_gradients_are_one_table(tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["geometry", "camera", f"--backbone={tiny_weights}", "--force", "--gradients", "--gradient_scenes=4"]
    found = told(capsys, *words)
    rows = {(row["compared"], row["of"]): row for row in found["gradients"]["comparisons"]}
    expected = [
        *(("halves", name) for name in ("geometry", "camera", "all")),
        *(("partitions", name) for name in ("geometry", "camera")),
        ("attributes", "geometry camera"),
        *(("with all", name) for name in ("geometry", "camera")),
        ("placebo", "seeds of all"),
    ]
    assert list(rows) == expected
    assert rows["attributes", "geometry camera"]["pairs"] == 4
    assert rows["halves", "geometry"]["pairs"] == 2
    groups = rows["halves", "geometry"]["groups"]
    assert "frame_blocks qkv" in groups
    assert set(groups["frame_blocks qkv"]) == {"cosine", "rv_output", "rv_input"}
    assert set(found["gradients"]["losses"]) == {f"{n} {p}" for n in ("geometry", "camera") for p in (0, 1)} | {
        "all seed 0",
        "all seed 1",
    }


def table_of(strengths: dict[str, float], common: float = 0.0) -> GradientTable:
    """A table of planted gradients: each attribute has its own direction, and all share one."""

    def direction(*key: str | int) -> torch.Tensor:
        values = torch.randn(40, 30, generator=torch.Generator().manual_seed(seed_of(*key)))
        return values / values.norm()

    sets = []
    for name in (*strengths, "all"):
        for number in (0, 1):
            halves = tuple(
                {
                    "blocks.0.qkv": strengths.get(name, 0.0) * direction(name)
                    + common * direction("common")
                    + direction(name, number, half)
                }
                for half in (0, 1)
            )
            sets.append(GradientSet(name=f"{name} {number}", attribute=name, halves=(halves[0], halves[1])))
    comparisons: dict[tuple[str, str], list[Any]] = {}
    for one in compare_gradients(sets):
        first, second = one.one.split()[0], one.two.split()[0]
        kind = "halves" if one.one == one.two else "partitions" if first == second else "attributes"
        comparisons.setdefault((kind, first if first == second else f"{first} {second}"), []).append(one)
    return GradientTable(comparisons=comparisons, losses={}, scenes=8)


def test_verdicts_of_planted_gradients() -> None:
    own, noise = table_of({"texture": 2.0, "camera": 0.0}).verdicts()
    assert own.startswith(("texture: its halves agree at 0.79", "texture: its halves agree at 0.8"))
    assert "more than with any other attribute" in own
    assert noise.startswith("camera: not worth fitting.")
    assert "sets of 8 scenes pull" in noise
    shared = table_of({"texture": 0.0, "camera": 0.0}, common=2.0)
    # partitions and attributes agree alike, so which is larger is chance
    assert any("nothing here is its own" in line for line in shared.verdicts())


def test_a_verdict_says_how_many_scenes_would_do() -> None:
    """Halves of 8 scenes that agree at 1 / 5 agree at 0.3 with 0.3 * 0.8 / (0.2 * 0.7) times as many."""
    (line,) = table_of({"texture": 0.5}).verdicts()
    halves = float(line.split(" alike at ")[1].split()[0])
    assert halves == pytest.approx(0.2, abs=0.04)
    needed = int(line.split("sets of some ")[1].split()[0])
    assert needed == pytest.approx(8 * 0.3 * (1 - halves) / (halves * 0.7), abs=1.5)


def test_the_corrected_cosine_takes_the_noise_of_halves_out() -> None:
    rows = {(row["compared"], row["of"]): row for row in table_of({"texture": 1.5}).rows()}
    partitions = rows["partitions", "texture"]
    assert partitions["cosine"] == pytest.approx(1.5**2 / (1 + 1.5**2), abs=0.05)
    assert partitions["corrected"] == pytest.approx(1.0, abs=0.06)
    assert rows["halves", "texture"]["corrected"] is None


def test_halves_take_batches_in_turn(tiny_weights: Path, tmp_path: Path) -> None:
    data = SyntheticScenes(attribute="texture", num_views=2, image_size=28, antialias=False, shadow_samples=1)
    task = GeometryTask(VGGT.from_pretrained(tiny_weights))
    sets = [("texture 0", "texture", data), ("all seed 0", "all", data)]
    table = gradient_table(task, sets, scenes=6, folder=tmp_path, batch=2)
    each = [LayerGradients() for _ in range(3)]
    for kept, batch in zip(each, rendered_scenes(data, 6, batch=2), strict=True):
        layer = visit_gradients(task, [batch], kept.add).layers[0]
    with pytest.raises(ConfigError, match="2 scenes of a set have no two halves"):
        gradient_table(task, sets, scenes=2, folder=tmp_path, batch=2)
    (found,) = table.comparisons["halves", "texture"]
    one, two = each[0].total[layer] + each[2].total[layer], each[1].total[layer]
    assert found.layers[layer].cosine == pytest.approx(float((one * two).sum() / one.norm() / two.norm()), abs=1e-4)


def small(design: str, **more: Any) -> SyntheticScenes:
    options: dict[str, Any] = {"num_views": 2, "image_size": 28, "antialias": False, "shadow_samples": 1}
    return SyntheticScenes(attribute="texture", design=design, **options, **more)  # type: ignore[arg-type]


def test_a_fit_on_a_solved_set_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="lorasub"):
        warn_of_solved_sets(small("within"))
        assert not caplog.records
        warn_of_solved_sets(SceneBank([small("within"), small("narrow", partition=1)]))
    (record,) = caplog.records
    assert "'texture' (design narrow, partition 1) are solved without looking" in record.getMessage()


def test_scores_need_no_trainer() -> None:
    scores = no_look_scores(small("narrow"), training=4, held_out=2)
    assert scores.solved
    assert scores.mean.abs_rel < 0.1 < scores.plane.abs_rel
