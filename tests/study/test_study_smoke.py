"""A whole study, every kind of step of it, on a backbone whose steps take milliseconds."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from studies import SIZES, projected

from lorasub.backbones import VGGT
from lorasub.data import SyntheticScenes
from lorasub.errors import ConfigError
from lorasub.metrics.results import Results
from lorasub.study import (
    ActivationBasis,
    Basis,
    GradientBasis,
    Graph,
    MeanBasis,
    Method,
    ProcessWorkers,
    RayWorkers,
    Step,
    Store,
    Study,
    TrainingScenes,
    Workers,
    plan_study,
    run_graph,
)
from lorasub.study.report import write_report
from lorasub.study.steps.training import SelectRate
from lorasub.subspaces import SubspaceBasis
from lorasub.tasks import GeometryTask


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_kind_of_step_and_the_report(tiny_study: Study) -> None:
    tiny_study = dataclasses.replace(tiny_study, tuning_seeds=[1000, 1001])
    plan, store = plan_study(tiny_study), Store(tiny_study.folder)
    assert {step.kind for step in plan.graph.values()} == {
        *("fit", "mine", "split", "combine", "overlap", "explain", "remove"),
        *("constant", "gradients", "lr_trial", "select_lr", "finetune", "test"),
    }
    outcome = run_graph(plan.graph, store, Workers(), retries=0)
    assert outcome.failed == {}
    assert outcome.done == plan.graph.keys()

    for step in plan.graph.values():
        record = store.record(step)
        assert record is not None
        if step.kind == "finetune":
            assert record.measured["step_zero_difference"] < 1e-4
            assert record.measured["trainable"] > 0
            assert (store.folder(step) / "config.yaml").is_file()
        if step.kind == "select_lr":
            # the best of the grid by the files of the trials themselves, summed over seeds
            tried: Counter[float] = Counter()
            for trial in step.spec.trials:
                run = store.folder(plan.graph[trial.trial.key]) / "run"
                metrics = json.loads((run / "before_after.json").read_text())["metrics"]
                tried[trial.learning_rate] += metrics["val/abs_rel"]["after"]
            assert len(step.spec.trials) == 2 * len(tried)
            assert record.measured["learning_rate"] == min(tried, key=lambda rate: tried[rate])

    before = {step.key: store.folder(step).stat().st_mtime_ns for step in plan.graph.values()}
    assert run_graph(plan.graph, store, Workers()).done == outcome.done
    assert {step.key: store.folder(step).stat().st_mtime_ns for step in plan.graph.values()} == before

    text = write_report(plan, store, command="x").read_text()
    assert f"{len(plan.graph)} of {len(plan.graph)} steps are done" in text
    for title in ("## Accuracy", "## Differences", "## Costs", "## Overlaps", "## Adapters that were held out"):
        assert title in text
    for title in ("## Without a subspace", "## Spectra", "## Protocol"):
        assert title in text
    # two steps of fitting beat no plane
    assert "| *a plane* | 0 |" in text
    assert "no evidence here" in text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_rival_is_one_line(tiny_study: Study) -> None:
    def method(kind: str, **arguments: object) -> Method:
        return Method(adapter=[{"class_path": kind, "init_args": arguments}], learning_rates=[1e-2])

    oft = {"peft_type": "OFT", "oft_block_size": 8}
    methods = {
        "none": Method(),
        "lora_xs": method("LoRAXS", dim=2),
        "bitfit": method("BitFit"),
        "vera": method("VeRA", r=8),
        "truncated": method("TruncatedFineTuning", r=2),
        "oft": method("PEFT", config=oft),
        "mean": method("MeanAdapter", basis="mean"),
        "from_mean": method("ProjectedLoRA", basis="combined", init_from="mean"),
        "eva": method("EVA", basis="activations", r=2),
        **{name: method("ProjectedLoRA", basis=name) for name in ("budget", "spectrum", "kfac", "specific")},
    }
    few: dict[str, int] = {"partitions": 1, "scenes": 2}
    bases = {
        "combined": Basis(),
        "mean": MeanBasis(source="mean"),
        "activations": ActivationBasis(source="activations", dim=2, **few),
        "budget": GradientBasis(source="gradients", budget=100, **few),
        "spectrum": GradientBasis(source="gradients", dim=2, columns="spectrum", **few),
        "kfac": GradientBasis(source="gradients", dim=2, columns="kfac", **few),
        "specific": GradientBasis(source="gradients", dim=2, part="specific", **few),
    }
    changed = {"bases": bases, "methods": methods, "references": [], "seeds": [0], "removal": None, "partitions": 2}
    plan, store = plan_study(dataclasses.replace(tiny_study, **changed)), Store(tiny_study.folder)
    outcome = run_graph(plan.graph, store, Workers(), retries=0)
    assert outcome.failed == {}
    measured = {
        step.name.split()[2]: store.record(step).measured for step in plan.graph.values() if step.kind == "finetune"
    }
    assert set(measured) == set(methods) - {"none"}
    # two adapters of two attributes, each moved little: the start from their mean is another model, but not far away
    assert measured["from_mean"]["step_zero_difference"] > 1e-6
    layers = len(
        SubspaceBasis.load(store.folder(next(s for s in plan.graph.values() if s.kind == "mean")) / "basis").layers
    )
    assert measured["mean"]["trainable"] == layers
    assert measured["lora_xs"]["trainable"] == measured["kfac"]["trainable"] == 4 * layers
    assert 90 <= measured["budget"]["trainable"] <= 100
    assert all(found["step_zero_difference"] < 1e-4 for name, found in measured.items() if name != "from_mean")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_basis_from_gradients_holds_the_gradient_itself(tiny_study: Study) -> None:
    """Of one batch: the leading singular vectors of G, against a backward pass by hand."""
    bases = {"steep": GradientBasis(source="gradients", dim=2, attributes=["camera"], partitions=1, scenes=2)}
    methods = {"none": Method(), "steep": Method(adapter=[projected("steep")])}
    changed = {"bases": bases, "methods": methods, "references": [], "seeds": [0]}
    plan, graph = plan_study(dataclasses.replace(tiny_study, **changed)), Graph()
    (step,) = (step for step in plan.graph.values() if step.kind == "gradients")
    graph.add(step)
    store = Store(tiny_study.folder)
    assert run_graph(graph, store, Workers(), retries=0).failed == {}
    basis = SubspaceBasis.load(store.folder(step) / "basis")

    task = GeometryTask(VGGT.from_pretrained(str(tiny_study.backbone["init_args"]["source"]))).eval()
    scenes = SyntheticScenes(**SIZES, attribute="camera", partition=0)
    data = TrainingScenes(scenes, scenes=2, seed=0)
    (batch,) = data.train_dataloader()
    batch = task.prepare_batch(data.on_after_batch_transfer(batch, 0))
    task.backbone.requires_grad_(True)
    task.compute_loss(task(batch.images), batch).total.mean().backward()
    assert set(basis.layers)
    for path, layer in basis.layers.items():
        G = task.backbone.get_submodule(path).weight.grad.double()
        values = torch.linalg.svdvals(G)
        held = (layer.U.double().T @ G @ layer.V.double()).norm()
        assert float(held) == pytest.approx(float(values[:2].norm()), rel=1e-3), path


def test_the_same_training_scenes_for_every_method(tiny_study: Study) -> None:
    plan = plan_study(tiny_study)
    data = {
        json.dumps(step.spec.training.data, sort_keys=True)
        for step in plan.graph.values()
        if step.kind == "finetune" and "seed=0" in step.name
    }
    assert len(data) == 1


def run_step(folder: Path) -> None:
    """A runner with one step to do."""
    ProcessWorkers(1).submit(folder).result()


def _writes(log: Path) -> bool:
    """Whether a process has the log of a step open."""
    for held in Path("/proc").glob("[0-9]*/fd/1"):
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            if held.resolve() == log.resolve():
                return True
    return False


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_step_ends_with_its_runner(tiny_study: Study) -> None:
    plan, store = plan_study(tiny_study), Store(tiny_study.folder)
    step = next(step for step in plan.graph.values() if step.kind == "fit")
    folder = store.prepare(step)
    runner = multiprocessing.get_context("spawn").Process(target=run_step, args=(folder,))
    runner.start()
    deadline = time.monotonic() + 600
    while not (folder / "config.yaml").exists() and runner.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _writes(folder / "log.txt")
    runner.kill()
    runner.join()
    while _writes(folder / "log.txt"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not store.done(step)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ray_and_this_process_find_the_same_numbers(tiny_study: Study, tmp_path: Path) -> None:
    """The steps of one fit, its mining and a test; what an error in a Ray task says reaches the report."""
    pytest.importorskip("ray", reason="Ray is not installed")
    plan = plan_study(tiny_study)
    wanted = {"fit lighting 0", "fit lighting 1", "fit lighting 2", "fit lighting 3", "mine lighting dim=2"}
    graph = Graph()
    for step in plan.graph.values():
        if step.name in wanted or step.name == "test glass none":
            graph.add(step)
    stores = {"here": Store(tmp_path / "here"), "ray": Store(tmp_path / "ray")}
    workers = {"here": Workers(), "ray": RayWorkers(2)}
    for place, store in stores.items():
        outcome = run_graph(graph, store, workers[place], retries=0)
        assert outcome.failed == {}
        assert len(outcome.done) == len(graph) == 6
    for step in graph.values():
        here, ray = (store.folder(step) for store in stores.values())
        if step.kind == "fit":
            one, two = (load_file(folder / "run/adapter/adapter_model.safetensors") for folder in (here, ray))
            assert one.keys() == two.keys()
            for name, tensor in one.items():
                torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-7)
        if step.kind == "test":
            one, two = (Results.load(folder / "run").sets["test"].overall for folder in (here, ray))
            assert one == pytest.approx(two, rel=1e-6, nan_ok=True)

    broken = Step(kind="select_lr", name="broken", spec=SelectRate(trials=(), metric="x"))
    graph = Graph()
    graph.add(broken)
    outcome = run_graph(graph, stores["ray"], RayWorkers(1), retries=0)
    assert "no rate of []" in outcome.failed[broken.key]


def test_ray_workers_need_room() -> None:
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        RayWorkers(0)
    with pytest.raises(ConfigError, match=r"gpus \(-1\)"):
        RayWorkers(1, gpus=-1)
