"""Which version of the code a step's result depends on.

A version number would have to be thought of with every change, and one hash of the whole package would throw away days
of fits for a new colour in a figure. So each kind of step names the parts of the package that its result is computed
by, and what counts of those is the syntax tree without documentation: comments, docstrings and layout do not.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).parents[1]

_ADAPTERS = (
    *("errors.py", "files.py", "rng.py", "adapters/mining.py", "adapters/folder.py", "adapters/peft_format.py"),
    *("subspaces/basis.py", "subspaces/updates.py", "study/step_adapters.py"),
)
# Bases are what fine-tuning begins with: how subspaces are compared afterwards must not throw away what was tuned.
_MINING = (
    *_ADAPTERS,
    *(
        "subspaces/dimension.py",
        "subspaces/haar.py",
        "subspaces/irls.py",
        "subspaces/mining.py",
        "subspaces/threads.py",
    ),
    "study/subspace_steps.py",
)
_JOINING = (*_MINING, "subspaces/combine.py", "subspaces/joint.py", "subspaces/projection.py")
_COMPARING = (*_ADAPTERS, "subspaces", "study/comparison_steps.py")
_TRAINING = (
    *(
        "structures.py",
        "contracts.py",
        "rng.py",
        "geometry",
        "losses",
        "backbones",
        "adapters",
        "tasks",
        "data",
        "scenes",
        "metrics",
    ),
    *("subspaces/basis.py", "subspaces/controls.py", "subspaces/haar.py", "subspaces/updates.py"),
    *("callbacks/before_after.py", "training", "study/training_scenes.py", "study/training_steps.py"),
)
#: Kind of step -> files and folders of the package.
PARTS: dict[str, tuple[str, ...]] = {
    "fit": _TRAINING,
    "mine": _MINING,
    "split": _JOINING,
    "combine": _JOINING,
    "overlap": _COMPARING,
    "explain": _COMPARING,
    "remove": (
        *_ADAPTERS,
        *("subspaces/controls.py", "subspaces/haar.py", "subspaces/projection.py"),
        "study/removal.py",
    ),
    "try": _TRAINING,
    "choose": ("study/training_steps.py",),
    "tune": _TRAINING,
    "test": (*_TRAINING, "callbacks/results_writer.py"),
}


@functools.cache
def code_version(kind: str) -> str:
    """SHA-256 over the code behind one kind of step."""
    return fingerprint(PACKAGE, PARTS[kind])


def fingerprint(package: Path, parts: Iterable[str]) -> str:
    """SHA-256 over the syntax of some files and folders of a package, without what is only for people.

    Args:
        package: its folder.
        parts: paths in it.
    """
    digest = hashlib.sha256()
    for part in parts:
        path = package / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(package).as_posix()}\n{_syntax(file)}\n".encode())
    return digest.hexdigest()


@functools.cache
def _syntax(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node, clean=False) is not None
            node.body = node.body[1:] if documented else node.body
    return ast.dump(tree)
