"""The steps that fit or test: each runs ``lorasub fit`` or ``test`` with a config that is left in its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import lorasub.training
from lorasub.adapters.mining import adapter_folder
from lorasub.errors import ArtefactError, NumericalError
from lorasub.files import read_json, write_json
from lorasub.metrics.results import Results
from lorasub.study.store import BASIS, CHOICE_FILE, CONFIG_FILE, COSTS_FILE, RECORD_FILE, RUN, OpenStep
from lorasub.study.training_config import BASELINE, RATE, resolve
from lorasub.training import Verb

#: Largest relative difference between the first validation of a fit and the test of the model without fine-tuning:
#: the same arithmetic but for the order of sums, through a deep network.
STEP_ZERO_TOLERANCE = 1e-3


def fit(step: OpenStep) -> dict[str, Any]:
    """Fit an adapter to an attribute, or all of its adapters together."""
    _lightning(step, "fit", step.config)
    members = sorted((step.folder / RUN / "adapter").glob("adapter_*/"))
    for folder in members or [step.folder / RUN]:
        adapter_folder(folder)
    return _costs(step)


def attempt(step: OpenStep) -> dict[str, Any]:
    """Fine-tune with one rate of the grid. A rate at which the loss leaves the finite numbers is a result, too."""
    try:
        _lightning(step, "fit", resolve(step.config["fit"], _basis_folders(step)))
    except NumericalError as error:
        return {"diverged": str(error)}
    return _costs(step)


def choose(step: OpenStep) -> dict[str, Any]:
    """Choose the rate whose fit ended best on validation data."""
    metric, larger = step.config["metric"], step.config["larger_is_better"]
    found: dict[float, float] = {}
    for rate, folder in step.inputs.items():
        measured = read_json(folder / RECORD_FILE)["measured"]
        value = math.nan if "diverged" in measured else _validated(folder / RUN, metric)["after"]
        found[float(rate)] = float("nan") if value is None else float(value)
    finite = {rate: value for rate, value in found.items() if math.isfinite(value)}
    if not finite:
        raise NumericalError(f"no rate of {sorted(found)} ended with a finite {metric}; add smaller ones to the grid")
    best = (max if larger else min)(finite, key=lambda rate: finite[rate])
    # at the end of the grid a better one may lie beyond it, and a comparison would be unfair to this method
    at_edge = len(found) > 1 and best in (min(found), max(found))
    tried = {str(rate): value for rate, value in found.items()}
    choice = {"metric": metric, "learning_rate": best, "at_edge": at_edge, "tried": tried}
    write_json(step.folder / CHOICE_FILE, choice)
    return {"learning_rate": best, "at_edge": at_edge}


def tune(step: OpenStep) -> dict[str, Any]:
    """Fine-tune with the rate that was chosen, and check that it began from the model without fine-tuning."""
    values = _basis_folders(step) | {RATE: read_json(step.inputs[RATE] / CHOICE_FILE)["learning_rate"]}
    _lightning(step, "fit", resolve(step.config["fit"], values))
    difference = _step_zero(step)
    if not difference <= STEP_ZERO_TOLERANCE:
        raise ArtefactError(
            f"before its first step the fit in {step.folder} differs from the model without fine-tuning by "
            f"{difference:.2g} of a result; an adapter has to start as no change at all"
        )
    return _costs(step) | {"step_zero_difference": difference}


def test(step: OpenStep) -> dict[str, Any]:
    """Score a fine-tuned model, or the model without fine-tuning."""
    words = []
    if "fit" in step.inputs:
        words = [f"--ckpt_path={step.inputs['fit'] / RUN / 'checkpoints' / 'last.ckpt'}"]
    _lightning(step, "test", step.config, words)
    return {"overall": {name: found.overall for name, found in Results.load(step.folder / RUN).sets.items()}}


def _lightning(step: OpenStep, verb: Verb, config: Mapping[str, Any], words: Sequence[str] = ()) -> None:
    """Run ``lorasub VERB --config config.yaml`` into ``run/``."""
    run = {"folder": str(step.folder.parent), "name": step.folder.name, "version": RUN}
    path = step.folder / CONFIG_FILE
    # tests are in float32 unless told otherwise; fits too, so that the first validation of one can equal a test
    trainer = {"precision": "32-true", **config.get("trainer", {})}
    path.write_text(yaml.safe_dump({**config, "trainer": trainer, "run": run}, sort_keys=False), encoding="utf-8")
    arguments = ["--config", str(path), *words]
    (step.folder / "command.txt").write_text(f"lorasub {verb} {' '.join(arguments)}\n", encoding="utf-8")
    lorasub.training.run(verb, arguments)


def _basis_folders(step: OpenStep) -> dict[str, str]:
    return {role: str(folder / BASIS) for role, folder in step.inputs.items() if role.startswith("basis ")}


def _costs(step: OpenStep) -> dict[str, Any]:
    """What the fit cost, as its callback wrote it down, and the size of what it leaves."""
    costs: dict[str, Any] = read_json(step.folder / RUN / COSTS_FILE)
    files = list((step.folder / RUN / "adapter").rglob("*.safetensors"))
    return costs | {"adapter_bytes": sum(path.stat().st_size for path in files)}


def _validated(run: Path, metric: str) -> dict[str, Any]:
    metrics: dict[str, dict[str, Any]] = read_json(run / "before_after.json")["metrics"]
    if metric not in metrics:
        raise ArtefactError(f"{run} validated no '{metric}'; there are {', '.join(metrics)}")
    return metrics[metric]


def _step_zero(step: OpenStep) -> float:
    """The largest relative difference, over all results, of the first validation to the test without fine-tuning."""
    baseline = Results.load(step.inputs[BASELINE] / RUN).sets[step.config["validation_set"]].overall
    metrics: dict[str, dict[str, float | None]] = read_json(step.folder / RUN / "before_after.json")["metrics"]
    found: list[float] = []
    for name, value in baseline.items():
        before = metrics.get(f"val/{name}", {}).get("before")
        if before is not None and math.isfinite(value):
            found.append(abs(before - value) / max(abs(value), 1e-6))
    if not found:
        raise ArtefactError(f"{step.folder}: validation and test have no finite result in common: nothing to compare")
    return max(found)
