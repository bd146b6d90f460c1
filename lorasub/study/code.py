"""Finds the code that a step's result depends on, by following imports.

A version number would have to be thought of with every change, and one hash of the whole package would throw away days
of fits for a new colour in a figure. So what counts is what the step's function imports, directly or not, as a syntax
tree: comments, docstrings and layout do not count.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from lorasub.imports import closure, defining_files, syntax_hash

PACKAGE = Path(__file__).parents[1]

#: Code that steps import and whose changes leave their results as they are -> why.
IGNORED: dict[str, str] = {
    "_version.py": "a number for what is counted here file by file",
    "errors.py": "messages",
    "cli/*": "reads command lines; settings reach a step as a whole config",
    "data/check*": "judges a capture before anyone trains on it",
    "exports/*": "writes predictions for other tools",
    "figures/*": "draws results",
    "study/*": "plans, keeps and reports results; what computes them is in COUNTED",
    "training/memory.py": "estimates memory and arithmetic",
    "training/mistakes.py": "messages",
    "console.py": "prints lines and tables for people, and keeps other libraries' messages away",
    "*/card.py": "text for people",
    "callbacks/evaluation_figures.py": "draws predictions after a test",
    "callbacks/prediction_writer.py": "writes predictions for other tools",
    "callbacks/scene_panels.py": "draws predictions during a fit",
    "callbacks/subspace_overlap.py": "compares a fitted adapter with others",
}
#: Files below ignored folders that compute results all the same.
COUNTED = ("study/steps/*", "study/training_scenes.py")
#: Packages whose versions count.
PACKAGES = ("torch", "lightning", "kornia", "warp-lang")


@functools.cache
def code_version(*names: str) -> str:
    """Returns a SHA-256 over the code that is imported with some names, and over the versions of the packages beneath.

    Args:
        names: of modules and classes with dots between; those of other packages do not count.
    """
    # what a build adds (+cpu, +cu126) differs between machines that share a store
    versions = [f"{name} {importlib.metadata.version(name).partition('+')[0]}" for name in PACKAGES]
    own = [name.split(".")[1:] for name in names if name.startswith(f"{PACKAGE.name}.")]
    files = {each for parts in own for each in defining_files(PACKAGE, parts)}
    return fingerprint(PACKAGE, sorted(closure(PACKAGE, *files, counts=counts)), versions)


def fingerprint(package: Path, files: Iterable[str], more: Iterable[str] = ()) -> str:
    """Returns a SHA-256 over the syntax of some files of a package, without what is only for people."""
    digest = hashlib.sha256("\n".join(more).encode())
    for file in files:
        digest.update(f"{file}\n{syntax_hash(package / file)}\n".encode())
    return digest.hexdigest()


def counts(file: str) -> bool:
    """Returns whether a file's changes may change results."""
    return _matches(file, COUNTED) or not _matches(file, IGNORED)


def _matches(file: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(file, pattern) for pattern in patterns)
