"""Finds results of other settings or other versions of the code, to report a study that was begun before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from lorasub.files import read_json
from lorasub.study.artefacts import RECORD_FILE, STEP_FILE
from lorasub.study.graph import Step
from lorasub.study.store import Store, read_record

#: What kinds of steps were called before 2026-11-28 -> their names.
_FORMER_KINDS = {"try": "lr_trial", "choose": "select_lr", "tune": "finetune"}


class AnyVersionStore(Store):
    """A store in which a step that is not done stands for the newest finished one of the same kind and name."""

    def folder(self, step: Step) -> Path:
        """Returns the folder of a step's files, or of those of one with its name."""
        own = super().folder(step)
        if (own / RECORD_FILE).is_file():
            return own
        return self._newest.get(_label(step.kind, dataclasses.asdict(step)), own)

    @cached_property
    def _newest(self) -> dict[tuple[str, str, bool], Path]:
        folders = sorted(self.finished(), key=lambda folder: read_record(folder).finished)
        return {_label(folder.parent.name, read_json(folder / STEP_FILE)): folder for folder in folders}


def _label(kind: str, step: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Kind and name, and whether it tests a checkpoint: a method may be called like a row that does not look."""
    now = _FORMER_KINDS.get(kind, kind)
    # before 2026-11-28 steps had no spec, and tests an input called fit
    named = step.get("spec") or step.get("inputs") or {}
    return now, step["name"].replace(kind, now, 1), kind == "test" and bool(named.get("checkpoint") or named.get("fit"))
