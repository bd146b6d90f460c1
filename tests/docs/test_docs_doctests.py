"""The examples in the docstrings of public names, run."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import pytest
import torch

import lorasub as ls
from lorasub import console
from lorasub.metrics.results import SceneResult, SetResult

FINDER = doctest.DocTestFinder(recurse=False)
PUBLIC = {name: getattr(ls, name) for name in ls.__all__} | {"text_table": console.text_table}


def test_every_public_function_has_an_example() -> None:
    functions = {name: thing for name, thing in PUBLIC.items() if inspect.isfunction(thing)}
    assert [name for name, thing in functions.items() if ">>>" not in (thing.__doc__ or "")] == []


@pytest.mark.parametrize("name", [name for name, thing in PUBLIC.items() if ">>>" in (thing.__doc__ or "")])
def test_example(name: str, tiny_config: ls.VGGTConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    more = {"ls": ls, "torch": torch, "tiny": tiny_config, "SceneResult": SceneResult, "SetResult": SetResult}
    (example,) = FINDER.find(PUBLIC[name], name, globs={**PUBLIC, **more})
    told: list[str] = []
    failed = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=told.append)
    assert failed.failed == 0, "".join(told)
