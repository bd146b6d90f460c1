"""Follows imports: which files of a package a file is computed with."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path


def closure(package: Path, *files: str, counts: Callable[[str], bool] = lambda file: True) -> set[str]:
    """Returns the files of a package that files import, directly or not, themselves included.

    A name that a folder's ``__init__.py`` only passes on counts as an import of the file that defines it.

    Args:
        package: folder of the package.
        files: paths in it.
        counts: whether a file is looked at; what only a file imports that is not does not count either.
    """
    found, waiting = set(), [*files]
    while waiting:
        current = waiting.pop()
        if current not in found and counts(current):
            found.add(current)
            waiting += _imported_files(package, current)
    return found


def imports_of(path: Path) -> set[str]:
    """Returns every imported dotted name, those inside functions and under TYPE_CHECKING included."""
    names: set[str] = set()
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}: relative import")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@functools.cache
def _imported_files(package: Path, file: str) -> tuple[str, ...]:
    own = [name.split(".")[1:] for name in imports_of(package / file) if name.partition(".")[0] == package.name]
    return tuple(each for parts in own for each in defining_files(package, parts))


def defining_files(package: Path, parts: list[str]) -> Iterator[str]:
    """Yields files behind a dotted name of a package: a module, a folder with all it imports, or one name of either.

    Args:
        package: folder of the package.
        parts: of the name, without the package's own.
    """
    path = package.joinpath(*parts)
    if path.with_suffix(".py").is_file():
        yield "/".join(parts) + ".py"
    elif (path / "__init__.py").is_file():
        if parts:
            yield "/".join([*parts, "__init__.py"])
    elif parts:
        *folder, name = parts
        init = package.joinpath(*folder, "__init__.py")
        passed_on = _passed_on(init).get(name) if init.is_file() else None
        yield from defining_files(package, passed_on.split(".")[1:] if passed_on else folder)


@functools.cache
def _passed_on(init: Path) -> dict[str, str]:
    """Names that an ``__init__.py`` imports from elsewhere -> where they are from."""
    nodes = [node for node in syntax_tree(init).body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in nodes for alias in node.names}


@functools.cache
def syntax_tree(file: Path) -> ast.Module:
    """Returns the syntax tree of a file, without documentation: layout, comments and docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node, clean=False) is not None
            node.body = node.body[1:] if documented else node.body
    return tree


@functools.cache
def syntax_hash(file: Path) -> str:
    """Returns a SHA-256 of :func:`syntax_tree`."""
    return hashlib.sha256(ast.dump(syntax_tree(file)).encode()).hexdigest()
