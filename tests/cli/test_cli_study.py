"""``study plan --dry_run``, and the study for the real weights, which nobody can run here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lorasub.cli.main import main
from lorasub.cli.study import dry_run
from lorasub.study import plan_study
from lorasub.study.reading import read_study

CONFIGS = Path(__file__).parents[2] / "configs" / "study"


def test_the_loads_of_a_small_study_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = yaml.safe_load((CONFIGS / "smoke.yaml").read_text())
    content["methods"] = {name: content["methods"][name] for name in ("none", "mined")}
    content |= {"ablations": {}, "primary": None}
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(content))
    assert main(["study", "plan", str(file), "--dry_run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    plan = plan_study(read_study(file))
    fits = [step for step in plan.graph.values() if step.kind in ("fit", "lr_trial", "finetune")]
    assert sum(load["fits"] for load in told["loads"]) == len(fits)
    assert sum(load["steps"] for load in told["loads"]) == sum(step.work for step in fits)
    assert told["flops"] == pytest.approx(sum(load["steps"] * load["flops"] for load in told["loads"]))
    # 32 layers; 2 attributes of 4 dimensions, or 6 of `all`: a matrix of D x D in each
    trained = {load["parameters"] for load in told["loads"] if "mined" in load["name"]}
    assert trained == {32 * 8**2, 32 * 6**2}
    assert not (tmp_path / "runs").exists()


def test_the_study_of_the_real_weights_is_planned() -> None:
    plan = plan_study(read_study(CONFIGS / "vggt_1b.yaml"))
    kinds = {step.kind for step in plan.graph.values()}
    assert kinds == {
        *("pull", "compare_pulls", "gradients"),
        *("fit", "mine", "combine", "overlap", "explain", "remove", "constant"),
        *("lr_trial", "select_lr", "finetune", "test"),
    }
    assert plan.study.primary is not None


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_study_of_the_real_weights_runs_dry() -> None:
    """The models of all of its methods, at 1.2 billion parameters, 8 views of 518 x 518."""
    loads = dry_run(plan_study(read_study(CONFIGS / "vggt_1b.yaml")))
    by_name = {" ".join(load.name.split()[1:3]): load for load in loads}
    assert all(load.memory < 80 * 2**30 for load in loads)
    full = max(loads, key=lambda load: load.parameters)
    assert full.parameters > 6e8
    mined = next(load for name, load in by_name.items() if name.startswith("indoor mined"))
    assert mined.parameters == 192 * 64**2
    # a forward pass of 8 views takes two operations for each of some 0.9 billion weights and 1,374 tokens a view
    tokens = 8 * (37 * 37 + 5)
    assert mined.flops > 2 * 2 * 0.8e9 * tokens
