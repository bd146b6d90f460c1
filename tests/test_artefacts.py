"""Folders of several files: whole, versioned, hashed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from lorasub.artefacts import ArtefactFormat, common_base, json_writer, tensors_writer, write_files
from lorasub.errors import ArtefactError

FORMAT = ArtefactFormat(name="test-thing", noun="thing", version=2, description="thing.json")


def save(folder: Path, value: float) -> Path:
    files = {"thing.safetensors": tensors_writer({"x": torch.tensor([value])}), "more.json": json_writer({"y": value})}
    return FORMAT.write(folder, {"value": value}, files, card="A thing.")


def test_the_description_has_version_and_hashes(tmp_path: Path) -> None:
    save(tmp_path, 1.0)
    content = FORMAT.read(tmp_path)
    assert (content["value"], content["format_version"]) == (1.0, 2)
    for name, found in content["files"].items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == found
    assert set(content["files"]) == {"thing.safetensors", "more.json"}
    assert (tmp_path / "README.md").read_text() == "A thing."


def test_an_error_leaves_the_older_one_whole(tmp_path: Path) -> None:
    save(tmp_path, 1.0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(path: Path) -> None:
        path.write_text("half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_files(tmp_path, {"more.json": json_writer({}), "thing.json": full_disk})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("more.json", b'{"y": 2.0}', "more.json is not the file that thing.json describes"),
        ("more.json", None, "lacks more.json, which thing.json names"),
        ("thing.json", b"{}", "does not describe a thing of lorasub"),
        ("thing.json", b"{", "not valid JSON"),
    ],
)
def test_damage_is_told(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    save(tmp_path, 1.0)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtefactError, match=told):
        FORMAT.read(tmp_path)


def test_another_version_is_refused_and_old_ones_without_hashes_are_read(tmp_path: Path) -> None:
    save(tmp_path, 1.0)
    content = json.loads((tmp_path / "thing.json").read_text())
    (tmp_path / "thing.json").write_text(json.dumps(content | {"format_version": 3}))
    with pytest.raises(ArtefactError, match=r"has format version 3, this lorasub .* reads 2"):
        FORMAT.read(tmp_path)
    del content["files"]
    (tmp_path / "thing.json").write_text(json.dumps(content))
    assert FORMAT.read(tmp_path)["value"] == 1.0
    with pytest.raises(ArtefactError, match="there is no thing at"):
        FORMAT.read(tmp_path / "elsewhere")


def test_base_weights_that_differ_are_named() -> None:
    assert common_base([("a", None), ("b", "x"), ("c", "x")]) == "x"
    assert common_base([("a", None)]) is None
    with pytest.raises(ArtefactError, match="c is of base weights y, b of x"):
        common_base([("a", None), ("b", "x"), ("c", "y")])
