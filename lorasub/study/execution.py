"""Does one step.

The folder has ``step.json``; what the step makes comes beside it, and ``record.json`` last.
"""

from __future__ import annotations

import dataclasses
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorasub.errors import LorasubError
from lorasub.files import read_json, write_json
from lorasub.study import comparison_steps, removal, subspace_steps, training_steps
from lorasub.study.store import FAILURE_FILE, RECORD_FILE, STEP_FILE, OpenStep, Record, machine, version

#: Kind of step -> what does it. It returns what the record shall say about the result.
DOES: dict[str, Callable[[OpenStep], dict[str, Any]]] = {
    "fit": training_steps.fit,
    "mine": subspace_steps.mine,
    "split": subspace_steps.split,
    "combine": subspace_steps.combine,
    "overlap": comparison_steps.overlap,
    "explain": comparison_steps.explain,
    "remove": removal.remove,
    "try": training_steps.attempt,
    "choose": training_steps.choose,
    "tune": training_steps.tune,
    "test": training_steps.test,
}


def execute(folder: str | os.PathLike[str]) -> Record:
    """Do the step that is described in a folder, and write its record.

    Raises:
        LorasubError: whatever went wrong.
    """
    folder = Path(folder).resolve()
    content = read_json(folder / STEP_FILE)
    inputs = {role: (folder / entry["folder"]).resolve() for role, entry in content["inputs"].items()}
    started = time.perf_counter()
    measured = DOES[content["kind"]](OpenStep(folder=folder, config=content["config"], inputs=inputs))
    record = Record(
        key=content["key"],
        name=content["name"],
        seconds=time.perf_counter() - started,
        work=content["work"],
        finished=time.time(),
        measured=measured,
        machine=machine(),
        version=version(),
    )
    write_json(folder / RECORD_FILE, dataclasses.asdict(record))
    return record


def main(folder: str) -> int:
    """Do the step of a folder; 0, or 1 after writing down why it failed."""
    try:
        execute(folder)
    except Exception as error:
        traceback.print_exc()
        known = isinstance(error, LorasubError)
        told = str(error) if known else f"{type(error).__name__}: {error}"
        (Path(folder) / FAILURE_FILE).write_text(told + "\n", encoding="utf-8")
        return 1
    return 0
