"""Adapters of two kinds in turn, and fits that end when their validation loss is flat."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import small_study

from lorasub.errors import ConfigError
from lorasub.study import (
    AdapterFits,
    AlternateAdapter,
    Graph,
    Step,
    Store,
    Study,
    UntilFlat,
    Workers,
    plan_study,
    run_graph,
)
from lorasub.study.steps.training import Fit
from lorasub.subspaces import SubspaceBasis

FULL = AlternateAdapter(
    adapter={"class_path": "TruncatedFineTuning", "init_args": {"r": 2, "targets": "blocks"}}, learning_rate=1e-4
)
FLAT = UntilFlat(validate_every=2, patience=3)


def fits(study: Study, of: str) -> list[Step]:
    found = plan_study(study).graph.values()
    return [step for step in found if step.name.startswith(f"fit {of}") and "draw" not in step.name]


def run(study: Study, kind: str, of: str) -> tuple[Store, list[Step]]:
    """Runs the steps of one kind whose names contain a word, and what they need."""
    whole = plan_study(study).graph.values()
    wanted = {step.key for step in whole if step.kind == kind and of in step.name and "draw" not in step.name}
    for step in reversed(list(whole)):
        wanted |= step.inputs if step.key in wanted else set()
    graph, store = Graph(), Store(study.folder)
    for step in whole:
        if step.key in wanted:
            graph.add(step)
    assert run_graph(graph, store, Workers(), retries=0).failed == {}
    return store, [step for step in graph.values() if step.kind == kind]


def last_step(folder: Path) -> int:
    checkpoint: dict[str, Any] = torch.load(folder / "run/checkpoints/last.ckpt", weights_only=False)
    return int(checkpoint["global_step"])


def test_every_second_partition_has_the_other_kind_and_its_rate() -> None:
    found = fits(small_study(adapters=AdapterFits(steps=10, learning_rate=1e-3, alternate=FULL)), "texture")
    specs = [step.spec for step in found]
    assert all(isinstance(spec, Fit) for spec in specs)
    kinds = [spec.training.adapters[0].settings["class_path"] for spec in specs]
    assert kinds == ["LoRA", "TruncatedFineTuning", "LoRA"]
    assert [spec.learning_rate for spec in specs] == [1e-3, 1e-4, 1e-3]


def test_fits_that_may_end_early_keep_the_callbacks_of_the_study() -> None:
    trainer = {"accelerator": "cpu", "callbacks": [{"class_path": "DeviceStatsMonitor"}]}
    study = small_study(adapters=AdapterFits(steps=10, until_flat=FLAT), trainer=trainer)
    config = fits(study, "texture")[0].spec.training.trainer
    assert (config["accelerator"], config["val_check_interval"]) == ("cpu", 2)
    assert [each["class_path"].rpartition(".")[2] for each in config["callbacks"]] == [
        "DeviceStatsMonitor",
        "EarlyStopping",
    ]
    # fine-tuning is compared at equal steps, so it never ends early
    tunes = [step for step in plan_study(study).graph.values() if step.kind == "finetune"]
    assert all("val_check_interval" not in step.spec.training.trainer for step in tunes)


@pytest.mark.parametrize("changed", [{"alternate": FULL}, {"until_flat": FLAT}])
def test_adapters_that_are_fitted_together_are_alike(changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="set it to false"):
        AdapterFits(together=True, **changed)


def test_out_of_range_values_are_named() -> None:
    with pytest.raises(ConfigError, match=r"alternate\.learning_rate must be above 0, not 0"):
        AlternateAdapter(adapter=FULL.adapter, learning_rate=0.0)
    with pytest.raises(ConfigError, match=r"until_flat\.patience"):
        UntilFlat(validate_every=2, patience=0)


def test_a_fit_ends_when_its_loss_is_flat(tiny_study: Study) -> None:
    """A rate so small that no weight changes: the first validation is the best one, then comes the patience."""
    flat = dataclasses.replace(tiny_study.adapters, steps=30, learning_rate=1e-30, until_flat=FLAT)
    store, steps = run(dataclasses.replace(tiny_study, adapters=flat, partitions=2), "fit", "lighting 0")
    assert [last_step(store.folder(step)) for step in steps] == [2 * (1 + 3)]
    # the costs are those of the steps that were made
    record = store.record(steps[0])
    assert record is not None
    assert record.measured["adapter_bytes"] > 0


@pytest.mark.slow
def test_both_kinds_are_mined_together(tiny_study: Study) -> None:
    mixed = dataclasses.replace(tiny_study.adapters, alternate=FULL)
    study = dataclasses.replace(
        tiny_study, adapters=mixed, mining=dataclasses.replace(tiny_study.mining, normalize="frobenius")
    )
    store, (mined,) = run(study, "mine", "camera")
    basis = SubspaceBasis.load(store.folder(mined) / "basis")
    assert basis.layers
    for layer in basis.layers.values():
        assert layer.U.shape[1] == 2
        torch.testing.assert_close(layer.U.T @ layer.U, torch.eye(2), atol=1e-5, rtol=0)
