"""Nothing that a user was given is unpickled: a file must not be able to run code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

#: Function -> keyword that makes it safe, and its value.
SAFE = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
UNSAFE = {"pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads"}
#: What unpickles bytes that this process has pickled itself.
OWN = {("data/pretraining.py", "pickle.loads")}


def unpickling(tree: ast.AST) -> set[str]:
    """Calls that may unpickle."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keyword, value = SAFE.get(name, (None, None))
            given = {item.arg: ast.unparse(item.value) for item in node.keywords}
            if name in UNSAFE or (keyword is not None and given.get(keyword) != str(value)):
                found.add(name)
    return found


def test_nothing_is_unpickled(repository: Path) -> None:
    root = repository / "lorasub"
    found = {
        (path.relative_to(root).as_posix(), name)
        for path in root.rglob("*.py")
        for name in unpickling(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found - OWN == set()


@pytest.mark.parametrize("line", ["torch.load(path)", "torch.load(path, weights_only=False)", "pickle.loads(data)"])
def test_a_call_that_unpickles_is_seen(line: str) -> None:
    assert unpickling(ast.parse(line))
