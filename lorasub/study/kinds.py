"""The kinds of steps: what each takes, what does it, and how one is done in its folder."""

from __future__ import annotations

import dataclasses
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from pydantic import TypeAdapter

from lorasub._version import __version__
from lorasub.errors import LorasubError
from lorasub.files import read_json, write_json
from lorasub.study.artefacts import FAILURE_FILE, RECORD_FILE, STEP_FILE, Workplace
from lorasub.study.code import PACKAGE, code_version
from lorasub.study.graph import Step
from lorasub.study.inputs import Content, class_paths, content_hash, named_inputs
from lorasub.study.steps import comparison, constant, gradients, pulls, removal, subspaces, training
from lorasub.study.store import Record, machine


class Kind(NamedTuple):
    """A kind of step.

    Attributes:
        function: does it; returns what the record shall say about the result. Its first argument is the settings, whose
            type is the kind's.
        guess: seconds for a unit of work where none has been done yet: a nano backbone on two cores.
    """

    function: Callable[[Any, Workplace], dict[str, Any]]
    guess: float

    @property
    def spec(self) -> type[Any]:
        """Type of the settings."""
        found: type[Any] = get_type_hints(self.function)["spec"]
        return found


KINDS: dict[str, Kind] = {
    "fit": Kind(training.fit_adapter, 0.5),
    "mine": Kind(subspaces.mine, 10.0),
    "mean": Kind(subspaces.mean, 10.0),
    "split": Kind(subspaces.split, 60.0),
    "combine": Kind(subspaces.combine, 5.0),
    "gradients": Kind(gradients.model_basis, 0.5),
    "pull": Kind(pulls.pull, 0.5),
    "compare_pulls": Kind(pulls.compare_pulls, 10.0),
    "overlap": Kind(comparison.overlap, 60.0),
    "explain": Kind(comparison.explain, 30.0),
    "remove": Kind(removal.remove, 5.0),
    "constant": Kind(constant.mean_scene, 5.0),
    "lr_trial": Kind(training.try_rate, 0.5),
    "select_lr": Kind(training.select_rate, 1.0),
    "finetune": Kind(training.finetune, 0.5),
    "test": Kind(training.test, 20.0),
}


def new_step(kind: str, name: str, spec: Any, work: float = 1.0, *, content: Content = content_hash) -> Step:
    """Returns a step of one of the :data:`KINDS`, with the code behind it and what its settings name on disk."""
    file = Path(KINDS[kind].function.__code__.co_filename).relative_to(PACKAGE).as_posix()
    settings = dataclasses.asdict(spec)
    code, named = code_version(file, *class_paths(settings)), named_inputs(settings, content)
    return Step(kind=kind, name=f"{kind} {name}", spec=spec, code=code, named=named, work=work)


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
