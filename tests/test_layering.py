"""Who may import whom. The table is the architecture; an edge that is not in it fails here."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasub.imports import imports_of

GROUND = {
    *(
        "structures",
        "artefacts",
        "precision",
        "contracts",
        "run_callbacks",
        "console",
        "rng",
        "geometry",
        "errors",
        "files",
        "imports",
        "packaged_configs",
        "parsing",
        "_version",
    )
}
ALLOWED: dict[str, set[str]] = {
    **dict.fromkeys(GROUND, GROUND),
    "subspaces": GROUND,
    "scenes": GROUND,
    "losses": GROUND,
    "adapters": GROUND | {"subspaces"},
    "backbones": GROUND,
    "metrics": GROUND | {"subspaces"},
    "data": GROUND | {"scenes"},
    "exports": GROUND,
    "figures": GROUND | {"subspaces"},
    "tasks": GROUND | {"adapters", "backbones", "losses", "metrics"},
    "callbacks": GROUND | {"adapters", "subspaces", "metrics", "exports", "figures"},
    "training": GROUND | {"adapters", "backbones", "callbacks", "data", "losses", "metrics", "tasks"},
}
ALLOWED["study"] = set(ALLOWED) | {"study"}
EVERYTHING = {"cli", "__init__"}
#: Third-party packages that only some parts may import.
RESTRICTED: dict[str, set[str]] = {
    "lightning": {"data", "tasks", "callbacks", "training", "study", "cli"},
    "jsonargparse": {"training", "cli"},
    "torchmetrics": {"metrics", "tasks", "callbacks", "training", "study", "cli"},
    "matplotlib": {"figures"},
}


def modules(repository: Path) -> list[tuple[str, Path]]:
    root = repository / "lorasub"
    return [(path.relative_to(root).parts[0].removesuffix(".py"), path) for path in sorted(root.rglob("*.py"))]


def violations(part: str, names: set[str]) -> set[str]:
    found = set()
    for name in names:
        top, _, rest = name.partition(".")
        if top == "lorasub":
            target = rest.split(".")[0]
            if part not in EVERYTHING and target not in ALLOWED[part] | {part}:
                found.add(name)
        elif part not in RESTRICTED.get(top, {part}):
            found.add(name)
    return found


def test_every_edge_is_allowed(repository: Path) -> None:
    bad = {str(path): edges for part, path in modules(repository) if (edges := violations(part, imports_of(path)))}
    assert not bad, f"imports against the layering: {bad}"


def test_nothing_is_imported_by_a_string(repository: Path) -> None:
    bad = [str(path) for _, path in modules(repository) if {"importlib", "importlib.import_module"} & imports_of(path)]
    assert not bad, f"imports that the layering cannot see: {bad}"


def test_every_part_has_its_place(repository: Path) -> None:
    assert {part for part, _ in modules(repository)} <= set(ALLOWED) | EVERYTHING


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("backbones", "lorasub.adapters.LoRA"),
        ("tasks", "lorasub.data.PosedRGBD"),
        ("losses", "lightning.Trainer"),
        ("training", "lorasub.study.Plan"),
        ("study", "lorasub.cli.main.main"),
    ],
)
def test_a_wrong_edge_is_seen(part: str, name: str) -> None:
    assert violations(part, {name}) == {name}
