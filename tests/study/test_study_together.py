"""Adapters of an attribute that are fitted in one step, against one step for each."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from studies import small_study

from lorasub.errors import ConfigError
from lorasub.study import AdapterFits, Graph, Plan, Store, Study, Workers, plan_study, run_graph
from lorasub.subspaces import SubspaceBasis


def steps(plan: Plan, kind: str) -> list[str]:
    return [step.name for step in plan.graph.values() if step.kind == kind]


def test_one_step_fits_all_adapters_of_an_attribute() -> None:
    apart = plan_study(small_study())
    together = plan_study(small_study(adapters=AdapterFits(steps=10, together=True)))
    assert steps(apart, "fit").count("fit geometry 0") == 1
    names = [f"fit {name}{draw}" for name in ("all", "geometry", "texture") for draw in ("", " draw=1")]
    assert sorted(steps(together, "fit")) == names
    by_name = {step.name: step for step in together.graph.values()}
    fit, mine = by_name["fit geometry"], by_name["mine geometry dim=4"]
    assert {(each.partition, each.fit.key, each.member) for each in mine.spec.adapters} == {
        (partition, fit.key, True) for partition in range(3)
    }
    assert fit.work == 30
    data, adapter = fit.spec.training.data, fit.spec.training.adapters[0].settings
    assert (adapter["class_path"], adapter["init_args"]["count"]) == ("LoRABank", 3)
    # the members are, word for word, the data of the steps that fit one adapter each
    singles = {step.name: step.spec.training.data for step in apart.graph.values() if step.kind == "fit"}
    assert data["init_args"]["members"] == [singles[f"fit geometry {partition}"] for partition in range(3)]


def test_only_lora_is_fitted_together() -> None:
    with pytest.raises(ConfigError, match="not PSV"):
        AdapterFits(adapter={"class_path": "PSV", "init_args": {}}, together=True)


@pytest.mark.slow
def test_the_same_subspaces_are_mined(tiny_study: Study) -> None:
    """Angles between them below 0.01, where chance gives most of a right angle."""
    found = {}
    for together in (False, True):
        study = dataclasses.replace(tiny_study, adapters=dataclasses.replace(tiny_study.adapters, together=together))
        whole, graph = plan_study(study), Graph()
        for step in whole.graph.values():
            if step.kind in ("fit", "mine") and "draw" not in step.name:
                graph.add(step)
        store = Store(study.folder)
        assert run_graph(graph, store, Workers(), retries=0).failed == {}
        (mined,) = (step for step in graph.values() if step.kind == "mine" and "camera" in step.name)
        found[together] = SubspaceBasis.load(store.folder(mined) / "basis")
        for step in graph.values():
            record = store.record(step)
            assert step.kind != "fit" or (record is not None and record.measured["adapter_bytes"] > 0)
    apart, bank = found[False].layers, found[True].layers
    assert apart.keys() == bank.keys()
    for path, layer in apart.items():
        for own, other in ((layer.U, bank[path].U), (layer.V, bank[path].V)):
            cosines = torch.linalg.svdvals(own.double().T @ other.double())
            assert cosines.min() > 1 - 5e-5, path
