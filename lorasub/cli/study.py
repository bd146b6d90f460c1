"""``study plan``, ``study run`` and ``study report``: the whole experiment from one YAML file."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningDataModule
from tqdm import tqdm

from lorasub.cli.arguments import progress, show, verb_parser
from lorasub.console import text_table
from lorasub.errors import ConfigError, LorasubError
from lorasub.study import (
    AnyVersionStore,
    Plan,
    ProcessWorkers,
    Progress,
    RayWorkers,
    Store,
    Workers,
    plan_study,
    run_graph,
)
from lorasub.study.adapter_specs import with_arguments
from lorasub.study.reading import read_study
from lorasub.study.report import write_report
from lorasub.study.runner import estimated_seconds
from lorasub.study.steps import KINDS
from lorasub.study.steps.training import AdapterChoice, FineTune, Fit, Training
from lorasub.tasks import SceneTask
from lorasub.training.memory import batch_of, estimate_memory
from lorasub.training.mistakes import SettingsParser
from lorasub.training.precision import precision_dtypes

#: Operations a second that a data-centre GPU of 2023 may sustain in bfloat16 training: a third of its peak.
_SUSTAINED = 300e12
_ACTIONS = {
    "plan": "Print the steps of a study, which of them are done, and how long the others will take.",
    "run": "Do the steps of a study that are not done yet, then write its report.",
    "report": "Write the report of a study from the results that are there.",
}


def run(verb: str, arguments: Sequence[str]) -> None:
    """Runs one of the three."""
    action = arguments[0] if arguments else ""
    if action not in _ACTIONS:
        words = " | ".join(_ACTIONS)
        if action in ("-h", "--help"):
            print(f"usage: lorasub study {{{words}}} FILE\n\nexample: lorasub study plan study/nano")  # noqa: T201
            return
        raise ConfigError(f"say what to do: lorasub study {{{words}}} FILE, not '{action}'")
    parser = verb_parser(f"study {action}", _ACTIONS[action], f"lorasub study {action} study/smoke")
    parser.add_argument("file", type=str, help="the study's YAML, or the name of one of the package")
    parser.add_argument("--folder", type=str, default=None, help="where steps are kept, instead of what the YAML says")
    if action == "plan":
        parser.add_argument("--steps", action="store_true", help="list every step, not only their kinds")
        parser.add_argument("--dry_run", action="store_true", help="build every model without storage; count its load")
    if action == "run":
        parser.add_argument("--jobs", type=int, default=1, help="steps at once, each a process; 0: here, one by one")
        parser.add_argument(
            "--ray", nargs="?", const="", default=None, help="on Ray: a cluster's address, or none: here"
        )
        parser.add_argument("--cpus", type=int, default=1, help="cores that a step takes, with --ray")
        parser.add_argument("--gpus", type=float, default=0.0, help="GPUs that a step takes, with --ray")
    if action == "report":
        parser.add_argument(
            "--any_version",
            action="store_true",
            help="take results of the same name by older code or other settings, too",
        )
    parsed = parser.parse_args(list(arguments[1:]))
    study = read_study(parsed.file)
    plan = plan_study(study)
    of_any_version = action == "report" and parsed.any_version
    store = (AnyVersionStore if of_any_version else Store)(parsed.folder or study.folder)
    if action == "plan" and parsed.dry_run:
        _show_loads(plan, as_json=parsed.json)
        return
    if action == "plan":
        _show_plan(plan, store, every_step=parsed.steps, as_json=parsed.json)
        return
    failed = _run(plan, store, _workers(parsed)) if action == "run" else {}
    path = write_report(plan, store, command=f"lorasub study run {parsed.file}", failed=failed)
    show({"report": str(path), "failed": failed}, f"report: {path}", as_json=parsed.json)
    if failed:
        raise LorasubError(f"{len(failed)} steps failed; the report lists them")


def _show_plan(plan: Plan, store: Store, *, every_step: bool, as_json: bool) -> None:
    timings = store.timings()
    steps: list[dict[str, Any]] = [
        {"kind": s.kind, "step": s.name, "done": store.done(s), "key": s.key[:16]} for s in plan.graph.values()
    ]
    left = [step for step, row in zip(plan.graph.values(), steps, strict=True) if not row["done"]]
    counts, done = (Counter(row["kind"] for row in rows) for rows in (steps, [row for row in steps if row["done"]]))
    kinds: list[dict[str, Any]] = [
        {
            "kind": kind,
            "steps": count,
            "done": done[kind],
            "left": duration(estimated_seconds([step for step in left if step.kind == kind], timings)),
            "from": "timings" if kind in timings else f"a guess: {KINDS[kind].guess:g} s a unit",
        }
        for kind, count in counts.items()
    ]
    total = estimated_seconds(left, timings)
    text = [
        text_table(kinds),
        f"{len(plan.graph)} steps, {len(left)} left: {duration(total)} with one job",
        str(store.root),
    ]
    if every_step:
        text.insert(0, text_table([{**row, "done": "done" if row["done"] else ""} for row in steps]) + "\n")
    if plan.study.budget_hours is not None and total > 3600 * plan.study.budget_hours:
        text.append(f"the budget is {plan.study.budget_hours:g} h: more jobs, or less to do, would be needed")
    show({"kinds": kinds, "steps": steps, "seconds_left": total}, "\n".join(text), as_json=as_json)


def _show_loads(plan: Plan, *, as_json: bool) -> None:
    """Prints memory and arithmetic of all fits, and what a GPU would need for them."""
    loads = dry_run(plan)
    flops = sum(load.total_flops for load in loads)
    hours = flops / (_SUSTAINED * 3600)
    text = (
        f"{text_table(load_rows(loads))}\n{sum(load.fits for load in loads)} fits take {flops / 1e18:.3g} EFLOP: about "
        f"{hours:.0f} hours of a GPU that sustains {_SUSTAINED / 1e12:.0f} TFLOP/s. Validation, tests, mining and "
        "loading come on top."
    )
    show({"loads": loads, "flops": flops, "gpu_hours": hours}, text, as_json=as_json)


def _workers(parsed: Any) -> Workers:
    """Returns where the command line wants steps to be done."""
    if parsed.ray is not None:
        return RayWorkers(max(parsed.jobs, 1), address=parsed.ray or None, cpus=parsed.cpus, gpus=parsed.gpus)
    return ProcessWorkers(parsed.jobs) if parsed.jobs else Workers()


def _run(plan: Plan, store: Store, workers: Workers) -> dict[str, str]:
    """Does the steps; name -> error of those that failed."""
    with progress(unit="step", total=len(plan.graph), leave=True) as bar:

        def tell(now: Progress) -> None:
            bar.update(now.done - bar.n)
            line = f"[{now.done}/{now.total}] {now.event}: {now.step.name}, about {duration(now.seconds_left)} left"
            tqdm.write(f"{line}\n  {now.error}" if now.error else line, file=sys.stderr)

        outcome = run_graph(plan.graph, store, workers, budget_hours=plan.study.budget_hours, report=tell)
    if outcome.out_of_time:
        print(f"the budget is used up; {len(outcome.left_out)} steps were not begun", file=sys.stderr)  # noqa: T201
    return {plan.graph[key].name: error for key, error in outcome.failed.items()}


def duration(seconds: float) -> str:
    """Returns hours and minutes, or seconds where it is short."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


_GIB = 2**30
_Made = TypeVar("_Made", SceneTask, LightningDataModule)


@dataclass
class Load:
    """Fits of a study that train the same model on batches of the same size.

    Attributes:
        name: of the first of them.
        fits: how many.
        steps: optimiser steps of all of them.
        parameters: trained.
        memory: bytes of one fit.
        flops: of one step.
    """

    name: str
    parameters: int
    memory: int
    flops: int
    fits: int = 0
    steps: float = 0.0
    names: list[str] = field(default_factory=list)

    @property
    def total_flops(self) -> float:
        """Of all steps of all fits."""
        return self.steps * self.flops


def dry_run(plan: Plan) -> list[Load]:
    """Build the model of every fit on the meta device, where nothing is loaded or allocated, and count.

    A basis that is yet to be mined is replaced by a random one of as many dimensions as its parts can have.

    Raises:
        ConfigError: a model cannot be built, or its data does not tell the size of a batch.
    """
    loads: dict[str, Load] = {}
    for step in plan.graph.values():
        if not isinstance(step.spec, Fit | FineTune):
            continue
        training = step.spec.training
        batch, precision = batch_of(_made(LightningDataModule, training.data)), training.trainer.get("precision")
        model = _model(plan, training)
        key = json.dumps([model, batch, precision], sort_keys=True)
        if key not in loads:
            autocast, dtype = precision_dtypes(precision or "32-true")
            try:
                with torch.device("meta"):
                    task = _made(SceneTask, model).to(dtype)
            except Exception as error:
                raise ConfigError(f"the model of '{step.name}' cannot be built: {error}") from error
            size = (batch.height, batch.width)
            found = estimate_memory(task, scenes=batch.scenes, views=batch.views, image_size=size, autocast=autocast)
            loads[key] = Load(
                name=step.name,
                parameters=found.parameters.trainable,
                memory=found.total,
                flops=found.activations.flops,
            )
        loads[key].fits += 1
        loads[key].steps += step.work
    return list(loads.values())


def load_rows(loads: list[Load]) -> list[dict[str, Any]]:
    """A table of them."""
    return [
        {
            "first of": load.name,
            "fits": load.fits,
            "trained": f"{load.parameters:,}",
            "memory": f"{load.memory / _GIB:.2f} GiB",
            "a step": f"{load.flops / 1e12:.3g} TFLOP",
            "all": f"{load.total_flops / 1e15:.3g} PFLOP",
        }
        for load in loads
    ]


def _model(plan: Plan, training: Training) -> dict[str, Any]:
    """The settings of a model, with something of the right shape in place of what earlier steps will have made."""
    adapters = [_without_basis(plan, choice) for choice in training.adapters]
    optimizer = with_arguments(training.optimizer, lr=1e-3)
    return with_arguments(training.task, backbone=training.backbone, adapter=adapters, optimizer=optimizer)


def _without_basis(plan: Plan, choice: AdapterChoice) -> Mapping[str, Any]:
    if choice.basis is None:
        return (
            with_arguments(choice.settings, seed=0)
            if "seed" in choice.settings.get("init_args", {})
            else choice.settings
        )
    if str(choice.settings["class_path"]).rpartition(".")[2] == "MeanAdapter":
        dim: int | str = 1  # as many trained numbers: one a layer
    else:
        dim = plan.dims[choice.basis.key]
    if not isinstance(dim, int):
        raise ConfigError(f"how many dimensions '{dim}' gives is known only when adapters are there: use a number")
    arguments = {**choice.settings.get("init_args", {}), "dim": dim}
    for made in ("basis", "init_from"):
        arguments.pop(made, None)
    return {"class_path": "RandomBasis", "init_args": arguments}


def _made(kind: type[_Made], settings: Mapping[str, Any]) -> _Made:
    """The object that settings stand for."""
    parser = SettingsParser()
    parser.add_subclass_arguments(kind, "made", fail_untyped=False)
    made = parser.instantiate(parser.parse_object({"made": dict(settings)})).made
    assert isinstance(made, kind)
    return made
