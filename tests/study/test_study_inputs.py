"""A step is known by the content of what its settings name, too."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lorasub.study.inputs as inputs
import lorasub.training
from lorasub.study.artefacts import Workplace
from lorasub.study.graph import Step
from lorasub.study.inputs import content_hash, named_inputs
from lorasub.study.steps.training import write_config


@dataclass(frozen=True)
class Settings:
    config: dict[str, Any]


def key(config: dict[str, Any], content: Callable[[Path], str | None] = content_hash) -> str:
    return Step(kind="fit", name="", spec=Settings(config), named=named_inputs(config, content)).key


def test_a_file_counts_with_its_content(tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"1")
    config = {"model": {"source": str(weights)}}
    first = key(config)
    assert key(config) == first
    weights.write_bytes(b"22")
    assert key(config) != first


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    for name in ("room", "hall"):
        (tmp_path / name / "rgb").mkdir(parents=True)
        (tmp_path / name / "rgb" / "0.png").write_bytes(name.encode())
    return tmp_path


def data(base: Path) -> dict[str, Any]:
    sets = {"hall": {"root": "hall"}}
    return {"class_path": "PosedRGBD", "init_args": {"base_folder": str(base), "root": ["room"], "evaluation": sets}}


@pytest.mark.parametrize("name", ["room", "hall"])
def test_captures_count_with_all_that_is_in_their_folders(captures: Path, name: str) -> None:
    first = key(data(captures))
    assert key(data(captures)) == first
    file = captures / name / "rgb" / "0.png"
    file.write_bytes(b"other")
    changed = key(data(captures))
    assert changed != first
    file.rename(file.with_name("1.png"))
    assert key(data(captures)) not in {first, changed}
    file.with_name("1.png").rename(file)
    assert key(data(captures)) == changed
    (captures / "elsewhere").mkdir()
    (captures / "elsewhere" / "file").touch()
    assert key(data(captures)) == changed


def test_captures_are_found_wherever_they_stand(captures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set(named_inputs(data(captures)))
    assert found == {str(captures / "room"), str(captures / "hall")}
    assert set(named_inputs({"root": str(captures / "room")})) == {str(captures / "room")}
    part = {"parts": {"real": data(captures)}}
    assert set(named_inputs({"data": {"init_args": part}})) == found
    monkeypatch.chdir(captures)
    assert set(named_inputs({"init_args": {"root": "room"}})) == {"room"}


def test_large_folders_count_by_names_sizes_and_times(captures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "READ_WHOLE", 3)
    file = captures / "room" / "rgb" / "0.png"
    first = key(data(captures))
    assert key(data(captures)) == first
    os.utime(file, ns=(1, 1))
    assert key(data(captures)) != first


def test_folders_that_are_no_captures_do_not_count(captures: Path) -> None:
    assert named_inputs({"folder": str(captures), "steps": ["x", {"b": str(captures)}], "n": 3}) == {}
    assert named_inputs({"root": str(captures / "missing"), "text": "a\nb", "long": "x" * 5000}) == {}


def test_code_of_the_user_counts_and_that_of_packages_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "own_readers_of_this_test.py"
    module.write_text("class Reader: pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "own_readers_of_this_test.Reader"
    config = {"format": {"class_path": name}, "model": {"class_path": "lorasub.VGGT"}, "c": {"class_path": "VGGT"}}
    config |= {"optimizer": {"class_path": "torch.optim.AdamW"}, "other": {"class_path": "no_such_package.Thing"}}
    first = named_inputs(config)
    assert set(first) == {name}
    module.write_text("class Reader:\n    pass\n\n\nclass Other: ...\n", encoding="utf-8")
    assert named_inputs(config)[name] != first[name]


def test_a_plan_looks_once_at_what_many_steps_name(captures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    hash_file = inputs.hash_file
    monkeypatch.setattr(inputs, "hash_file", lambda path: (looked.append(path), hash_file(path))[1])
    plans = [functools.cache(content_hash) for _ in range(2)]
    first = [key(data(captures), plans[0]) for _ in range(3)]
    assert len(looked) == 2
    (captures / "room" / "rgb" / "0.png").write_bytes(b"other")
    assert key(data(captures), plans[0]) == first[0]
    assert key(data(captures), plans[1]) not in first


@pytest.mark.parametrize("name", ["1824027446e19758", "1824027446119758", "18240274461e9758"])
def test_a_key_that_reads_as_a_number_stays_a_name(name: str, tmp_path: Path) -> None:
    """Keys are hexadecimal: about one in a thousand is a number to YAML."""
    place = Workplace(folder=tmp_path / "steps" / "pull" / name, root=tmp_path)
    place.folder.mkdir(parents=True)
    data = {"class_path": "SyntheticScenes", "init_args": {"num_scenes": 2, "image_size": 28}}
    model = {"class_path": "GeometryTask", "init_args": {"backbone": {"class_path": "lorasub.ConstantGeometry"}}}
    words = write_config({"model": model, "data": data, "trainer": {"logger": False}}, place)
    prepared = lorasub.training.prepare("test", words)
    assert prepared.data.num_scenes == 2
