"""Which code a step's result depends on: what it imports, and nothing else."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import lorasub
from lorasub import imports
from lorasub.imports import imports_of
from lorasub.study import code
from lorasub.study.code import PACKAGE, code_version, counts, fingerprint

TRAINING = "study/steps/training.py"
#: Changing one of these may change a fit.
COMPUTES = (
    *("adapters/lora.py", "adapters/projected.py", "adapters/peft_layer.py", "backbones/vggt/model.py"),
    *("callbacks/before_after.py", "callbacks/encoder_cache.py", "callbacks/fit_costs.py"),
    *("callbacks/weight_average.py", "data/synthetic.py", "geometry/poses.py"),
    *("losses/vggt.py", "study/steps/training.py", "study/training_scenes.py", "tasks/schedule.py"),
    *("training/precision.py", "training/runner.py", "training/strategy.py"),
)
#: Changing one of these changes none.
DOES_NOT = (
    *("callbacks/scene_panels.py", "cli/main.py", "data/check/judging.py", "exports/ply.py", "figures/panels.py"),
    *("study/plan.py", "study/report.py", "study/workers.py", "subspaces/compare.py", "tasks/memory.py"),
)


def write(package: Path, **files: str) -> None:
    for name, text in files.items():
        path = package / (name.replace("__", "/", 1) + ".py" if not name.endswith("init") else "part/__init__.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package whose `step` imports `part/used`, through the folder's names, inside a function."""
    folder = tmp_path / "pack"
    write(
        folder,
        step="def f():\n    from pack.part import thing\n    return thing\n",
        part__init="from pack.part.used import thing\nfrom pack.part.other import unused\n",
        part__used="import pack.deep\nthing = 1\n",
        part__other="unused = 2\n",
        deep="from pack import errors\nfrom numpy import array\n",
        errors="text = 'x'\n",
        alone="",
    )
    return folder


def closure(package: Path, file: str) -> set[str]:
    return imports.closure(package, file, counts=counts)


def version(package: Path) -> str:
    for cached in (imports.syntax_tree, imports.syntax_hash, imports._imported_files):
        cached.cache_clear()
    imports._passed_on.cache_clear()
    return fingerprint(package, sorted(closure(package, "step.py")))


def test_imports_are_followed_through_names_that_a_folder_passes_on(package: Path) -> None:
    # what a name of a folder stands for, not all that is in the folder; messages are ignored
    assert closure(package, "step.py") == {"step.py", "part/used.py", "deep.py"}


@pytest.mark.parametrize("file", ["step.py", "part/used.py", "deep.py"])
def test_an_edit_of_what_is_imported_counts(package: Path, file: str) -> None:
    before = version(package)
    text = (package / file).read_text()
    (package / file).write_text(f'"""Says more."""\n{text}# a comment\n')
    assert version(package) == before
    (package / file).write_text(f"{text}more = 3\n")
    assert version(package) != before


@pytest.mark.parametrize("file", ["part/other.py", "errors.py", "alone.py"])
def test_an_edit_of_anything_else_does_not(package: Path, file: str) -> None:
    before = version(package)
    (package / file).write_text("more = 3\n")
    assert version(package) == before


def test_versions_of_packages_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not their builds, such as +cpu."""
    versions = dict.fromkeys(("torch", "lightning", "kornia", "warp-lang"), "2.13.0")
    monkeypatch.setattr("importlib.metadata.version", lambda name: versions[name])
    found = set()
    for name in versions:
        for version in ("2.13.0", "2.13.0+cpu", "9.9"):
            monkeypatch.setitem(versions, name, version)
            code_version.cache_clear()
            found.add(code_version("lorasub.study.steps.removal"))
        monkeypatch.setitem(versions, name, "2.13.0")
    code_version.cache_clear()
    assert len(found) == 1 + len(versions)


def test_a_fit_depends_on_what_computes_it() -> None:
    found = closure(PACKAGE, TRAINING)
    real = [name for name in COMPUTES if (PACKAGE / name).is_file()]
    assert len(real) > 0.8 * len(COMPUTES)  # files may be moved; most of the examples must be there
    assert set(real) <= found
    assert not found & set(DOES_NOT)
    reader = "lorasub.data.readers.pose_list.PoseList"
    step = "lorasub.study.steps.training"
    assert code_version(step, reader) != code_version(step)
    for name in ("VGGT", "LoRA", "ProjectedLoRA", "PSV", "SyntheticScenes", "PosedRGBD", "GeometryTask"):
        file = Path(inspect.getfile(getattr(lorasub, name))).relative_to(PACKAGE).as_posix()
        assert file in found


def test_what_compares_bases_does_not_count_for_a_basis() -> None:
    mined = closure(PACKAGE, "study/steps/subspaces.py")
    assert {"subspaces/mining.py", "subspaces/irls.py", "subspaces/angles.py", "adapters/folder.py"} <= mined
    assert not {"subspaces/compare.py", "subspaces/held_out.py", "subspaces/separation.py"} & mined
    assert not any(name.startswith(("tasks", "data", "training")) for name in mined)
    assert "subspaces/compare.py" in closure(PACKAGE, "study/steps/comparison.py")


def test_every_exception_has_a_reason_and_a_file() -> None:
    files = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
    for pattern, reason in code.IGNORED.items():
        assert any(code.fnmatchcase(file, pattern) for file in files), pattern
        assert reason


def test_relative_imports_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from . import b\n")
    with pytest.raises(ValueError, match="relative"):
        imports_of(tmp_path / "a.py")
