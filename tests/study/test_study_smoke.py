"""A whole study, every kind of step of it, on a backbone whose steps take milliseconds."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from lorasub.study import Store, Study, ThisProcess, plan_study, run_graph
from lorasub.study.report import write_report


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_kind_of_step_and_the_report(tiny_study: Study) -> None:
    plan, store = plan_study(tiny_study), Store(tiny_study.folder)
    assert {step.kind for step in plan.graph} == {
        *("fit", "mine", "split", "combine", "overlap", "explain", "remove", "try", "choose", "tune", "test")
    }
    outcome = run_graph(plan.graph, store, ThisProcess(), retries=0)
    assert outcome.failed == {}
    assert outcome.done == {step.key for step in plan.graph}

    for step in plan.graph:
        record = store.record(step)
        assert record is not None
        if step.kind == "tune":
            assert record.measured["step_zero_difference"] < 1e-4
            assert record.measured["trainable"] > 0
            assert (store.folder(step) / "config.yaml").is_file()
        if step.kind == "choose":
            # the best of the grid by the files of the trials themselves
            tried = {}
            for rate, key in step.inputs.items():
                run = store.folder(plan.graph[key]) / "run"
                tried[float(rate)] = json.loads((run / "before_after.json").read_text())["metrics"]["val/abs_rel"][
                    "after"
                ]
            assert record.measured["learning_rate"] == min(tried, key=lambda rate: tried[rate])

    before = {step.key: store.folder(step).stat().st_mtime_ns for step in plan.graph}
    assert run_graph(plan.graph, store, ThisProcess()).done == outcome.done
    assert {step.key: store.folder(step).stat().st_mtime_ns for step in plan.graph} == before

    text = write_report(plan, store, command="x").read_text()
    assert f"{len(plan.graph)} of {len(plan.graph)} steps are done" in text
    for title in ("## Accuracy", "## Differences", "## Costs", "## Overlaps", "## Adapters that were held out"):
        assert title in text
    for title in ("## Without a subspace", "## Spectra", "## Protocol"):
        assert title in text


def test_the_same_training_scenes_for_every_method(tiny_study: Study) -> None:
    plan = plan_study(tiny_study)
    data = {
        json.dumps(step.config["fit"]["data"], sort_keys=True)
        for step in plan.graph
        if step.kind == "tune" and "seed=0" in step.name
    }
    assert len(data) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_step_ends_with_its_runner(tiny_study: Study) -> None:
    plan, store = plan_study(tiny_study), Store(tiny_study.folder)
    step = next(step for step in plan.graph if step.kind == "fit")
    folder = store.prepare(plan.graph, step)
    process = subprocess.Popen(
        [sys.executable, "-m", "lorasub.study.execution", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 600
    while not (folder / "config.yaml").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.stdin is not None
    process.stdin.close()  # what the system does when the runner is killed
    assert process.wait(timeout=600) == 1
    assert not store.done(step)
