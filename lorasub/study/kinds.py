"""The kinds of steps: what each takes, what does it, and how one is done in its folder."""

from __future__ import annotations

import dataclasses
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from lorasub._version import __version__
from lorasub.errors import LorasubError
from lorasub.files import read_json, write_json
from lorasub.study.artefacts import FAILURE_FILE, RECORD_FILE, STEP_FILE, Workplace
from lorasub.study.code import PACKAGE, code_version
from lorasub.study.graph import Step
from lorasub.study.inputs import class_paths
from lorasub.study.steps import comparison, constant, gradients, pulls, removal, subspaces, training
from lorasub.study.store import Record, machine


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of step.

    Attributes:
        spec: type of its settings.
        function: does it; returns what the record shall say about the result.
        guess: seconds for a unit of work where none has been done yet: a nano backbone on two cores.
    """

    spec: type[Any]
    function: Callable[[Any, Workplace], dict[str, Any]]
    guess: float


def _kind(function: Callable[[Any, Workplace], dict[str, Any]], spec: type[Any], guess: float) -> Kind:
    return Kind(spec=spec, function=function, guess=guess)


KINDS: dict[str, Kind] = {
    "fit": _kind(training.fit_adapter, training.Fit, 0.5),
    "mine": _kind(subspaces.mine, subspaces.Mine, 10.0),
    "mean": _kind(subspaces.mean, subspaces.Mean, 10.0),
    "split": _kind(subspaces.split, subspaces.Split, 60.0),
    "combine": _kind(subspaces.combine, subspaces.Combine, 5.0),
    "gradients": _kind(gradients.model_basis, gradients.ModelBasis, 0.5),
    "pull": _kind(pulls.pull, pulls.Pull, 0.5),
    "compare_pulls": _kind(pulls.compare_pulls, pulls.ComparePulls, 10.0),
    "overlap": _kind(comparison.overlap, comparison.Compare, 60.0),
    "explain": _kind(comparison.explain, comparison.Compare, 30.0),
    "remove": _kind(removal.remove, removal.Remove, 5.0),
    "constant": _kind(constant.mean_scene, constant.MeanScene, 5.0),
    "lr_trial": _kind(training.try_rate, training.Fit, 0.5),
    "select_lr": _kind(training.select_rate, training.SelectRate, 1.0),
    "finetune": _kind(training.finetune, training.FineTune, 0.5),
    "test": _kind(training.test, training.Scoring, 20.0),
}


def new_step(kind: str, name: str, spec: Any, work: float = 1.0) -> Step:
    """Returns a step of one of the :data:`KINDS`, with the version of the code behind it."""
    file = Path(KINDS[kind].function.__code__.co_filename).relative_to(PACKAGE).as_posix()
    classes = sorted(set(class_paths(dataclasses.asdict(spec))))
    return Step(kind=kind, name=f"{kind} {name}", spec=spec, code=code_version(file, *classes), work=work)


def execute(folder: Path) -> None:
    """Runs the step that is described in a folder, and writes its record last."""
    folder = folder.resolve()
    content = read_json(folder / STEP_FILE)
    kind = KINDS[content["kind"]]
    spec = TypeAdapter(kind.spec).validate_json(json.dumps(content["spec"]))
    started = time.perf_counter()
    measured = kind.function(spec, Workplace(folder=folder, root=folder.parents[2]))
    record = Record(
        key=content["key"],
        name=content["name"],
        seconds=time.perf_counter() - started,
        work=content["work"],
        finished=time.time(),
        measured=measured,
        machine=machine(),
        version=__version__,
    )
    write_json(folder / RECORD_FILE, dataclasses.asdict(record))


def main(folder: str) -> int:
    """Runs the step of a folder; returns 0, or 1 after writing down why it failed."""
    try:
        execute(Path(folder))
    except (Exception, SystemExit) as error:  # a parser of settings exits
        traceback.print_exc()
        told = str(error) if isinstance(error, LorasubError) else f"{type(error).__name__}: {error}; the log says more"
        (Path(folder) / FAILURE_FILE).write_text(told + "\n", encoding="utf-8")
        return 1
    return 0
